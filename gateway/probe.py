"""
Whether a process of the gateway is alive, or takes calls: for health checks of containers and of load balancers.

::

    python -m gateway.probe sip:127.0.0.1:5060               OPTIONS; alive: anything answers, ready: 200
    python -m gateway.probe http://127.0.0.1:8088/healthz    a page; alive: less than 500, ready: 200
    python -m gateway.probe fleet:/run/fleet.sock            a supervisor (fleet.control); alive: it answers

It ends with 0 if the target is alive; with ``--ready`` it has to be ready, which workers and fleets that drain are not.
It is no command of ``gateway``, because it runs every few seconds: it loads nothing but the standard library and takes
a twentieth of the CPU time that the commands take to start.
"""

from __future__ import annotations

import argparse
import http.client
import json
import secrets
import socket
import sys
from collections.abc import Iterator, Sequence
from urllib.parse import SplitResult, urlsplit

RETRANSMISSIONS_S = (0.5, 1.0, 2.0)
"""Timer E over UDP (RFC 3261 section 17.1.2.1), as far as a health check waits."""
_LONGEST_ANSWER = 65_536


def main(arguments: list[str] | None = None) -> int:
    """
    Probe once; return 0 when the process answers as it should.

    The text on standard error says what it answered, or why nothing came. Thread: any; waits for up to 4 s.
    """
    parser = argparse.ArgumentParser(prog="python -m gateway.probe", description=__doc__.strip().partition("\n")[0])
    parser.add_argument(
        "target", help="sip:HOST:PORT, perhaps with ;transport=tcp, http://HOST:PORT/PATH, or fleet:SOCKET"
    )
    parser.add_argument("--ready", action="store_true", help="fail unless it takes calls: only 200 counts")
    given = parser.parse_args(arguments)
    try:
        status = _status(given.target)
    except (OSError, http.client.HTTPException) as error:
        sys.stderr.write(f"{given.target}: no answer: {error}\n")
        return 1
    except ValueError as error:
        parser.error(f"{given.target}: {error}")
    sys.stderr.write(f"{given.target}: {status}\n")
    alive = status < 500 or not given.target.startswith("http:")  # workers and fleets drain with 503
    return 0 if status == 200 or (alive and not given.ready) else 1


def _status(target: str) -> int:
    """
    Ask the target; return the status of its answer.

    Raises:
        OSError: nothing answers.
        ValueError: this is no address that can be asked.
    """
    if target.startswith("sip:"):
        address, _, parameters = target.removeprefix("sip:").partition(";")
        place = _place(urlsplit(f"//{address}"), 5060)
        return options_over_tcp(*place) if parameters == "transport=tcp" else options_over_udp(*place)
    if target.startswith("fleet:"):
        return _fleet(target.removeprefix("fleet:"))
    url = urlsplit(target)
    if url.scheme != "http":
        raise ValueError("give sip:HOST:PORT, http://HOST:PORT/PATH or fleet:SOCKET")
    return _page(*_place(url, 80), url.path or "/")


def _place(url: SplitResult, default_port: int) -> tuple[str, int]:
    if not url.hostname:
        raise ValueError("it names no host")
    return url.hostname, url.port or default_port


def _page(host: str, port: int, path: str) -> int:
    connection = http.client.HTTPConnection(host, port, timeout=sum(RETRANSMISSIONS_S))
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def _fleet(path: str) -> int:
    """Ask a supervisor over its control socket; return 200 when the fleet takes calls, else 503."""
    with socket.socket(socket.AF_UNIX) as control:
        control.settimeout(sum(RETRANSMISSIONS_S))
        control.connect(path)
        control.sendall(b'{"command": "status"}\n')
        answer = b"".join(_first_line(control))
    try:
        told = json.loads(answer)
        return 200 if told["ready"] else 503
    except (ValueError, KeyError, TypeError):
        raise ConnectionError("what answers there is no fleet") from None


def options_over_udp(host: str, port: int, waits_s: Sequence[float] = RETRANSMISSIONS_S) -> int:
    """
    Send OPTIONS over UDP, and again after each wait but the last; return the status of the first answer.

    Raises:
        OSError: nothing came, or something that is not SIP.
    """
    family, _, _, _, remote = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as udp:
        udp.connect(remote)
        request = _options("UDP", udp)
        for limit_s in waits_s:
            udp.send(request)
            udp.settimeout(limit_s)
            try:
                return _code(udp.recv(_LONGEST_ANSWER))
            except TimeoutError:
                continue
    raise TimeoutError(f"not within {sum(waits_s):g} s")


def options_over_tcp(host: str, port: int) -> int:
    """Send OPTIONS over TCP; return the status. Raises ``OSError`` when nothing came."""
    with socket.create_connection((host, port), timeout=sum(RETRANSMISSIONS_S)) as tcp:
        tcp.sendall(_options("TCP", tcp))
        return _code(b"".join(_first_line(tcp)))


def _first_line(stream: socket.socket) -> Iterator[bytes]:
    while data := stream.recv(_LONGEST_ANSWER):
        yield data
        if b"\n" in data:
            return
    raise ConnectionError("the connection was closed")


def _options(transport: str, connected: socket.socket) -> bytes:
    """Return an OPTIONS outside any dialog (RFC 3261 section 11.1) from and to the ends of a socket."""
    local, remote = (_written(end) for end in (connected.getsockname(), connected.getpeername()))
    lines = (
        f"OPTIONS sip:{remote} SIP/2.0",
        f"Via: SIP/2.0/{transport} {local};rport;branch=z9hG4bK{secrets.token_hex(8)}",
        f"From: <sip:probe@{local}>;tag={secrets.token_hex(4)}",
        f"To: <sip:{remote}>",
        f"Call-ID: {secrets.token_hex(8)}",
        *("CSeq: 1 OPTIONS", "Max-Forwards: 70", "Accept: application/sdp", "Content-Length: 0", "", ""),
    )
    return "\r\n".join(lines).encode()


def _written(end: tuple[str, int]) -> str:
    host, port = end[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _code(answer: bytes) -> int:
    words = answer.split(b" ", 2)
    if len(words) < 2 or words[0] != b"SIP/2.0" or not words[1].isdigit():
        raise ConnectionError("what answers there does not speak SIP")
    return int(words[1])


if __name__ == "__main__":
    sys.exit(main())
