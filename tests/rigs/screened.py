"""A user agent behind the screen (``screened_agent.py``, a process of its own), and a socket that speaks SIP to it."""

from __future__ import annotations

import json
import random
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

ROOT = Path(__file__).parents[2]
PLAIN = "m=audio 7000 RTP/AVP 0 8\r\n"
DTLS = "m=audio 7000 UDP/TLS/RTP/SAVPF 0\r\na=fingerprint:sha-256 AB:CD\r\na=setup:actpass\r\n"
KEY = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVoxMjM0\r\n"


def sdp(media: str = PLAIN, address: str = "127.0.0.1") -> str:
    return f"v=0\r\no=- 1 1 IN IP4 {address}\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\n{media}"


class HasPort(Protocol):
    """What listens for SIP on a port of 127.0.0.1."""

    @property
    def port(self) -> int: ...


@dataclass
class Target:
    """The process behind the screen."""

    process: subprocess.Popen[str]
    port: int
    tls_port: int
    counts: dict[str, float] = field(default_factory=dict)

    def alive(self, source: str = "127.0.0.1") -> bool:
        with caller(self, source) as probe:
            return self.process.poll() is None and probe.ask(probe.request("OPTIONS")).startswith("SIP/2.0 200")


@dataclass
class Caller:
    """A UDP socket that speaks SIP."""

    target: Target
    sock: socket.socket
    call_id: str = field(default_factory=lambda: f"{random.getrandbits(60):x}")

    def request(
        self, method: str, *, cseq: int = 1, to_tag: str = "", branch: str = "", more: str = "", body: str = ""
    ) -> str:
        host, port = self.sock.getsockname()
        kind = "Content-Type: application/sdp\r\n" if body else ""
        tag = f";tag={to_tag}" if to_tag else ""
        return (
            f"{method} sip:1000@127.0.0.1:{self.target.port} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {host}:{port};branch=z9hG4bK{branch or f'{random.getrandbits(60):x}'};rport\r\n"
            f"Max-Forwards: 70\r\nFrom: <sip:caller@{host}>;tag=here\r\nTo: <sip:1000@127.0.0.1>{tag}\r\n"
            f"Call-ID: {self.call_id}\r\nCSeq: {cseq} {method}\r\nContact: <sip:caller@{host}:{port}>\r\n"
            f"{more}{kind}Content-Length: {len(body)}\r\n\r\n{body}"
        )

    def send(self, text: str | bytes) -> None:
        data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
        self.sock.sendto(data, ("127.0.0.1", self.target.port))

    def receive(self, limit_s: float = 5) -> str:
        """Return the next message that is no 1xx; nothing when none came."""
        until = time.monotonic() + limit_s
        while (left := until - time.monotonic()) > 0:
            self.sock.settimeout(left)
            try:
                text = self.sock.recv(65535).decode()
            except TimeoutError:
                break
            if not text.startswith("SIP/2.0 1"):
                return text
        return ""

    def ask(self, text: str, limit_s: float = 5) -> str:
        """Send a request and return its final answer, not another's that is sent again; nothing when none came."""
        mine = re.findall(r"^(?:Call-ID|CSeq): .*$", text, re.MULTILINE)
        until = time.monotonic() + limit_s
        self.send(text)
        while answer := self.receive(until - time.monotonic()):
            if len(mine) != 2 or not answer.startswith("SIP/2.0 ") or all(line in answer for line in mine):
                break
        return answer

    def call(self, body: str = "", more: str = "") -> str:
        """Place a call and return the To tag of the one that answered."""
        answer = self.ask(self.request("INVITE", branch=self.call_id, body=body or sdp(), more=more))
        assert answer.startswith("SIP/2.0 200"), answer
        tag = tag_of(answer)
        self.send(self.request("ACK", to_tag=tag))
        return tag


def tag_of(answer: str) -> str:
    found = re.search(r"^To:.*;tag=([^\s;]+)", answer, re.MULTILINE)
    assert found, answer
    return found[1]


@contextmanager
def caller(target: Target | HasPort, address: str = "127.0.0.1") -> Iterator[Caller]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((address, 0))
        yield Caller(cast("Target", target), sock)


@contextmanager
def screened(sip: dict[str, Any] | None = None, **given: Any) -> Iterator[Target]:
    settings = json.dumps({"sip": {"requests_per_second": 10_000, **(sip or {})}, **given})
    with subprocess.Popen(
        [sys.executable, "-m", "tests.rigs.screened_agent", settings],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stdin
        assert process.stdout
        port, tls_port = process.stdout.readline().split()
        target = Target(process, int(port), int(tls_port))
        try:
            yield target
        finally:
            process.stdin.close()
            last = process.stdout.read().strip().split("\n")[-1]
            process.wait(20)
        assert process.returncode == 0
        target.counts.update(json.loads(last))
