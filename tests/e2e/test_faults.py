"""
What goes wrong upstream, and what becomes of the call: each row a real call. Run with ``-s`` to see the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.lab.callers.rtp_peer import RtpPeer
from gateway.lab.simulator import SimulatorOptions
from tests.rigs.house import MakeHouse
from tests.rigs.sipp import play
from tests.rigs.sipp_steps import ANSWERED, BYE, EXPECT_BYE, invite, pause, refused

pytestmark = pytest.mark.e2e

RECONNECT = "on_loss: {action: reconnect, give_up_after_s: 3}"


@dataclass(frozen=True)
class Row:
    """
    One fault.

    Attributes:
        fault: what the simulator does.
        hears: what the caller hears, for the table.
        ends: how the SIP side goes: a refusal's code, ``BYE`` of the gateway, or ``stays`` until the caller's own BYE.
        reason: the end reason in the record.
        sessions: upstream sessions that were tried, at least.
        once: nothing is tried again.
        profile: lines of the agent's profile.
    """

    fault: str
    hears: str
    ends: int | str
    reason: str
    sessions: int = 1
    once: bool = True
    profile: str = ""


ROWS = (
    Row("refuse=invalid_api_key", "ringing, then refused", 503, "agent_refused"),
    Row("refuse=invalid_model", "ringing, then refused", 503, "agent_refused"),
    Row("http=401", "ringing, then refused", 503, "agent_refused"),
    Row("http=503", "ringing, then refused", 503, "setup_timeout", sessions=2, once=False),
    Row("http=429:1", "ringing, then refused", 503, "setup_timeout", sessions=2, once=False),
    Row("silent", "ringing, then refused", 503, "setup_timeout"),
    Row("reject=session.update:invalid_value:session.audio", "ringing, then refused", 503, "agent_refused"),
    Row("ignore=instructions", "ringing, then refused", 503, "agent_refused"),
    Row("ignore=audio.output.voice", "another voice", "stays", "caller_hung_up", profile="voice: cedar"),
    Row("close=session.update", "ringing, then refused", 503, "agent_lost", sessions=2, once=False),
    Row("close=1.5", "greeting, then BYE", "BYE", "agent_closed"),
    Row("close=1.5:1011", "greeting, then BYE", "BYE", "agent_lost"),
    Row("drop=1.5", "greeting, then BYE", "BYE", "agent_lost"),
    Row("freeze=1.5", "greeting, silence for 9 s at most, then BYE", "BYE", "agent_lost"),
    Row("server_error=1.5", "greeting, then BYE", "BYE", "agent_lost"),
    Row("server_error=1.5:open", "nothing of it", "stays", "caller_hung_up"),
    Row("twice=response.done", "nothing of it", "stays", "caller_hung_up"),
    Row("unknown_events", "nothing of it", "stays", "caller_hung_up"),
    Row("fail=insufficient_quota", "silence, then BYE", "BYE", "agent_refused"),
    Row("fail=rate_limit_exceeded:1", "the greeting, late", "stays", "caller_hung_up"),
    Row("drop=1.5,first=1", "tone, then the agent again", "stays", "caller_hung_up", 2, once=False, profile=RECONNECT),
    Row("close=1.5,first=1", "tone, then the agent again", "stays", "caller_hung_up", 2, once=False, profile=RECONNECT),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.fault}{' reconnect' if row.profile else ''}")
async def test_a_fault_upstream_has_its_due_end(house: MakeHouse, tmp_path: Path, row: Row) -> None:
    steps = {
        "BYE": (ANSWERED, EXPECT_BYE),
        "stays": (ANSWERED, pause(3000), BYE),
    }.get(str(row.ends)) or (refused(int(row.ends)),)
    options = SimulatorOptions(faults=(row.fault,))
    async with (
        house(simulator=options, profile=row.profile, GATEWAY_CALL__SETUP_LIMIT_S="3") as here,
        RtpPeer() as phone,
    ):
        phone.talk()
        await play(here.port, tmp_path / "sipp", invite(phone.port), *steps)
        end = await here.ended_record()
        retries = [event for event in await here.store.events() if event["event"] == "agent_retry"]
        tried = len(here.simulator.connections)
        violations = [what for each in here.simulator.connections for what in each.violations]
    again = f"{tried - 1} times" if tried > 1 else "no"
    print(f"\n| {row.fault} | {row.hears} | {row.ends} | {end['end_reason']} | {again} | {end.get('end_detail', '')} |")
    assert end["end_reason"] == row.reason
    assert tried >= row.sessions
    assert (tried == 1 and not retries) is row.once
    assert not violations


async def test_an_outage_over_several_calls_is_told_once_and_most_attempts_are_held_back(
    house: MakeHouse, tmp_path: Path
) -> None:
    limits = {"GATEWAY_CALL__SETUP_LIMIT_S": "2", "GATEWAY_REALTIME__BREAKER_LOSSES": "2"}
    async with house("http=503", GATEWAY_REALTIME__RETRY_FIRST_S="0.1", **limits) as here:
        for number in range(3):
            await play(here.port, tmp_path / f"sipp{number}", invite(), refused(503))
        assert await here.end_reasons(3) == ["setup_timeout"] * 3
        end = await here.ended_record()
        (upstream,) = await here.store.upstreams()
        counts = await here.store.counts("outages")
        tried = len(here.simulator.connections)
        told = [line for line in here.gateway.lines if "upstream_away" in line]
    assert "the service is away" in end["end_detail"]
    assert "HTTP 503" in end["end_detail"]
    assert (upstream["state"], upstream["upstream"]) == ("away", "gpt-realtime-2.1")
    assert counts["gpt-realtime-2.1 began"] == len(told) == 1
    assert counts["gpt-realtime-2.1 held_back"] >= 1
    print(f"\n{tried} connections of 3 calls, {counts}")
    assert tried < 12, "two, and probes"
