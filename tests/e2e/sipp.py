"""SIPp as a caller: scenarios put together from steps, run as a process, its messages read back with their times."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

SIPP = "/usr/bin/sipp"
LIMIT_S = 60

_TARGET = "sip:[service]@[remote_ip]:[remote_port] SIP/2.0"
_NEW_BRANCH = "Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]"
_SAME_BRANCH = "[last_Via:]"  # what belongs to the INVITE's transaction: CANCEL, the ACK of a refusal
_HEADERS = """
      {via}
      From: "caller" <sip:caller@[local_ip]:[local_port]>;tag=[pid]SIPpTag[call_number]
      To: <sip:[service]@[remote_ip]:[remote_port]>{to_tag}
      Call-ID: [call_id]
      CSeq: {cseq}
      Contact: <sip:caller@[local_ip]:[local_port];transport=[transport]>
      Max-Forwards: 70
"""


def _message(
    first_line: str,
    cseq: str,
    *,
    via: str = _NEW_BRANCH,
    to_tag: str = "[peer_tag_param]",
    more: str = "",
    body: str = "",
) -> str:
    headers = _HEADERS.format(via=via, to_tag=to_tag, cseq=cseq).strip("\n")
    return f"<![CDATA[\n\n      {first_line}\n{headers}{more}\n      Content-Length: [len]\n\n{body}]]>"


def invite(rtp_port: int = 6000, *, payloads: str = "0 8 101") -> str:
    """An INVITE that offers audio at ``rtp_port``, then 100."""
    body = f"""      v=0
      o=caller 1 1 IN IP4 [local_ip]
      s=-
      c=IN IP4 [local_ip]
      t=0 0
      m=audio {rtp_port} RTP/AVP {payloads}
      a=rtpmap:101 telephone-event/8000
      a=ptime:20
      """
    text = _message(
        f"INVITE {_TARGET}",
        "1 INVITE",
        to_tag="",
        more="\n      Content-Type: application/sdp",
        body=body,
    )
    return f'<send retrans="500">{text}</send>\n<recv response="100" optional="true"/>'


RINGING = '<recv response="180" optional="true"/>'
WAIT_FOR_RINGING = '<recv response="180"/>'
ACK = f"<send>{_message('ACK [next_url] SIP/2.0', '1 ACK')}</send>"
ACK_REFUSAL = f"<send>{_message(f'ACK {_TARGET}', '1 ACK', via=_SAME_BRANCH)}</send>"
ANSWERED = f'{RINGING}\n<recv response="200" rrs="true"/>\n{ACK}'
BYE = f'<send retrans="500">{_message("BYE [next_url] SIP/2.0", "9 BYE")}</send>\n<recv response="200"/>'
CANCEL = (
    f'<send retrans="500">{_message(f"CANCEL {_TARGET}", "1 CANCEL", via=_SAME_BRANCH, to_tag="")}</send>'
    f'\n<recv response="200"/>\n<recv response="487"/>\n{ACK_REFUSAL}'
)


def _response(status: str, more: str = "") -> str:
    return f"""<send><![CDATA[

      SIP/2.0 {status}
      [last_Via:]
      [last_From:]
      [last_To:]
      [last_Call-ID:]
      [last_CSeq:]{more}
      Content-Length: 0

]]></send>"""


EXPECT_BYE = f'<recv request="BYE" timeout="30000"/>\n{_response("200 OK")}'
OPTIONS = f'<send retrans="500">{_message(f"OPTIONS {_TARGET}", "1 OPTIONS", to_tag="")}</send>\n<recv response="200"/>'


def expect_refer(outcome: str, state: str = "terminated;reason=noresource") -> str:
    """
    A REFER that is accepted, and the NOTIFY that tells what came of it, such as ``486 Busy Here`` (RFC 3515).

    Without an outcome the NOTIFY has no body.
    """
    kind = "\n      Content-Type: message/sipfrag" if outcome else ""
    notify = _message(
        "NOTIFY [next_url] SIP/2.0",
        "5 NOTIFY",
        more=f"\n      Event: refer\n      Subscription-State: {state}{kind}",
        body=f"SIP/2.0 {outcome}\n" if outcome else "",
    )
    return f'{accept_refer()}\n<send retrans="500">{notify}</send>\n<recv response="200"/>'


def accept_refer() -> str:
    """A REFER that is accepted, without news of it."""
    contact = "\n      Contact: <sip:caller@[local_ip]:[local_port];transport=[transport]>"
    return f'<recv request="REFER" timeout="30000"/>\n{_response("202 Accepted", contact)}'


def refuse_refer(status: str) -> str:
    """A REFER that is refused, with a status such as ``405 Method Not Allowed``."""
    return f'<recv request="REFER" timeout="30000"/>\n{_response(status)}'


def pause(ms: int) -> str:
    """Wait."""
    return f'<pause milliseconds="{ms}"/>'


def refused(code: int) -> str:
    """A final refusal and its ACK."""
    return f'{RINGING}\n<recv response="{code}"/>\n{ACK_REFUSAL}'


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

    Runs inside the ``async with`` block; ``finish()`` waits for its end and gives the exit code (0: all calls went as
    the scenario says).
    """

    target_port: int
    steps: tuple[str, ...]
    folder: Path
    service: str = "1000"
    calls: int = 1
    at_once: int = 1
    transport: str = "u1"
    port: int = field(default_factory=lambda: free_port())
    messages: list[Message] = field(default_factory=list)
    output: str = ""

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
        self._process = await asyncio.create_subprocess_exec(
            *(SIPP, f"127.0.0.1:{self.target_port}"),
            *(str(word) for pair in words.items() for word in pair),
            *("-trace_msg", "-nostdin", "-nd"),
            cwd=self.folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        self._reading = asyncio.create_task(self._process.communicate())
        if self.transport.startswith("u"):
            await until(lambda: is_bound(self.port, self.transport) or self._reading.done(), what="SIPp to listen")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._reading

    async def finish(self) -> int:
        """Wait for the end; fill ``messages``; return the exit code."""
        async with asyncio.timeout(LIMIT_S + 10):
            printed, _ = await asyncio.shield(self._reading)
        self.output = printed.decode(errors="replace")
        self.messages = read_messages(self._log)
        return self._process.returncode or 0

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


def free_port() -> int:
    """Return a port that neither UDP nor TCP uses now."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            udp.bind(("127.0.0.1", 0))
            port = int(udp.getsockname()[1])
            try:
                tcp.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def is_bound(port: int, transport: str) -> bool:
    """Return whether a port of this machine is taken; ``transport`` as SIPp spells it: ``u1``, ``t1`` and so on."""
    table = Path("/proc/net/udp" if transport.startswith("u") else "/proc/net/tcp").read_text(encoding="ascii")
    return any(line.split()[1].endswith(f":{port:04X}") for line in table.splitlines()[1:])


async def until(condition: object, limit_s: float = 40.0, what: str = "") -> None:
    """Wait until ``condition()`` is true."""
    end = time.monotonic() + limit_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, f"not within {limit_s} s: {what or condition}"
        await asyncio.sleep(0.01)
