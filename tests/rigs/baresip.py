"""baresip as a telephone: a real user agent with its own SIP, SRTP and media, controlled over TCP."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from gateway.audio.wav import read_wav, write_wav
from gateway.child_process import ChildFailed, ChildProcess
from gateway.free_port import free_port
from tests.rigs.waiting import until

BARESIP = "/usr/bin/baresip"
_STARTS = 3
_READY_S = _ORDER_S = 40
_CONFIG = """
sip_listen 127.0.0.1:{sip_port}
call_max_calls 2
audio_source aufile,{audio}
audio_player aubridge,nowhere
audio_alert aubridge,nowhere
ausrc_srate 8000
auplay_srate 8000
ausrc_channels 1
auplay_channels 1
rtp_ports {rtp_port}-{last_rtp_port}
jitter_buffer_delay 2-5
module_path /usr/lib/baresip/modules
module g711.so
module aubridge.so
module aufile.so
module srtp.so
module sndfile.so
snd_path {heard}
module_tmp account.so
module_app menu.so
module_app ctrl_tcp.so
ctrl_tcp_listen 127.0.0.1:{control_port}
"""


@dataclass
class Baresip:
    """
    One baresip process. Inside the ``async with`` block it takes commands.

    Args:
        folder: its configuration goes there.
        account: parameters of its account, such as ``mediaenc=srtp-mand``.
        pcm: what it says, 8 kHz, over and over.
    """

    folder: Path
    account: str
    pcm: bytes
    events: list[dict[str, object]] = field(default_factory=list)
    _orders: int = 0

    async def __aenter__(self) -> Self:
        for attempt in range(1, _STARTS + 1):
            try:
                await self._start()
                return self
            except (ChildFailed, OSError):  # somebody else took a port between our look and its bind
                if attempt == _STARTS:
                    raise
        return self

    async def _start(self) -> None:
        control_port = self._write_configuration()
        self._process = ChildProcess(BARESIP, "-f", str(self.folder), stop_limit_s=_READY_S)
        await self._process.start()
        try:
            await self._process.find("baresip is ready", _READY_S)
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", control_port)
        except BaseException:
            await self._process.stop()
            raise
        self._telling = asyncio.create_task(self._read_events())

    def _write_configuration(self) -> int:
        """Write its files, with ports that are free now; return the one that takes commands."""
        heard = self.folder / "heard"
        heard.mkdir(parents=True, exist_ok=True)
        audio = self.folder / "speech.wav"
        write_wav(audio, 8000, self.pcm)
        sip_port, control_port = free_port(), free_port()
        rtp_port = 28000 + sip_port % 18 * 100  # below the ports that systems give away by themselves
        config = _CONFIG.format(
            sip_port=sip_port,
            control_port=control_port,
            audio=audio,
            heard=heard,
            rtp_port=rtp_port,
            last_rtp_port=rtp_port + 99,
        )
        (self.folder / "config").write_text(config, encoding="utf-8")
        (self.folder / "accounts").write_text(f"<sip:tester@127.0.0.1>;regint=0;{self.account}\n", encoding="utf-8")
        (self.folder / "contacts").write_text("", encoding="utf-8")
        return control_port

    def heard_peak(self) -> int:
        """Return the loudest sample (16 bits) that was heard in the calls so far; to be asked when they are over."""
        files = sorted((self.folder / "heard").glob("*-dec.wav"))
        assert files, self._process.output
        return max(int(np.abs(np.frombuffer(read_wav(file)[1], "<i2").astype(int)).max()) for file in files)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        await self._process.stop()
        await self._telling

    async def order(self, command: str, parameters: str = "") -> None:
        """Send a command, a netstring of JSON, and wait until it is taken."""
        self._orders += 1
        token = f"{command}-{self._orders}"
        text = json.dumps({"command": command, "params": parameters, "token": token}).encode()
        self._writer.write(b"%d:%s," % (len(text), text))
        await self._writer.drain()
        await until(lambda: self._answer(token), limit_s=_ORDER_S, what=f"an answer to {command}")
        answer = self._answer(token)
        assert answer is not None
        assert answer["ok"], f"{answer}\n" + self._process.output

    def _answer(self, token: str) -> dict[str, object] | None:
        return next((event for event in self.events if event.get("token") == token), None)

    def told(self, kind: str) -> list[dict[str, object]]:
        """Return the events of this type so far, such as ``CALL_CLOSED``."""
        return [event for event in self.events if event.get("type") == kind]

    async def _read_events(self) -> None:
        try:
            while True:
                length = int((await self._reader.readuntil(b":"))[:-1])
                self.events.append(json.loads((await self._reader.readexactly(length + 1))[:-1]))
        except (asyncio.IncompleteReadError, ConnectionError):
            return
