"""A filter in the kernel lets one address through."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from gateway.sip.calls.rtp_source import take_only_from

pytestmark = pytest.mark.integration


@pytest.fixture
def sockets() -> Iterator[list[socket.socket]]:
    """RTP and RTCP of ours, the far end's, a stranger's at its address, one at its port."""
    with ExitStack() as ending:
        found = [ending.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(5)]
        for each in found[:4]:
            each.bind(("127.0.0.1", 0))
            each.settimeout(0.5)
        found[4].bind(("127.0.0.2", found[2].getsockname()[1]))
        yield found


def heard(by: socket.socket) -> list[bytes]:
    packets = []
    try:
        while True:
            packets.append(by.recv(100))
    except TimeoutError:
        return packets


def test_rtp_comes_from_address_and_port_and_rtcp_from_the_address(sockets: list[socket.socket]) -> None:
    rtp, rtcp, far_end, neighbour, namesake = sockets
    to = [ours.getsockname() for ours in (rtp, rtcp)]

    def all_send() -> None:
        for who, sender in ((b"far end", far_end), (b"neighbour", neighbour), (b"namesake", namesake)):
            for address in to:
                sender.sendto(who, address)

    all_send()  # waits in the sockets, and is dropped
    take_only_from(far_end.getsockname(), to[0][1], to[1][1])
    all_send()
    assert heard(rtp) == [b"far end"]
    assert heard(rtcp) == [b"far end", b"neighbour"]
    rtp.sendto(b"out", neighbour.getsockname())
    assert heard(neighbour) == [b"out"]
    take_only_from(neighbour.getsockname(), to[0][1], to[1][1])  # after a re-INVITE
    all_send()
    assert heard(rtp) == [b"neighbour"]


def test_a_port_of_nobody_cannot_be_guarded(sockets: list[socket.socket]) -> None:
    port = sockets[0].getsockname()[1]
    sockets[0].close()
    with pytest.raises(OSError, match=f"bound to port {port}"):
        take_only_from(("127.0.0.1", 4000), port, port)
