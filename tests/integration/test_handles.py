"""The count of the library's handles for sockets, under more calls in a second than it has handles for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.fuzz.case import Case, Step
from tests.fuzz.material import request, sdp
from tests.fuzz.play import Player, Target

pytestmark = pytest.mark.integration

ACK, BYE = request("ACK", inside=True).encode(), request("BYE", cseq=2, inside=True).encode()


class Listener(Player):
    """Writes down what INVITEs get."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.answers = Counter[str]()

    def _take_response(self, message: bytes, headers: dict[bytes, bytes]) -> None:
        super()._take_response(message, headers)
        if headers[b"cseq"].endswith(b"INVITE"):
            self.answers[message[8:11].decode()] += 1


@pytest.mark.parametrize(("user", "outcome"), [("refused", "486"), ("1000", "200")])
def test_a_hundred_short_calls_in_a_moment_use_up_no_handles(user: str, outcome: str, tmp_path: Path) -> None:
    invite = request("INVITE", user=user, body=sdp()).encode()
    with Target("off", tmp_path / "log") as target:
        player = Listener(target)
        for number in range(100):
            player.play(Case(str(number), (Step("ask", invite), Step("send", ACK), Step("ask", BYE))))
        player.check_health(call=True)
        player.close()
    assert player.answers[outcome] >= 20
    assert target.process.returncode == 0


def test_orders_to_call_come_too_fast_for_the_handles(tmp_path: Path) -> None:
    with Target("off", tmp_path / "log") as target:
        player = Player(target)
        reply = b"SIP/2.0 486 Busy\r\n%echo%Content-Length: 0\r\n\r\n"
        for number in range(60):
            player.play(Case(str(number), (Step("dial"), Step("reply", reply))))
        player.check_health(call=True)
        player.close()
    assert target.process.returncode == 0
