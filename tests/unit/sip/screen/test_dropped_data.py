"""What is answered to line ends between messages."""

from __future__ import annotations

import pytest

from gateway.sip.screen.dropped_data import pongs_to

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("data", "pongs"),
    [
        (b"\r\n\r\n", 1),
        (b"\r\n\r\n" * 2, 2),
        (b"\r\n\r\n" * 500, 4),
        (b"\r\n", 0),  # an answer to a ping of ours, or the end of a message
        (b"\n\n", 0),
        (b"", 0),
    ],
)
def test_a_ping_draws_a_pong_and_a_pong_nothing(data: bytes, pongs: int) -> None:
    assert pongs_to(data) == b"\r\n" * pongs
