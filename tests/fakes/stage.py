"""A call session with fakes on all sides."""

from __future__ import annotations

import asyncio

from gateway.call.events import CallEvent, MediaUp, Planned, Routed
from gateway.call.machine.phase import Phase
from gateway.call.outcome import Outcome
from gateway.call.ports import AgentSetup, Price
from gateway.call.session.session import CallSession
from gateway.call.steps import TalkTo
from gateway.ids import CallId
from tests.fakes.agent import FakeAgent
from tests.fakes.clock import FakeClock
from tests.fakes.leg import FakeLeg
from tests.fakes.playout import FakePlayout
from tests.fakes.recorder import FakeRecorder
from tests.fakes.store import FakeStore
from tests.fakes.tools import FakeTools

CALL = CallId("call")
SOUNDS = {"hello.wav": bytes(1600), "sorry.wav": bytes(3200), "choices.wav": bytes(800)}
ROUTED = Routed(CALL, setup_limit_s=8, max_length_s=600, refusal_code=503)


async def settle() -> None:
    """Let the loop go round until whatever was posted is worked off."""
    for _ in range(12):
        turned = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(turned.set_result, None)
        await turned


class Stage:
    """
    A session with fakes on all sides, running in its own task.

    Args:
        routed: limits of the call.
        price: what used tokens cost.
        planned: the dialplan's steps; None for a call that begins with an agent.
    """

    def __init__(
        self, routed: Routed = ROUTED, price: Price = lambda used: None, planned: Planned | None = None
    ) -> None:
        self.leg = FakeLeg()
        self.agent = FakeAgent()
        self.agents = [self.agent]
        """All that were chosen; ``agent`` and ``tools`` are the last one's."""
        self.chosen: list[str] = []
        self.choice_raises: Exception | None = None
        self.tools = FakeTools()
        self.routed = routed
        self.recorder = FakeRecorder()
        self.playout = FakePlayout()
        self.store = FakeStore()
        self.clock = FakeClock()
        self.session = CallSession(
            call_id=CALL,
            leg=self.leg,
            begins=AgentSetup(self.agent, routed, self.tools, price) if planned is None else planned,
            choose=self.choose,
            sounds=lambda name: SOUNDS[name],
            recorder=self.recorder,
            playout=self.playout,
            store=self.store,
            clock=self.clock,
            first_fields={"from_uri": "sip:alice@192.0.2.1", "route": "hello", "worker": "w1"},
        )
        self.leg.emit = self.session.post
        self.task: asyncio.Task[Outcome] | None = None

    def choose(self, step: TalkTo) -> AgentSetup:
        """Give the step an agent of its own."""
        self.chosen.append(step.agent)
        if self.choice_raises is not None:
            raise self.choice_raises
        if len(self.chosen) > 1:
            self.agent, self.tools = FakeAgent(), FakeTools()
            self.agents.append(self.agent)
        return AgentSetup(self.agent, self.routed, self.tools)

    async def start(self) -> None:
        self.task = asyncio.create_task(self.session.run())
        await settle()

    async def ring(self) -> None:
        self.task = asyncio.create_task(self.session.run())
        await settle()
        assert self.session.phase is Phase.RINGING

    async def prepare(self) -> None:
        """Begin a call that we place: the limits say so."""
        self.task = asyncio.create_task(self.session.run())
        await settle()
        assert self.session.phase is Phase.PREPARING

    async def dial(self) -> None:
        await self.prepare()
        self.clock.advance(0.4)
        self.agent.ready()
        await settle()
        assert self.session.phase is Phase.DIALING

    async def answer(self) -> None:
        await self.ring()
        self.clock.advance(0.4)
        self.agent.ready()
        await settle()
        assert self.session.phase is Phase.ANSWERING

    async def talk(self) -> None:
        await self.answer()
        self.clock.advance(0.1)
        self.session.post(MediaUp(CALL, "PCMU/8000"))
        await settle()
        assert self.session.phase is Phase.ACTIVE

    async def post(self, *events: CallEvent) -> None:
        """Let things happen, one after the other."""
        for event in events:
            self.session.post(event)
            await settle()

    async def end(self) -> Outcome:
        assert self.task is not None
        return await asyncio.wait_for(self.task, 40)
