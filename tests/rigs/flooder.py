"""Floods a SIP port with broken INVITEs: ``python flooder.py PORT PER_SECOND SECONDS``; prints how many."""

from __future__ import annotations

import random
import socket
import sys
import time

BODIES = ("v=0\r\nm=audio 1 RTP/AVP 0\r\n", "\x00\xff garbage", "m=audio 99999999 UDP/TLS/RTP/SAVPF 0\r\n", "")
SOURCES = 200


def invite(number: int, dice: random.Random) -> bytes:
    """Return an INVITE that nobody should answer with a call; every third is not even SIP."""
    if number % 3 == 2:
        return dice.randbytes(dice.randrange(1, 600))
    host, body = f"127.0.1.{number % SOURCES + 1}", BODIES[number % len(BODIES)]
    return (
        f"INVITE sip:{dice.randrange(10**9)}@127.0.0.1 SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP {host}:5060;branch=z9hG4bK{dice.getrandbits(60):x};rport\r\n"
        f"From: <sip:x@{host}>;tag={number}\r\nTo: <sip:1@127.0.0.1>\r\nCall-ID: {dice.getrandbits(60):x}\r\n"
        f"CSeq: {'INVITE' if number % 5 == 0 else '1 INVITE'}\r\nMax-Forwards: 70\r\nContact: <sip:x@{host}>\r\n"
        f"Content-Type: application/sdp\r\nContent-Length: {len(body) + number % 2}\r\n\r\n{body}"
    ).encode("latin-1")


def main() -> None:
    """Send at an even pace, from many loopback addresses."""
    port, rate, seconds = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    dice = random.Random(1)
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(20)]
    for number, sock in enumerate(sockets, 1):
        sock.bind((f"127.0.1.{number}", 0))
        sock.setblocking(False)
    sent, began = 0, time.monotonic()
    while (now := time.monotonic() - began) < seconds:
        while sent < now * rate:
            try:
                sockets[sent % len(sockets)].sendto(invite(sent, dice), ("127.0.0.1", port))
            except OSError:
                break
            sent += 1
        time.sleep(0.002)
    sys.stdout.write(f"{sent}\n")


if __name__ == "__main__":
    main()
