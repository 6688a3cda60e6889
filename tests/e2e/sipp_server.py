"""SIPp as the side that is asked: a registrar, or the number beyond a carrier."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.e2e.kamailio import PASSWORD, REALM, USER
from tests.e2e.sipp import LIMIT_S, SIPP, Message, free_port, is_bound, read_messages, until

_COPIED = """[last_Via:]
      [last_From:]
      [last_To:];tag=[call_number]
      [last_Call-ID:]
      [last_CSeq:]"""


def _respond(status: str, *lines: str, body: str = "") -> str:
    more = "".join(f"\n      {line}" for line in lines)
    head = f"SIP/2.0 {status}\n      {_COPIED}{more}\n      Content-Length: [len]"
    return f"<send><![CDATA[\n\n      {head}\n\n{body}]]></send>"


REGISTER = '<recv request="REGISTER"/>'


def register_with(header: str, pattern: str) -> str:
    """A REGISTER one of whose headers must match."""
    check = f'<ereg regexp="{pattern}" search_in="hdr" header="{header}:" check_it="true" assign_to="1"/>'
    return f'<recv request="REGISTER"><action>{check}</action></recv><Reference variables="1"/>'


SIGNED_REGISTER = (
    f'<recv request="REGISTER"><action><verifyauth assign_to="2" username="{USER}" password="{PASSWORD}"/></action>'
    f'</recv><nop test="2" next="7"/>{_respond("403 Forbidden")}<label id="7"/>'
)
"""A REGISTER whose digest must be right; any other is refused."""
CHALLENGE = _respond(
    "401 Unauthorized", f'WWW-Authenticate: Digest realm="{REALM}", nonce="47364c23432d2e131a5fb210812c"'
)


def granted(expires_s: int) -> str:
    """A binding."""
    return _respond("200 OK", f"Contact: <sip:{USER}@127.0.0.1>;expires={expires_s}", f"Expires: {expires_s}")


def refused(status: str, *lines: str) -> str:
    """A failure, with further header lines."""
    return _respond(status, *lines)


def pause(ms: int) -> str:
    """Wait."""
    return f'<pause milliseconds="{ms}"/>'


def answered(rtp_port: int = 6000) -> str:
    """An INVITE that rings and is answered, with its ACK."""
    body = f"""      v=0
      o=callee 1 1 IN IP4 [local_ip]
      s=-
      c=IN IP4 [local_ip]
      t=0 0
      m=audio {rtp_port} RTP/AVP 0
      """
    contact = "Contact: <sip:callee@[local_ip]:[local_port];transport=[transport]>"
    route = "[last_Record-Route:]"
    ringing = _respond("180 Ringing", contact, route)
    ok = _respond("200 OK", contact, route, "Content-Type: application/sdp", body=body)
    return f'<recv request="INVITE" rrs="true"/>{ringing}{ok.replace("<send>", SEND_AGAIN)}<recv request="ACK"/>'


SEND_AGAIN = '<send retrans="500">'
# The To of a BYE has its tag already, and two are no SIP.
EXPECT_BYE = f'<recv request="BYE"/>{_respond("200 OK").replace(";tag=[call_number]", "")}'


@dataclass
class SippServer:
    """One SIPp process that is sent requests and plays the steps once; ``finish()`` waits for its end."""

    steps: tuple[str, ...]
    folder: Path
    port: int = field(default_factory=free_port)
    transport: str = "u1"
    messages: list[Message] = field(default_factory=list)
    output: str = ""

    async def __aenter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        scenario = self.folder / "server.xml"
        steps = "\n".join(self.steps)
        scenario.write_text(
            f'<?xml version="1.0"?>\n<scenario name="server">\n{steps}\n</scenario>\n', encoding="utf-8"
        )
        self._log = self.folder / "server.log"
        self._process = await asyncio.create_subprocess_exec(
            *(SIPP, "-sf", str(scenario), "-i", "127.0.0.1", "-p", str(self.port), "-m", "1", "-t", self.transport),
            *("-timeout", str(LIMIT_S), "-recv_timeout", "20000", "-trace_msg", "-message_file", str(self._log)),
            *("-nostdin", "-nd"),
            cwd=self.folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        self._reading = asyncio.create_task(self._process.communicate())
        await until(lambda: is_bound(self.port, self.transport) or self._reading.done(), what="SIPp to listen")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._reading

    async def finish(self) -> int:
        """Wait for the end; fill ``messages``; return the exit code (0: all went as the scenario says)."""
        async with asyncio.timeout(LIMIT_S + 10):
            printed, _ = await asyncio.shield(self._reading)
        self.output = printed.decode(errors="replace")
        self.messages = self.seen()
        return self._process.returncode or 0

    def seen(self) -> list[Message]:
        """Return the messages so far."""
        return read_messages(self._log)

    def received(self, method: str) -> list[Message]:
        """Return the requests with this method so far."""
        return [message for message in self.seen() if not message.sent and message.first_line.startswith(f"{method} ")]
