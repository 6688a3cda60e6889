"""Who is on a call now: an INVITE, or an order to call, becomes a call session; every other fact goes to its call."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

import structlog

from gateway.call.events import CallEvent, IncomingInvite, Keypad, Routed, StopAsked
from gateway.call.notes import Price
from gateway.call.outcome import EndReason, Outcome
from gateway.call.ports import Agent, Clock, Playout, Recorder, Scalar, SessionStore, SipLeg, Tools
from gateway.call.session import CallSession
from gateway.dialplan.agent import AgentProfile
from gateway.dialplan.facts import facts_of
from gateway.dialplan.matcher import Rejection, filled_profile, find_route
from gateway.dialplan.model import Dialplan
from gateway.dialplan.steps import AgentStep, RejectStep
from gateway.dialplan.templates import TemplateFailed, Values
from gateway.errors import ConfigError
from gateway.ids import CallId, new_call_id
from gateway.logs import bind_call
from gateway.settings import CallSettings

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DialOrder:
    """
    Somebody is to be called.

    Attributes:
        target: number, or SIP or tel URI.
        agent_name: the dialplan's agent that speaks with whoever answers.
        trunk: name of the trunk it goes through; empty for a SIP URI that is called directly.
        caller_id: the number we call as; empty takes the trunk's.
        call_id: our id of the call.
    """

    target: str
    agent_name: str
    trunk: str = ""
    caller_id: str = ""
    call_id: CallId = field(default_factory=new_call_id)


@dataclass(frozen=True, slots=True)
class Assigned:
    """
    The agent that a call was given to.

    Attributes:
        name: the route that did; empty for a call that we place.
        agent_name: name of the agent.
        profile: how it behaves, its texts filled in for this call.
        longest_s: the route's limit of a call's length; None when it has none.
    """

    name: str
    agent_name: str
    profile: AgentProfile
    longest_s: float | None = None


@dataclass(frozen=True, slots=True)
class CallParts:
    """
    What ``worker.py`` builds for one call: everything a session needs from outside.

    Attributes:
        leg: the SIP side; of a ``DialOrder``, one that waits for ``dial``.
        agent: the voice model's side.
        playout: the agent's speech on its way to the caller.
        tools: the own tools of the agent's profile; None when it has none.
        price: what used tokens cost.
        recorder: None when the profile records nothing.
        transfers: how the call's trunk transfers callers.
    """

    leg: SipLeg
    agent: Agent
    playout: Playout
    tools: Tools | None
    price: Price
    recorder: Recorder | None = None
    transfers: Literal["refer", "refer_or_bridge", "bridge"] = "refer_or_bridge"


class Switchboard:
    """
    The calls of one worker. Thread: loop.

    Args:
        dialplan: who answers which call.
        limits: limits of every call, refusal code.
        build: makes the parts of a call for the agent that answers it, or speaks with whom we call.
        refuse: ends a call that gets no session with a SIP status and a reason phrase.
        store: where sessions are written.
        clock: time.
        worker: name of this worker, for the records.
    """

    def __init__(
        self,
        *,
        dialplan: Dialplan,
        limits: CallSettings,
        build: Callable[[IncomingInvite | DialOrder, Assigned], CallParts],
        refuse: Callable[[CallId, int, str], None],
        store: SessionStore,
        clock: Clock,
        worker: str,
    ) -> None:
        self._dialplan = dialplan
        self._limits = limits
        self._build = build
        self._refuse = refuse
        self._store = store
        self._clock = clock
        self._worker = worker
        self._sessions: dict[CallId, CallSession] = {}
        self._tasks: set[asyncio.Task[Outcome]] = set()
        self._draining = False

    @property
    def live_calls(self) -> int:
        """How many calls have a session now."""
        return len(self._sessions)

    def on_event(self, event: CallEvent) -> None:
        """Take a fact from the SIP thread."""
        if isinstance(event, IncomingInvite):
            self._receive(event)
        elif session := self._sessions.get(event.call_id):
            session.post(event)

    async def dial(self, order: DialOrder) -> Outcome:
        """
        Call somebody and return how the call ended. Whoever stops waiting leaves the call as it is.

        Raises:
            ConfigError: there is no such agent, or its texts need what only a call that came in has.
            SipError: ``build`` found no such trunk, or a target that cannot be called.
        """
        if self._draining:
            return Outcome(EndReason.SHUTDOWN, "the worker is shutting down", 503)
        profile = self._dialplan.agents.get(order.agent_name)
        if profile is None:
            known = ", ".join(map(repr, self._dialplan.agents))
            raise ConfigError(f"agent: there is no agent {order.agent_name!r}; name one of {known}")
        local = self._dialplan.calendar.local(self._time(), None)
        values = Values(order.caller_id, order.target, {}, {}, local, order.trunk, "", {})
        assigned = Assigned("", order.agent_name, filled_profile(profile, values))
        facts = {"to_uri": order.target, "from_uri": order.caller_id, "agent": order.agent_name}
        facts |= {"direction": "outbound", "trunk": order.trunk}
        return await asyncio.shield(self._start(order, assigned, {**_known(facts), **self._common_facts()}))

    async def drain(self, limit_s: float) -> None:
        """Take no more calls and wait until the live ones have ended, ``limit_s`` seconds at most."""
        self._draining = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=limit_s)

    async def stop(self, detail: str) -> None:
        """Take no more calls and end the live ones now; returns when their sessions are closed."""
        self._draining = True
        for session in self._sessions.values():
            session.post(StopAsked(session.call_id, detail))
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _receive(self, invite: IncomingInvite) -> None:
        if self._draining:
            self._turn_away(invite, Outcome(EndReason.SHUTDOWN, "the worker is shutting down", 503))
            return
        assigned = self._assign(invite)
        if isinstance(assigned, Outcome):
            self._turn_away(invite, assigned)
            return
        self._start(invite, assigned, {**self._facts(invite), "route": assigned.name, "agent": assigned.agent_name})

    def _assign(self, invite: IncomingInvite) -> Assigned | Outcome:
        """Ask the dialplan who answers."""
        route = find_route(self._dialplan, facts_of(invite, at=self._time()))
        if isinstance(route, Rejection):
            return Outcome(EndReason.NO_ROUTE, route.detail, route.sip_code)
        try:
            match route.step:
                case AgentStep():
                    minutes = route.limits.max_minutes
                    longest_s = None if minutes is None else 60 * minutes
                    return Assigned(route.name, route.agent_name, route.profile, longest_s)
                case RejectStep(code=code):
                    detail = route.reason(route.step) or f"refused by the route {route.name}"
                    return Outcome(EndReason.NO_ROUTE, detail, code)
                case step:
                    detail = f"route {route.name}: calls cannot begin with {step.action} yet"
                    return Outcome(EndReason.NO_ROUTE, detail, 501)
        except TemplateFailed as problem:
            return Outcome(EndReason.INTERNAL_ERROR, str(problem), 500)

    def _time(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now(), UTC)

    def _start(
        self, asked: IncomingInvite | DialOrder, assigned: Assigned, facts: dict[str, Scalar]
    ) -> asyncio.Task[Outcome]:
        """Run a call of its own."""
        parts = self._build(asked, assigned)
        session = CallSession(
            call_id=asked.call_id,
            leg=parts.leg,
            agent=parts.agent,
            playout=parts.playout,
            tools=parts.tools,
            recorder=parts.recorder,
            price=parts.price,
            store=self._store,
            clock=self._clock,
            routed=self._routed(asked, assigned, parts),
            facts=facts,
        )
        self._sessions[asked.call_id] = session
        task = asyncio.create_task(self._run(session), name=f"call-{asked.call_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _routed(self, asked: IncomingInvite | DialOrder, assigned: Assigned, parts: CallParts) -> Routed:
        profile = assigned.profile
        turns, keypad = profile.turn_detection, profile.keypad
        # The upstream tells the end of a sound only after its own silence.
        silence_ms = turns.silence_duration_ms if turns.kind == "server_vad" else 0
        return Routed(
            asked.call_id,
            setup_limit_s=self._limits.setup_limit_s,
            max_length_s=min(self._limits.max_length_s, assigned.longest_s or math.inf),
            refusal_code=self._limits.refusal_code,
            guard_ms=turns.guard_ms + silence_ms if turns.guard_ms else 0,
            goodbye_limit_s=profile.goodbye_limit_s,
            tool_filler_after_s=profile.tools.filler_after_s,
            outbound=isinstance(asked, DialOrder),
            ring_limit_s=self._limits.ring_limit_s,
            hold_limit_s=self._limits.hold_limit_s,
            keypad=Keypad(keypad.to_agent, keypad.pause_s, keypad.shortcuts, keypad.masked),
            transfers=parts.transfers,
            recording=profile.recording.mode == "on",
        )

    async def _run(self, session: CallSession) -> Outcome:
        with bind_call(session.call_id):
            try:
                outcome = await session.run()
                _log.info("call_ended", reason=outcome.reason, by=outcome.ended_by, detail=outcome.detail)
            except Exception as fault:  # noqa: BLE001 - the boundary of a call: its fault must not touch another
                _log.exception("call_failed")
                outcome = session.outcome or Outcome(EndReason.INTERNAL_ERROR, type(fault).__name__, 500)
            finally:
                del self._sessions[session.call_id]
        return outcome

    def _turn_away(self, invite: IncomingInvite, outcome: Outcome) -> None:
        _log.info("call_refused", call_id=invite.call_id, code=outcome.sip_code, detail=outcome.detail)
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
        return {**facts, **_known({"trunk": invite.trunk}), **self._common_facts()}

    def _common_facts(self) -> dict[str, Scalar]:
        return {"worker": self._worker, "created_at": self._clock.now()}


def _known(facts: Mapping[str, str]) -> dict[str, Scalar]:
    """Return those that are not empty: what is not known is absent from the record."""
    return {name: value for name, value in facts.items() if value}
