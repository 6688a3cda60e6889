"""SIPp, caller or callee: scenarios put together from steps, run as a process; its messages read back, with times."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from gateway.child_process import ChildProcess
from gateway.free_port import free_port
from tests.rigs.waiting import until

SIPP = "/usr/bin/sipp"
LIMIT_S = 60
NOBODY = 9
"""The port of a SIPp that is called and calls nobody (discard, RFC 863)."""


@dataclass
class Message:
    """One SIP message of a run; ``at`` in Unix seconds."""

    at: float
    sent: bool
    text: str

    @property
    def first_line(self) -> str:
        return self.text.split("\n", 1)[0].strip()


@dataclass
class Sipp:
    """
    One SIPp process that plays the steps, ``calls`` times, ``at_once`` of them at a time.

    Where the first step expects a request it is the one who is called, and ``target_port`` may be ``NOBODY``. Runs
    inside the ``async with`` block; ``finish()`` waits for its end and gives the exit code (0: all calls went as the
    scenario says).
    """

    target_port: int
    steps: tuple[str, ...]
    folder: Path
    service: str = "1000"
    calls: int = 1
    at_once: int = 1
    transport: str = "u1"
    port: int = field(default_factory=free_port)
    messages: list[Message] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        scenario = self.folder / "scenario.xml"
        steps = "\n".join(self.steps)
        scenario.write_text(f'<?xml version="1.0"?>\n<scenario name="test">\n{steps}\n</scenario>\n', encoding="utf-8")
        self._log = self.folder / "messages.log"
        self._log.unlink(missing_ok=True)
        words = {
            "-sf": scenario,
            "-s": self.service,
            "-i": "127.0.0.1",
            "-p": self.port,
            "-t": self.transport,
            "-m": self.calls,
            "-l": self.at_once,
            "-r": 50,
            "-timeout": LIMIT_S,
            "-message_file": self._log,
            "-recv_timeout": 30000,
        }
        self._process = ChildProcess(
            *(SIPP, f"127.0.0.1:{self.target_port}"),
            *(str(word) for pair in words.items() for word in pair),
            *("-trace_msg", "-nostdin", "-nd"),
            folder=self.folder,
            stop_signal=signal.SIGKILL,
        )
        await self._process.start()
        is_called = self.steps[0].lstrip().startswith("<recv")
        if is_called or self.transport.startswith("u"):  # a caller over TCP listens on no port
            await until(
                lambda: is_bound(self.port, self.transport) or self._process.exit_code is not None,
                what="SIPp to listen",
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._process.stop()

    @property
    def output(self) -> str:
        return self._process.output

    async def finish(self) -> int:
        """Wait for the end; fill ``messages``; return the exit code."""
        code = await self._process.wait(LIMIT_S + 10)
        self.messages = self.seen()
        return code

    def seen(self) -> list[Message]:
        """Return the messages so far."""
        return read_messages(self._log)

    def received(self, method: str) -> list[Message]:
        """Return the requests with this method so far."""
        return [message for message in self.seen() if not message.sent and message.first_line.startswith(f"{method} ")]

    def first(self, start: str) -> Message:
        """Return the first message whose first line begins with ``start``."""
        return next(message for message in self.messages if message.first_line.startswith(start))

    def count(self, start: str) -> int:
        return sum(message.first_line.startswith(start) for message in self.messages)


async def play(target_port: int, folder: Path, *steps: str, **options: object) -> Sipp:
    """Run a scenario to its end and insist that it went as written."""
    async with Sipp(target_port, steps, folder, **options) as sipp:  # type: ignore[arg-type]
        code = await sipp.finish()
    assert code == 0, f"SIPp ended with {code}:\n{sipp.output[-3000:]}\n" + "\n".join(
        f"{message.at:.3f} {'>' if message.sent else '<'} {message.first_line}" for message in sipp.messages
    )
    return sipp


_ENTRY = re.compile(
    r"^-+ (?P<at>\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d\.\d+)\n"
    r"(?P<what>[^\n]*?(?:sent|received)[^\n]*)\n\n(?P<text>.*?)(?=^-{20,} \d{4}|\Z)",
    re.MULTILINE | re.DOTALL,
)


def read_messages(log: Path) -> list[Message]:
    """Read SIPp's message trace."""
    if not log.exists():
        return []
    text = log.read_bytes().decode(errors="replace").replace("\r\n", "\n")
    return [
        Message(datetime.fromisoformat(entry["at"]).timestamp(), "sent" in entry["what"], entry["text"])
        for entry in _ENTRY.finditer(text)
    ]


def is_bound(port: int, transport: str) -> bool:
    """Return whether a port of this machine is taken; ``transport`` as SIPp spells it: ``u1``, ``t1`` and so on."""
    table = Path("/proc/net/udp" if transport.startswith("u") else "/proc/net/tcp").read_text(encoding="ascii")
    return any(line.split()[1].endswith(f":{port:04X}") for line in table.splitlines()[1:])


async def seen_message(folder: Path, start: str) -> Message:
    """Wait for a message in a running SIPp's trace and return it."""
    found: list[Message] = []

    def look() -> bool:
        found[:] = [each for each in read_messages(folder / "messages.log") if each.first_line.startswith(start)]
        return bool(found)

    await until(look, what=start)
    return found[0]


def audio_port(message: Message) -> int:
    """Return the RTP port of the session description in a message."""
    found = re.search(r"^m=audio (\d+)", message.text, re.MULTILINE)
    assert found is not None, message.text
    return int(found.group(1))
