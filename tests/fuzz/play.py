"""Plays cases against the target, and asks it like an honest caller whether all is well."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.fuzz.case import Case, Step
from tests.fuzz.material import request, sdp

ROOT = Path(__file__).parents[2]
ASK_S = 0.3  # for an answer to what is broken: mostly there is none
HONEST_S = 10.0  # for an answer to what is honest; a busy machine is slow
RESTING_S = 20.0  # for lines to come free that broken calls hold
_LINGER_OFF = struct.pack("ii", 1, 0)
_LARGEST = 65000
_NAME = re.compile(rb"%[a-z-]+%")


class Fallen(Exception):
    """The target is dead, or does not do what is owed to an honest caller. Its text tells falls apart."""


class Target:
    """
    A process under fire (``target.py``), running inside the ``with`` block.

    Args:
        srtp: ``off`` or ``optional``.
        log: file for what it says on standard error.
    """

    def __init__(self, srtp: str, log: Path) -> None:
        first = 20000 + os.getpid() % 400 * 100
        settings: dict[str, Any] = {"host": "127.0.0.1", "port": 0, "rtp_port_min": first, "rtp_port_max": first + 98}
        settings |= {"requests_per_second": 100_000, "srtp": srtp, "log_level": 0}
        self.log = log
        with log.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.fuzz.target", json.dumps(settings)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=ROOT,
            )
        assert self.process.stdout
        ready = self.process.stdout.readline().split()
        if not ready:
            raise RuntimeError(f"the target did not start: {log.read_text(errors='replace')}")
        self.port = int(ready[1])
        os.set_blocking(self.process.stdout.fileno(), False)

    def __enter__(self) -> Target:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def dial(self, port: int) -> None:
        """Have it call us."""
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(f"dial:{port}\n".encode())
            self.process.stdin.flush()

    def asked(self) -> list[str]:
        """Return the host names that it would have looked up since the last question."""
        assert self.process.stdout
        lines = (self.process.stdout.read() or b"").decode("latin-1").splitlines()
        return [line.removeprefix("asked ") for line in lines if line.startswith("asked ")]

    def rss_mb(self) -> float:
        """Return its resident memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        found = re.search(r"VmRSS:\s+(\d+)", status)
        return int(found[1]) / 1024 if found else 0.0

    def abort(self) -> None:
        """End it so that it writes where each thread of Python is."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGABRT)
            self.process.wait(20)

    def check_alive(self) -> None:
        """Raise ``Fallen`` when it is dead."""
        if self.process.poll() is not None:
            raise Fallen(cause_of_death(self.process.returncode, self.log))


def cause_of_death(code: int, log: Path) -> str:
    """Say in a line what ended a process: the assertion that failed, or the signal and where Python was."""
    text = log.read_text(encoding="utf-8", errors="replace")
    if found := re.search(r"(\w+\.\w+):(\d+): (\w+): Assertion", text):
        return f"{found[1]}:{found[2]} {found[3]}"
    where = re.search(r"most recent call first\):\n\s+File .*?\"([^\"]*)\", line \d+ in (\w+)", text)
    return f"exit {code}" + (f" in {Path(where[1]).name} {where[2]}" if where else "")


class Player:
    """
    Our side: one SIP port, one pair of media ports, TCP connections.

    Args:
        target: what is played against.
    """

    _numbers = itertools.count(1)

    def __init__(self, target: Target) -> None:
        self.target = target
        self.sip = _bound()
        self.media = _bound()
        self._connection: socket.socket | None = None
        self._idle: list[socket.socket] = []
        self._invite = b""
        self._facts: dict[bytes, bytes] = {}
        self._sources = itertools.cycle(f"127.1.{n // 250}.{n % 250 + 1}" for n in range(2000))

    def close(self) -> None:
        """Close all ports and connections."""
        self._leave()
        self.sip.close()
        self.media.close()

    def play(self, case: Case) -> None:
        """Play a case; raises ``Fallen`` when the target is dead behind it."""
        self._begin()
        for step in case.steps:
            getattr(self, f"_{step.kind}")(step)
        self._hear(0)
        self.target.check_alive()

    def check_health(self, *, call: bool) -> None:
        """Be an honest caller: OPTIONS, and a call with audio. Raises ``Fallen`` where that is not served."""
        self._begin()
        until = time.monotonic() + RESTING_S
        while not self._honest("OPTIONS", "200"):
            self.target.check_alive()
            if time.monotonic() > until:
                raise Fallen("no answer to OPTIONS")
        while call and not self._honest_call():
            self.target.check_alive()
            if time.monotonic() > until:
                raise Fallen("an honest call is not served")
            time.sleep(0.1)
        self.target.check_alive()

    # --- steps ---

    def _send(self, step: Step) -> None:
        self._post(step.data)
        self._hear(0)

    def _ask(self, step: Step) -> None:
        self._post(step.data)
        self._hear(ASK_S, b"SIP/2.0 [2-6]")

    def _dial(self, _step: Step) -> None:
        self._invite = b""
        self.target.dial(self.sip.getsockname()[1])
        self._hear(4 * ASK_S, b"INVITE ")

    def _reply(self, step: Step) -> None:
        if self._invite:
            self._send(step)

    def _rtp(self, step: Step, above: int = 0) -> None:
        port = int(self._facts.get(b"%rtp%", b"0"))
        if port:
            with contextlib.suppress(OSError):
                self.media.sendto(step.data, ("127.0.0.1", port + above))

    def _rtcp(self, step: Step) -> None:
        self._rtp(step, above=1)

    def _connect(self, _step: Step) -> None:
        if self._connection is not None:
            self._idle.append(self._connection)
            self._connection = None
        with contextlib.suppress(OSError):
            address = ("127.0.0.1", self.target.port)
            self._connection = socket.create_connection(address, 2, source_address=(next(self._sources), 0))

    def _write(self, step: Step) -> None:
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.sendall(self._filled(step.data))

    def _close(self, _step: Step) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _reset(self, step: Step) -> None:
        if self._connection is not None:
            self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_OFF)
        self._close(step)

    def _wait(self, step: Step) -> None:
        time.sleep(min(int(step.data or b"0"), 5000) / 1000)

    def _post(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # too long for a datagram
            self.sip.sendto(self._filled(data)[:_LARGEST], ("127.0.0.1", self.target.port))

    # --- what is known only now ---

    def _leave(self) -> None:
        self._close(Step("close"))
        while self._idle:
            self._idle.pop().close()

    def _begin(self) -> None:
        self._leave()
        self._invite = b""
        self._facts = {
            b"%id%": f"{os.getpid()}.{next(self._numbers)}.{time.monotonic_ns()}".encode(),
            b"%port%": str(self.target.port).encode(),
            b"%sip%": str(self.sip.getsockname()[1]).encode(),
            b"%media%": str(self.media.getsockname()[1]).encode(),
            b"%rseq%": b"1",
        }

    def _filled(self, data: bytes) -> bytes:
        self._facts[b"%new%"] = f"{next(self._numbers)}.{time.monotonic_ns()}".encode()
        data = _NAME.sub(lambda found: self._fact(found[0]), data)
        return data.replace(b"%length%", str(len(data.partition(b"\r\n\r\n")[2])).encode())

    def _fact(self, name: bytes) -> bytes:
        if name in (b"%tag%", b"%length%", b"%echo%"):
            return self._facts.get(name, b"" if name == b"%tag%" else name)
        return self._facts.get(name, name)

    # --- what the target says ---

    def _hear(self, limit_s: float, until: bytes = b"") -> bytes:
        """Take what comes, for so long or until a message that begins so; return that, or nothing."""
        end = time.monotonic() + limit_s
        while True:
            left = max(0.0, end - time.monotonic())
            if not select.select((self.sip,), (), (), left)[0]:
                if left == 0.0 or self.target.process.poll() is not None:
                    return b""
                continue
            with contextlib.suppress(OSError):
                message = self.sip.recv(_LARGEST)
                self._take(message)
                if until and re.match(until, message) and self._belongs_here(message):
                    return message

    def _belongs_here(self, message: bytes) -> bool:
        """Whether it is of this case and no late answer to an older one."""
        theirs = self._facts.get(b"%their-id%")
        return self._facts[b"%id%"] in message or (theirs is not None and theirs in message)

    def _take(self, message: bytes) -> None:
        lines = message.partition(b"\r\n\r\n")[0].split(b"\r\n")
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])
        }
        if message.startswith(b"SIP/2.0 "):
            self._take_response(message, headers)
        elif message.startswith(b"INVITE ") and b";tag=" not in headers.get(b"to", b""):
            self._take_invite(message, headers)
        elif not message.startswith(b"ACK "):
            self._respond(message, b"200 OK")

    def _take_response(self, message: bytes, headers: dict[bytes, bytes]) -> None:
        if headers.get(b"call-id") != self._facts[b"%id%"]:
            return
        if found := re.search(rb"(;tag=[^;\s]+)", headers.get(b"to", b"")):
            self._facts[b"%tag%"] = found[1]
        if found := re.search(rb"\r\nm=audio (\d+)", message):
            self._facts[b"%rtp%"] = found[1]
        self._facts[b"%rseq%"] = headers.get(b"rseq", self._facts[b"%rseq%"])

    def _take_invite(self, message: bytes, headers: dict[bytes, bytes]) -> None:
        if self._invite and headers.get(b"call-id") == self._facts.get(b"%their-id%"):
            return  # again the one that is being answered
        self._invite = message
        theirs = headers.get(b"to", b"") + b";tag=c" + self._facts[b"%id%"]
        self._facts |= {
            b"%echo%": _echo(message, theirs),
            b"%their-id%": headers.get(b"call-id", b""),
            b"%their-from%": headers.get(b"from", b""),
            b"%their-to%": theirs,
        }
        if b"sip:second@" in message or b"sip:elsewhere@" in message:
            body = self._filled(sdp().encode())
            self._respond(message, b"200 OK", to=theirs, body=body)

    def _respond(self, message: bytes, status: bytes, *, to: bytes = b"", body: bytes = b"") -> None:
        contact = b"Contact: <sip:callee@127.0.0.1:%d>\r\n" % self.sip.getsockname()[1]
        kind = b"Content-Type: application/sdp\r\n" if body else b""
        head = b"SIP/2.0 %s\r\n%s%s%sContent-Length: %d\r\n\r\n" % (
            status,
            _echo(message, to),
            contact,
            kind,
            len(body),
        )
        self.sip.sendto(head + body, ("127.0.0.1", self.target.port))

    # --- honest ---

    def _honest(self, method: str, code: str, **more: Any) -> bytes:
        # One at a time, and a fresh call: what is answered late belongs to an older question.
        if method in ("OPTIONS", "INVITE"):
            self._begin()
        self._post(request(method, **more).encode())
        until, wanted = time.monotonic() + HONEST_S, f"SIP/2.0 {code}".encode()
        while time.monotonic() < until:
            if message := self._hear(0.5, b"SIP/2.0 [2-6]"):
                return message if message.startswith(wanted) else b""
            self.target.check_alive()
        return b""

    def _honest_call(self) -> bool:
        if not self._honest("INVITE", "200", body=sdp()):
            return False
        self._post(request("ACK", inside=True).encode())
        while select.select((self.media,), (), (), 0)[0]:
            self.media.recv(_LARGEST)
        heard = bool(select.select((self.media,), (), (), HONEST_S)[0])
        return bool(self._honest("BYE", "200", cseq=2, inside=True)) and heard


def _echo(message: bytes, to: bytes = b"") -> bytes:
    """Return the header lines of a request that its response repeats (RFC 3261 section 8.2.6.2)."""
    head = message.partition(b"\r\n\r\n")[0]
    lines = re.findall(rb"^(?:Via|From|To|Call-ID|CSeq)[ \t]*:[^\r\n]*", head, re.MULTILINE | re.IGNORECASE)
    return b"".join((b"To: " + to if to and line[:2].lower() == b"to" else line) + b"\r\n" for line in lines)


def _bound() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return sock
