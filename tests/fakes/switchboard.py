"""A switchboard whose calls have fakes on all sides, and what its plan says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal

from gateway.audio.pcm import PHONE
from gateway.audio.playout import PlayoutBuffer
from gateway.audio.uplink import UplinkTap
from gateway.call.events import IncomingInvite, Routed
from gateway.call.ports import AgentSetup, SipLeg
from gateway.dialplan.model.agent import AgentProfile
from gateway.dialplan.model.plan import Dialplan
from gateway.dialplan.routing.index import compile_routes
from gateway.ids import CallId
from gateway.settings.cost import CostSettings
from gateway.settings.privacy import PrivacySettings
from gateway.settings.sections import CallSettings
from gateway.store.limits import OnBooked, RouteAdmission, RouteLimits
from gateway.worker.live_plan import PreparedPlan
from gateway.worker.switchboard import DialOrder, PhoneSide, Switchboard
from tests.fakes.agent import FakeAgent
from tests.fakes.clock import FakeClock
from tests.fakes.leg import FakeLeg
from tests.fakes.recorder import FakeRecorder
from tests.fakes.stage import settle
from tests.fakes.store import FakeStore

AGENT: dict[str, Any] = {
    "instructions": "Be kind.",
    "keypad": {"shortcuts": {"0": "sip:desk@192.0.2.7"}, "pause_s": 2, "masked": True},
    "recording": {"mode": "on"},
}
PLAN = Dialplan.model_validate(
    {
        "agents": {"desk": AGENT, "plain": {"instructions": "Be brief."}},
        "routes": [
            {"name": "closed", "match": {"to": "closed"}, "action": "reject", "code": 486, "reason": "Gone home"},
            {
                "name": "short",
                "match": {"to": "short"},
                "limits": {"max_minutes": 2, "calls_per_day": 5, "over": {"action": "reject", "code": 480}},
                "agent": "desk",
            },
            {
                "name": "dear",
                "match": {"to": "dear"},
                "limits": {"max_usd": 0.5, "usd_per_day": 20},
                "agent": "desk",
            },
            {"name": "all", "match": {"to": "/.+/"}, "agent": "desk"},
        ],
    }
)
INVITE = IncomingInvite(
    CallId("c1"), "abc@192.0.2.1", "sip:alice@192.0.2.1", "sip:100@192.0.2.2", "192.0.2.1:5060", trunk="main"
)


class Gate:
    """Lets calls in, or not, once it is open."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.answer = RouteAdmission(admitted=True)
        self.asked: list[tuple[str, str, RouteLimits]] = []
        self.released: list[tuple[CallId, float]] = []
        self.spent: list[tuple[CallId, float]] = []
        self.told: OnBooked = lambda usd, limit: None

    async def admit(self, call_id: CallId, *, route: str, caller: str, day: str, limits: RouteLimits) -> RouteAdmission:
        self.asked.append((route, caller, limits))
        await self.open.wait()
        return self.answer

    def spend(self, call_id: CallId, usd: float, told: OnBooked) -> None:
        self.spent.append((call_id, usd))
        self.told = told

    def release(self, call_id: CallId, seconds: float) -> None:
        self.released.append((call_id, seconds))


class House:
    """A switchboard whose calls have fakes on all sides; it is its own builder, and listens."""

    def __init__(self, privacy: PrivacySettings | None = None, **cost: float) -> None:
        self.store = FakeStore()
        self.gate = Gate()
        self.legs: dict[CallId, FakeLeg] = {}
        self.agents: dict[CallId, FakeAgent] = {}
        self.cast_as: list[tuple[str, Routed]] = []
        self.refused: list[tuple[CallId, int, str]] = []
        self.heard: list[tuple[str, CallId]] = []
        self.fault: Exception | None = None
        self.clock = FakeClock()
        self.switchboard = Switchboard(
            plan=lambda: PreparedPlan(compile_routes(PLAN), "", (), {}, {}, {"bye.wav": bytes(320)}),
            limits=CallSettings(ring_limit_s=20, hold_limit_s=60),
            cost=CostSettings(**cost),
            builder=self,
            gate=self.gate,
            refuse=lambda *refusal: self.refused.append(refusal),
            listeners=self,
            store=self.store,
            clock=self.clock,
            worker="w1",
            trunk_lines={"counted": 3},
            privacy=privacy,
        )

    def begin(self, call_id: CallId, leg: SipLeg) -> None:
        self.heard.append(("begin", call_id))

    def answered(self, call_id: CallId) -> None:
        self.heard.append(("answered", call_id))

    def end(self, call_id: CallId) -> None:
        self.heard.append(("end", call_id))

    def line(self, asked: IncomingInvite | DialOrder, *, may_record: bool) -> PhoneSide:
        if self.fault is not None:
            raise self.fault
        leg = self.legs[asked.call_id] = FakeLeg(asked.call_id, obedient=True)
        leg.emit = self.switchboard.on_event
        recorder = FakeRecorder(asked.call_id) if may_record else None
        return PhoneSide(leg, UplinkTap(capacity_frames=1), PlayoutBuffer(PHONE), recorder)

    def agent_setup(
        self,
        asked: IncomingInvite | DialOrder,
        line: PhoneSide,
        plan: PreparedPlan,
        agent_name: str,
        profile: AgentProfile,
        routed: Routed,
    ) -> AgentSetup:
        self.cast_as.append((agent_name, routed))
        agent = self.agents[asked.call_id] = FakeAgent(asked.call_id, willing=True)
        return AgentSetup(agent, routed, price=lambda used: used["audio_out"] / 10)

    def transfers(self, trunk: str) -> Literal["refer", "refer_or_bridge", "bridge"]:
        return "bridge" if trunk == "main" else "refer"

    def end_of_speech_ms(self, profile: AgentProfile) -> int:
        return 500

    async def routed(self) -> Routed:
        """The limits of the last call."""
        await until(lambda: bool(self.cast_as))
        return self.cast_as[-1][1]


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(20):
        if condition():
            return
        await settle()
    raise AssertionError("it never came to be")
