"""How often the text of a message, and of a description in it, is read: once, whoever wants to know what it says."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from gateway.call.events import IncomingInvite, LegClosed
from gateway.settings.sip import TrunkSettings
from gateway.sip.core import message, sdp
from tests.rigs.sip_agent import ring_and_answer, sip_agent
from tests.rigs.sipp import play
from tests.rigs.sipp_steps import ANSWERED, BYE, invite, pause
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration

TRUNKS = {
    "main": TrunkSettings(host="127.0.0.1", country="DE"),
    "other": TrunkSettings(host="127.0.0.1", username="other", password_from="x"),
}


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each start line, and each description, was parsed."""
    counts: Counter[str] = Counter()
    start, sections = message._start, sdp._sections

    def count_message(line: str) -> tuple[str, str, int, str]:
        counts[line] += 1
        return start(line)

    def count_description(text: str) -> list[sdp._Section]:
        counts[text] += 1
        return sections(text)

    monkeypatch.setattr(message, "_start", count_message)
    monkeypatch.setattr(sdp, "_sections", count_description)
    return counts


@pytest.mark.parametrize("trunks", [{}, TRUNKS], ids=["from a stranger", "through a trunk"])
async def test_an_invite_and_a_bye_are_read_once_by_all_who_ask_what_they_say(
    trunks: dict[str, TrunkSettings], parsed: Counter[str], tmp_path: Path
) -> None:
    async with sip_agent(ring_and_answer, trunks=trunks) as here:
        await play(here.port, tmp_path, invite(), ANSWERED, pause(100), BYE)
        await until(lambda: here.seen(LegClosed))
        assert here.seen(IncomingInvite)
    requests = {line.split(" ")[0]: times for line, times in parsed.items() if line.endswith(" SIP/2.0")}
    assert {method: requests[method] for method in ("INVITE", "ACK", "BYE")} == {"INVITE": 1, "ACK": 1, "BYE": 1}
    descriptions = {text: times for text, times in parsed.items() if text.startswith("v=0")}
    # The caller's, what we printed of it for the library, and our answer: each once.
    assert set(descriptions.values()) == {1}
    assert len(descriptions) == 3
