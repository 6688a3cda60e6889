"""An outage over several calls of a worker: the breaker they share holds their attempts back, and lets them go on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from gateway.call.events import AgentAway, AgentBack, AgentReady
from gateway.dialplan.model.agent import AgentProfile
from gateway.errors import AgentLost
from gateway.lab.simulator import Simulator, SimulatorOptions
from gateway.upstream import sessions as succession
from gateway.upstream.core.breaker import AttemptResult, Breaker, ConnectAttempt, HeldBack, UpstreamAway, UpstreamBack
from gateway.upstream.realtime.wire.session import SessionConfig
from tests.fakes.realtime_service import Call, calling, make_ready, serving, until_closed
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration

FASTER = 20
"""The breaker's clock runs so much faster than ours: its delays of seconds take milliseconds."""
COMING_BACK = AgentProfile.model_validate(
    {"instructions": "Be brief.", "on_loss": {"action": "reconnect", "give_up_after_s": 60}}
)


@pytest.fixture(autouse=True)
def they_look_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(succession, "HELD_BACK_S", 2.0 / FASTER)


class Shared:
    """What the calls of a worker share."""

    def __init__(self, losses: int = 5, faster: int = FASTER) -> None:
        self.reports: list[UpstreamAway | UpstreamBack | HeldBack] = []
        self.breaker = Breaker(lambda: time.monotonic() * faster, losses, report=self.reports.append)

    def count(self, kind: type[Any]) -> int:
        return sum(isinstance(report, kind) for report in self.reports)

    @asynccontextmanager
    async def calls(self, url: str, number: int, **given: Any) -> AsyncIterator[list[Call]]:
        async with AsyncExitStack() as stack:
            more = {"breaker": self.breaker}
            yield [await stack.enter_async_context(calling(url, more=more, **given)) for _ in range(number)]


async def test_before_the_answer_calls_wait_for_a_probe_instead_of_connecting() -> None:
    shared, away = Shared(), 9
    async with (
        Simulator(SimulatorOptions(faults=(f"http=503,first={away}",))) as simulator,
        shared.calls(simulator.url, 4) as calls,
    ):
        for call in calls:
            assert isinstance(await call.event(), AgentReady)
        connections = len(simulator.connections)
        told = [retry["detail"] for call in calls for retry in call.noted("agent_retry")]

    assert connections == away + len(calls)
    assert (shared.count(UpstreamAway), shared.count(UpstreamBack)) == (1, 1)
    back = next(report for report in shared.reports if isinstance(report, UpstreamBack))
    assert back.probes > 0
    assert back.held_back == shared.count(HeldBack) > 0
    held = [detail for detail in told if "no attempt was made" in detail]
    assert held
    assert all("HTTP 503" in detail for detail in held), "the cause is told too"


async def test_calls_that_lost_their_sessions_come_back_after_one_probe() -> None:
    shared = Shared()
    async with AsyncExitStack() as first:
        simulator = await first.enter_async_context(Simulator(SimulatorOptions()))
        port = simulator.port
        async with shared.calls(simulator.url, 3, profile=COMING_BACK) as calls:
            for call in calls:
                await call.first(AgentReady)
            await first.aclose()
            await until(lambda: shared.count(HeldBack) > 3)
            async with Simulator(SimulatorOptions(port=port)) as again:
                for call in calls:
                    await call.first(AgentAway)
                    await call.first(AgentBack)
                assert [each.violations for each in again.connections] == [[]] * 3

    assert (shared.count(UpstreamAway), shared.count(UpstreamBack)) == (1, 1)


async def test_a_call_that_is_held_back_tells_so_once_and_can_be_closed_at_any_moment() -> None:
    shared = Shared(losses=1, faster=1)
    open_up(shared.breaker)
    async with serving(until_closed) as url, shared.calls(url, 1) as (call,):
        await until(lambda: shared.count(HeldBack) > 5)

        assert len(call.noted("agent_retry")) == 1
        assert call.events == []


def open_up(breaker: Breaker) -> None:
    """Open a breaker that opens at the first loss; no probe is due for the time of a test."""
    attempt = breaker.admit()
    assert isinstance(attempt, ConnectAttempt)
    breaker.settle(attempt, AttemptResult.LOST, "gone", retry_after_s=30)


class NoMinter:
    """Cannot mint a key."""

    def __init__(self) -> None:
        self.asked = 0

    async def mint(self, session: SessionConfig, **_given: Any) -> Any:
        self.asked += 1
        await asyncio.sleep(0)
        raise AgentLost("cannot reach the service to mint a client secret")


async def test_client_secrets_that_cannot_be_minted_are_lost_attempts_and_held_back_too() -> None:
    shared, minter = Shared(), NoMinter()
    profile = AgentProfile(instructions="Be brief.", client_secret=True)
    more = {"breaker": shared.breaker, "minter": minter}
    async with calling("ws://127.0.0.1:9/", profile=profile, more=more):
        await until(lambda: shared.count(HeldBack) > 0)

    away = next(report for report in shared.reports if isinstance(report, UpstreamAway))
    assert away.detail == "cannot reach the service to mint a client secret"


async def test_a_roll_over_is_held_back_too() -> None:
    shared = Shared(losses=1, faster=1)

    async def script(socket: Any) -> None:
        await make_ready(socket, expires_at=int(time.time() + 4))
        await until_closed(socket)

    profile = AgentProfile(instructions="Be brief.", roll_over=True)
    times = {"roll_over_before_s": 3.5, "expiry_goodbye_s": 0.5}
    async with serving(script) as url, shared.calls(url, 1, profile=profile, **times) as (call,):
        await call.first(AgentReady)
        await asyncio.sleep(0.1)  # the breaker is told a moment later
        open_up(shared.breaker)

        assert "no attempt was made" in (await call.note("agent_retry"))["detail"]


async def test_refusals_open_no_breaker() -> None:
    shared = Shared(losses=1)
    async with Simulator(SimulatorOptions(faults=("refuse=invalid_api_key",))) as simulator:
        async with shared.calls(simulator.url, 3) as calls:
            for call in calls:
                await call.error()
        assert len(simulator.connections) == 3

    assert shared.reports == []


async def test_a_service_that_takes_connections_and_says_nothing_is_found_out_by_those_who_give_up() -> None:
    shared = Shared(losses=2)
    async with serving(until_closed) as url:
        for _ in range(2):
            async with shared.calls(url, 1):
                await asyncio.sleep(0.5)  # ten seconds by the breaker's clock

    assert shared.count(UpstreamAway) == 1
