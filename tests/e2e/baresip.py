"""baresip as a telephone: a real user agent with its own SIP, SRTP and media, controlled over TCP."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from gateway.audio.wav import write_wav
from tests.e2e.sipp import free_port, until

BARESIP = "/usr/bin/baresip"
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
    output: list[str] = field(default_factory=list)
    events: list[dict[str, object]] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        audio = self.folder / "speech.wav"
        write_wav(audio, 8000, self.pcm)
        control_port, rtp_port = free_port(), free_port() // 2 * 2 % 20000 + 40000
        config = _CONFIG.format(
            sip_port=free_port(),
            control_port=control_port,
            audio=audio,
            rtp_port=rtp_port,
            last_rtp_port=rtp_port + 20,
        )
        (self.folder / "config").write_text(config, encoding="utf-8")
        (self.folder / "accounts").write_text(f"<sip:tester@127.0.0.1>;regint=0;{self.account}\n", encoding="utf-8")
        (self.folder / "contacts").write_text("", encoding="utf-8")
        self._process = await asyncio.create_subprocess_exec(
            *(BARESIP, "-f", str(self.folder)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        self._printing = asyncio.create_task(self._read_output())
        try:
            await until(self._is_ready, limit_s=30, what="baresip")
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", control_port)
        except BaseException:
            self._process.kill()
            await self._printing
            await self._process.wait()
            raise
        self._telling = asyncio.create_task(self._read_events())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        if self._process.returncode is None:
            self._process.terminate()
        try:
            async with asyncio.timeout(5):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
        await asyncio.gather(self._printing, self._telling)
        await self._process.wait()

    def _is_ready(self) -> bool:
        assert self._process.returncode is None, "\n".join(self.output)
        return any("baresip is ready" in line for line in self.output)

    async def order(self, command: str, parameters: str = "") -> None:
        """Send a command: a netstring of JSON."""
        text = json.dumps({"command": command, "params": parameters, "token": command}).encode()
        self._writer.write(b"%d:%s," % (len(text), text))
        await self._writer.drain()

    async def _read_output(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.output.append(line.decode(errors="replace").rstrip())

    async def _read_events(self) -> None:
        try:
            while True:
                length = int((await self._reader.readuntil(b":"))[:-1])
                self.events.append(json.loads((await self._reader.readexactly(length + 1))[:-1]))
        except (asyncio.IncompleteReadError, ConnectionError):
            return
