"""
The calls of one worker: an INVITE, or an order to call, becomes a call session; later events go to their session.

The SIP thread's events arrive in ``on_event``. An INVITE is matched against the dialplan in force and, unless that
rejects it, gets a task of its own, which asks the limits of its route (Redis, so it may wait), makes the call's parts
and runs its session to the end. What happens to the call before it has a session is kept and handed over then.
``dial`` does the same for a call that we place, which has an agent instead of a route.

``command`` hands an operator's command to the call it is about and waits for the answer; a call that ends first refuses
what is not answered.

``_run`` is where every call ends, however it ends: it catches what a session raises, so that one call's fault does not
touch another, forgets the call, and gives its place in the limits back. A call that gets no session is refused with a
SIP status, and written down as refused.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Container, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Literal, Protocol

import structlog

from gateway.audio.playout import PlayoutBuffer
from gateway.audio.uplink import UplinkTap
from gateway.call.actions import AnswerCommand
from gateway.call.commands import CommandGiven
from gateway.call.end_reasons import fault_of
from gateway.call.events import CallEvent, IncomingInvite, MediaUp, Planned, Routed, Scalar, StopAsked
from gateway.call.outcome import EndReason, Outcome
from gateway.call.ports import AgentSetup, Choose, Clock, Recorder, SessionStore, SipLeg, Sounds
from gateway.call.session.session import CallSession, no_agents, no_sounds
from gateway.call.steps import Step, TalkTo
from gateway.cost.budget import own_ceiling
from gateway.dialplan.model.agent import AgentProfile
from gateway.dialplan.model.rule import Limits
from gateway.dialplan.model.templates import TemplateFailed, Values
from gateway.dialplan.routing.call_facts import facts_of
from gateway.dialplan.routing.route import Rejection, Route, find_route
from gateway.errors import ConfigError
from gateway.ids import CallId, new_call_id
from gateway.logs import bind_call
from gateway.settings.cost import CostSettings
from gateway.settings.privacy import PrivacySettings
from gateway.settings.sections import CallSettings
from gateway.store.limits import Caps, OnBooked, RouteAdmission, RouteLimits
from gateway.worker.budget import CallBudget
from gateway.worker.compile import CompiledSteps, compile_steps, talk_with
from gateway.worker.live_plan import PreparedPlan

_log = structlog.get_logger(__name__)

OUTBOUND = "outbound:"
"""In the place of a route, for the limits of calls that we place; no name of a route has a colon."""
_LEAST_S = 1.0  # a call whose minutes run out as it begins


@dataclass(frozen=True, slots=True)
class DialOrder:
    """
    An order to place a call.

    Attributes:
        target: number, or SIP or tel URI.
        agent_name: the dialplan's agent that speaks once the call is answered.
        trunk: name of the trunk it goes through; empty for a SIP URI that is called directly.
        caller_id: the number we call as; empty takes the trunk's.
        call_id: our id of the call.
    """

    target: str
    agent_name: str
    trunk: str = ""
    caller_id: str = ""
    call_id: CallId = field(default_factory=lambda: new_call_id(time.time_ns()))


@dataclass(slots=True)
class PhoneSide:
    """
    The telephone's side of one call.

    Attributes:
        leg: the SIP side; of a ``DialOrder``, one that waits for ``dial``.
        uplink: the caller's voice.
        playout: speech and sounds on their way to the caller.
        recorder: None when nothing of the call may be recorded.
        route: name of the route that decided about the call; empty for a call that we place.
        agents: how many agents have been made for it.
    """

    leg: SipLeg
    uplink: UplinkTap
    playout: PlayoutBuffer
    recorder: Recorder | None = None
    route: str = ""
    agents: int = 0


class Builder(Protocol):
    """Makes what a session needs from outside: ``worker/build.py``."""

    def line(self, asked: IncomingInvite | DialOrder, *, may_record: bool) -> PhoneSide:
        """Make the telephone's side of a call."""

    def agent_setup(
        self,
        asked: IncomingInvite | DialOrder,
        line: PhoneSide,
        plan: PreparedPlan,
        agent_name: str,
        profile: AgentProfile,
        routed: Routed,
    ) -> AgentSetup:
        """Make an agent that speaks on a line."""

    def transfers(self, trunk: str) -> Literal["refer", "refer_or_bridge", "bridge"]:
        """Return how calls of a trunk are transferred."""

    def end_of_speech_ms(self, profile: AgentProfile) -> int:
        """Return the silence, in milliseconds, after which the agent's voice model reports the end of a sound."""


class CallLimits(Protocol):
    """Counts what routes limit: ``store/limits.py``."""

    async def admit(self, call_id: CallId, *, route: str, caller: str, day: str, limits: RouteLimits) -> RouteAdmission:
        """Book a call, or say which limit it would exceed."""

    def spend(self, call_id: CallId, usd: float, told: OnBooked) -> None:
        """Count what a booked call has cost so far, and book more of the day's money when it needs that."""

    def release(self, call_id: CallId, seconds: float) -> None:
        """Count a call that ended, ``seconds`` after its answer; nothing happens for one that was not booked."""


class Listeners(Protocol):
    """Those who listen to calls: ``worker/listening.py``."""

    def begin(self, call_id: CallId, leg: SipLeg) -> None:
        """Know a call from now on."""

    def answered(self, call_id: CallId) -> None:
        """Count the call's time from now on; nothing happens the second time."""

    def end(self, call_id: CallId) -> None:
        """Forget a call; nothing happens for one that is not known."""


class Switchboard:
    """
    The calls of one worker. Thread: loop.

    Args:
        plan: gives the dialplan in force; a call keeps the one it began with.
        limits: limits of every call, refusal code.
        cost: what may be spent, over all routes.
        builder: makes the parts of a call.
        gate: counts what routes limit.
        refuse: ends a call that gets no session with a SIP status and a reason phrase.
        listeners: told of each call that can be listened to.
        store: where sessions are written.
        clock: time.
        worker: name of this worker, for the records.
        trunk_lines: trunks whose calls in are counted over all workers -> the most at once.
        privacy: of which routes no call is recorded.
        traced_trunks: trunks whose INVITEs may say which trace they continue.

    Attributes:
        capacity: calls this worker holds at once; what the load is a share of.
        paused: no new calls are taken for the moment, because an operator wants it.
        on_calls: takes the number of calls, those on their way to a session too, whenever it changes.
    """

    def __init__(
        self,
        *,
        plan: Callable[[], PreparedPlan],
        limits: CallSettings,
        cost: CostSettings,
        builder: Builder,
        gate: CallLimits,
        refuse: Callable[[CallId, int, str], None],
        listeners: Listeners,
        store: SessionStore,
        clock: Clock,
        worker: str,
        trunk_lines: Mapping[str, int] = MappingProxyType({}),
        privacy: PrivacySettings | None = None,
        traced_trunks: Container[str] = (),
    ) -> None:
        self._plan = plan
        self._limits = limits
        self._cost = cost
        self._builder = builder
        self._gate = gate
        self._refuse = refuse
        self._listeners = listeners
        self._store = store
        self._clock = clock
        self._worker = worker
        self._trunk_lines = trunk_lines
        self._privacy = privacy or PrivacySettings()
        self._traced_trunks = traced_trunks
        self._sessions: dict[CallId, CallSession] = {}
        self._waiting: dict[CallId, list[CallEvent]] = {}  # calls that wait for the gate, and what happened to them
        self._answered: dict[CallId, float] = {}  # monotonic seconds
        self._tasks: set[asyncio.Task[Outcome]] = set()
        self._commands: dict[str, tuple[CallId, asyncio.Future[AnswerCommand]]] = {}  # that wait for their answers
        self._draining = False
        self.paused = False
        self.capacity = 1
        self.on_calls: Callable[[int], None] = lambda calls: None

    @property
    def live_calls(self) -> int:
        """How many calls have a session now."""
        return len(self._sessions)

    @property
    def is_busy(self) -> bool:
        """Whether any call is up, or on its way to a session."""
        return bool(self._tasks)

    @property
    def is_full(self) -> bool:
        """Whether there is no line for another call."""
        return len(self._tasks) >= self.capacity

    @property
    def takes_calls(self) -> bool:
        """Whether new calls are taken, if there is a line for them."""
        return not (self._draining or self.paused)

    def knows(self, call_id: CallId) -> bool:
        """Return whether a call is here, or on its way to a session."""
        return call_id in self._sessions or call_id in self._waiting

    async def command(self, event: CommandGiven) -> AnswerCommand:
        """Give a call an operator's command; return the answer when the call has it."""
        session = self._sessions.get(event.call_id)
        if session is None:
            begins = event.call_id in self._waiting
            words = "the call is only beginning" if begins else "there is no such call here: it has ended"
            return AnswerCommand(event.command_id, done=False, detail=words)
        answer: asyncio.Future[AnswerCommand] = asyncio.get_running_loop().create_future()
        self._commands[event.command_id] = event.call_id, answer
        session.post(event)
        try:
            return await answer
        finally:
            self._commands.pop(event.command_id, None)

    def _answer(self, order: AnswerCommand) -> None:
        _, answer = self._commands.get(order.command_id, (None, None))
        if answer is not None and not answer.done():
            answer.set_result(order)

    def _refuse_commands(self, ended: CallId) -> None:
        """Answer what a call that has ended left unanswered."""
        for command_id, (call_id, _) in [*self._commands.items()]:
            if call_id == ended:
                self._answer(AnswerCommand(command_id, done=False, detail="the call has ended"))

    def on_event(self, event: CallEvent) -> None:
        """Take an event from the SIP thread."""
        if isinstance(event, IncomingInvite):
            self._receive(event)
        elif session := self._sessions.get(event.call_id):
            if isinstance(event, MediaUp):
                self._answered.setdefault(event.call_id, self._clock.monotonic())
                self._listeners.answered(event.call_id)
            session.post(event)
        elif (waiting := self._waiting.get(event.call_id)) is not None:
            waiting.append(event)

    async def dial(self, order: DialOrder) -> Outcome:
        """
        Place a call and return how it ended. Cancelling the wait leaves the call as it is.

        Raises:
            ConfigError: there is no such agent, or its texts need what only a call that came in has.
            SipError: no such trunk, or a target that cannot be called.
        """
        if self._draining:
            return Outcome(EndReason.SHUTDOWN, "the worker is shutting down", 503)
        placed = await self.place(order)
        return placed if isinstance(placed, Outcome) else await asyncio.shield(placed)

    async def place(self, order: DialOrder) -> asyncio.Task[Outcome] | Outcome:
        """
        Place a call; return the task that runs it, or why a limit forbids it. Raises as ``dial`` does.

        It goes out even if the worker takes no calls or has no line for it: who orders it asks first.
        """
        plan = self._plan()
        profile = plan.dialplan.agents.get(order.agent_name)
        if profile is None:
            known = ", ".join(map(repr, plan.dialplan.agents))
            raise ConfigError(f"agent: there is no agent {order.agent_name!r}; name one of {known}")
        local = plan.dialplan.calendar.local(self._time(), None)
        values = Values(order.caller_id, order.target, {}, {}, local, order.trunk, "", {})
        profile = profile.filled(values)
        limits = limits_of(Limits(), self._cost)
        day = local.date().isoformat()
        admission = await self._gate.admit(order.call_id, route=OUTBOUND, caller="", day=day, limits=limits)
        if not admission.admitted:
            return Outcome(EndReason.BUDGET_USED_UP, admission.exceeded, 503)
        try:
            session = self._placed(order, plan, profile)
        except BaseException:
            self._gate.release(order.call_id, 0)
            raise
        return self._begin(order.call_id, session.run())

    def _placed(self, order: DialOrder, plan: PreparedPlan, profile: AgentProfile) -> CallSession:
        """Make the session of a call that we place."""
        line = self._builder.line(order, may_record=profile.recording.mode != "off" and self._may_keep(""))
        routed = self._routed(order, profile, self._limits.max_length_s)
        setup = self._builder.agent_setup(order, line, plan, order.agent_name, profile, routed)
        facts = {"to_uri": order.target, "from_uri": order.caller_id, "agent": order.agent_name}
        facts |= {"caller": order.caller_id, "called": order.target}
        facts |= {"direction": "outbound", "trunk": order.trunk, "dialplan": plan.version}
        return self._session(order.call_id, line, setup, {**_known(facts), **self._common_facts()})

    async def drain(self) -> None:
        """Take no more calls and wait until the live ones have ended."""
        self._draining = True
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def stop(self, detail: str) -> None:
        """Take no more calls and end the live ones now; returns when their sessions are closed."""
        self._draining = True
        for session in self._sessions.values():
            session.post(StopAsked(session.call_id, detail))
        for call_id, happened in self._waiting.items():
            happened.append(StopAsked(call_id, detail))
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _receive(self, invite: IncomingInvite) -> None:
        if not self.takes_calls:
            why = "the worker is shutting down" if self._draining else "the worker takes no calls at the moment"
            self._turn_away(invite, Outcome(EndReason.SHUTDOWN, why, 503))
            return
        plan = self._plan()
        facts = facts_of(invite, at=self._time(), load=len(self._sessions) / self.capacity)
        try:
            route = find_route(plan.index, facts)
        except Exception as fault:  # noqa: BLE001 - the boundary of a call, as in _run
            _log.exception("route_not_looked_for", call_id=invite.call_id)
            self._turn_away(invite, Outcome(EndReason.INTERNAL_ERROR, type(fault).__name__, 500))
            return
        if isinstance(route, Rejection):
            self._turn_away(invite, Outcome(EndReason.NO_ROUTE, route.detail, route.sip_code))
            return
        self._waiting[invite.call_id] = []
        self._begin(invite.call_id, self._on_a_line(invite, plan, route))

    async def _on_a_line(self, invite: IncomingInvite, plan: PreparedPlan, route: Route) -> Outcome:
        """Have a line of the call's trunk for as long as the call lasts, if they are counted over all workers."""
        most = self._trunk_lines.get(invite.trunk)
        if most is None:
            return await self._admit(invite, plan, route)
        line, day = CallId(f"{invite.call_id}:line"), self._time().date().isoformat()
        trunk, limits = f"trunk:{invite.trunk}", RouteLimits(Caps(max_calls=most))  # no name of a route has a colon
        try:
            admission = await self._gate.admit(line, route=trunk, caller="", day=day, limits=limits)
            if admission.admitted:
                return await self._admit(invite, plan, route)
            full = Outcome(EndReason.REJECTED, "all lines of the trunk are busy", 503)
            self._turn_away(invite, full)
            return full
        finally:
            self._gate.release(line, 0)

    async def _admit(self, invite: IncomingInvite, plan: PreparedPlan, route: Route) -> Outcome:
        """Ask the limits, then run the call; a caller may have hung up meanwhile."""
        steps, limits = compile_steps(route), route.limits
        day = plan.dialplan.calendar.local(self._time(), None).date().isoformat()
        admission = await self._gate.admit(
            invite.call_id, route=route.name, caller=route.call.caller, day=day, limits=limits_of(limits, self._cost)
        )
        first = steps.first if admission.admitted else steps.over
        minutes = [each for each in (limits.max_minutes, admission.minutes_left) if each is not None]
        longest_s = min([self._limits.max_length_s, *(60 * each for each in minutes)])
        facts = {**self._facts(invite), **_known(self._facts_of_route(plan, route, admission.exceeded))}
        session = self._planned(invite, plan, steps, first, max(longest_s, _LEAST_S), facts)
        for event in self._waiting.pop(invite.call_id):
            session.post(event)
        return await session.run()

    def _planned(
        self,
        invite: IncomingInvite,
        plan: PreparedPlan,
        steps: CompiledSteps,
        first: Step,
        longest_s: float,
        facts: dict[str, Scalar],
    ) -> CallSession:
        line = self._builder.line(invite, may_record=steps.may_record and self._may_keep(steps.route.name))
        line.route = steps.route.name
        planned = Planned(
            invite.call_id,
            step=first,
            setup_limit_s=self._limits.setup_limit_s,
            max_length_s=longest_s,
            refusal_code=self._limits.refusal_code,
            hold_limit_s=self._limits.hold_limit_s,
        )

        def choose(step: TalkTo) -> AgentSetup:
            profile = steps.profile(step)
            routed = self._routed(invite, profile, longest_s)
            return self._builder.agent_setup(invite, line, plan, step.agent, profile, routed)

        if isinstance(first, TalkTo):
            facts["agent"] = first.agent
        max_usd = steps.route.limits.max_usd
        return self._session(invite.call_id, line, planned, facts, choose, plan.sounds.__getitem__, max_usd)

    def _session(
        self,
        call_id: CallId,
        line: PhoneSide,
        begins: Planned | AgentSetup,
        facts: Mapping[str, Scalar],
        choose: Choose = no_agents,
        sounds: Sounds = no_sounds,
        max_usd: float | None = None,
    ) -> CallSession:
        own = own_ceiling(max_usd, self._cost.max_usd)
        session = CallSession(
            call_id=call_id,
            leg=line.leg,
            playout=line.playout,
            recorder=line.recorder,
            store=self._store,
            clock=self._clock,
            begins=begins,
            first_fields=facts,
            choose=choose,
            sounds=sounds,
            spend=CallBudget(call_id, own, self._cost.warn_at, self._gate.spend).spend,
            answer=self._answer,
        )
        self._sessions[call_id] = session
        self._listeners.begin(call_id, line.leg)
        return session

    def _begin(self, call_id: CallId, call: Coroutine[None, None, Outcome]) -> asyncio.Task[Outcome]:
        """Run a call of its own."""
        task = asyncio.create_task(self._run(call_id, call), name=f"call-{call_id}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        self.on_calls(len(self._tasks))
        return task

    def _ended(self, task: asyncio.Task[Outcome]) -> None:
        self._tasks.discard(task)
        self.on_calls(len(self._tasks))

    def _routed(self, asked: IncomingInvite | DialOrder, profile: AgentProfile, longest_s: float) -> Routed:
        return talk_with(
            *(profile, self._limits),
            call_id=asked.call_id,
            longest_s=longest_s,
            outbound=isinstance(asked, DialOrder),
            transfers=self._builder.transfers(asked.trunk),
            end_of_speech_ms=self._builder.end_of_speech_ms(profile),
        )

    async def _run(self, call_id: CallId, call: Coroutine[None, None, Outcome]) -> Outcome:
        with bind_call(call_id):
            try:
                outcome = await call
            except Exception as fault:  # noqa: BLE001 - the boundary of a call: its fault must not touch another
                _log.exception("call_failed")
                session = self._sessions.get(call_id)
                outcome = Outcome(EndReason.INTERNAL_ERROR, type(fault).__name__, 500)
                if session is None:
                    self._refuse(call_id, 500, "Internal error")
                else:
                    outcome = session.outcome or outcome
            finally:
                self._sessions.pop(call_id, None)
                self._listeners.end(call_id)
                self._waiting.pop(call_id, None)
                self._refuse_commands(call_id)
                answered = self._answered.pop(call_id, None)
                self._gate.release(call_id, 0 if answered is None else self._clock.monotonic() - answered)
        return outcome

    def _turn_away(self, invite: IncomingInvite, outcome: Outcome) -> None:
        ours = outcome.reason is EndReason.INTERNAL_ERROR  # its detail is not for strangers
        self._refuse(invite.call_id, outcome.sip_code, "Internal error" if ours else outcome.detail)
        self._store.note(
            invite.call_id,
            "refused",
            **self._facts(invite),
            state="ended",
            ended_at=self._clock.now(),
            end_reason=outcome.reason,
            end_detail=outcome.detail,
            ended_by=outcome.ended_by,
            fault=fault_of(outcome),
            sip_code=outcome.sip_code,
        )

    def _facts(self, invite: IncomingInvite) -> dict[str, Scalar]:
        facts = {
            "sip_call_id": invite.sip_call_id,
            "from_uri": invite.from_uri,
            "to_uri": invite.to_uri,
            "source": invite.source,
            "direction": "inbound",
        }
        known = {
            "caller": invite.caller,
            "called": invite.called,
            "trunk": invite.trunk,
            "transport": invite.transport,
            "tls_name": invite.tls_name,
            "traceparent": invite.headers.get("traceparent", "") if invite.trunk in self._traced_trunks else "",
        }
        return {**facts, **_known(known), **self._common_facts()}

    def _facts_of_route(self, plan: PreparedPlan, route: Route, exceeded: str) -> dict[str, str]:
        try:
            metadata = dict(route.metadata)
        except TemplateFailed as problem:
            _log.warning("metadata_not_filled_in", route=route.name, detail=str(problem))
            metadata = {}
        told = json.dumps(metadata, ensure_ascii=False) if metadata else ""
        return {"route": route.name, "dialplan": plan.version, "metadata": told, "limit_exceeded": exceeded}

    def _may_keep(self, route: str) -> bool:
        """Return whether more than counts may be kept of a route's calls."""
        return self._privacy.of_route(route) != "counts"

    def _time(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now(), UTC)

    def _common_facts(self) -> dict[str, Scalar]:
        return {"worker": self._worker, "created_at": self._clock.now()}


def _known(facts: Mapping[str, str]) -> dict[str, Scalar]:
    """Return those that are not empty: what is not known is absent from the record."""
    return {name: value for name, value in facts.items() if value}


def limits_of(limits: Limits, cost: CostSettings) -> RouteLimits:
    """Return what is counted of a route's limits, and of those of all calls."""
    each = limits.per_caller
    return RouteLimits(
        Caps(limits.max_calls, limits.calls_per_day, limits.minutes_per_day, limits.usd_per_day),
        Caps(each.max_calls, each.calls_per_day, each.minutes_per_day, each.usd_per_day),
        Caps(usd_per_day=cost.usd_per_day),
        cost.reserve_usd,
    )
