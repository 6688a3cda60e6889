"""Who is on a call now: a new INVITE becomes a route and a call session, every other fact goes to its call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from gateway.call.events import CallEvent, IncomingInvite, Routed, StopAsked
from gateway.call.notes import Price
from gateway.call.outcome import EndReason, Outcome
from gateway.call.ports import Agent, Clock, Playout, SessionStore, SipLeg, Tools
from gateway.call.session import CallSession
from gateway.dialplan.matcher import Rejection, Route, find_route
from gateway.dialplan.model import AgentProfile, Dialplan
from gateway.ids import CallId
from gateway.logs import bind_call
from gateway.settings import CallSettings

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class CallParts:
    """What ``worker.py`` builds for one call: everything a session needs from outside."""

    leg: SipLeg
    agent: Agent
    playout: Playout
    tools: Tools | None
    price: Price


class Switchboard:
    """
    The calls of one worker. Thread: loop.

    Args:
        dialplan: who answers which call.
        limits: setup and length limits, refusal code.
        build: makes the parts of a call for the agent that answers it.
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
        build: Callable[[IncomingInvite, Route], CallParts],
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
        self._tasks: set[asyncio.Task[None]] = set()
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
        route = find_route(self._dialplan, invite)
        if isinstance(route, Rejection):
            self._turn_away(invite, Outcome(EndReason.NO_ROUTE, route.detail, route.sip_code))
            return
        session = self._session(invite, route)
        self._sessions[invite.call_id] = session
        task = asyncio.create_task(self._run(session), name=f"call-{invite.call_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _session(self, invite: IncomingInvite, route: Route) -> CallSession:
        parts = self._build(invite, route)
        return CallSession(
            call_id=invite.call_id,
            leg=parts.leg,
            agent=parts.agent,
            playout=parts.playout,
            tools=parts.tools,
            price=parts.price,
            store=self._store,
            clock=self._clock,
            routed=self._routed(invite.call_id, route.profile),
            facts={**self._facts(invite), "route": route.name, "agent": route.agent_name},
        )

    def _routed(self, call_id: CallId, profile: AgentProfile) -> Routed:
        turns = profile.turn_detection
        # The upstream tells the end of a sound only after its own silence.
        silence_ms = turns.silence_duration_ms if turns.kind == "server_vad" else 0
        return Routed(
            call_id,
            setup_limit_s=self._limits.setup_limit_s,
            max_length_s=self._limits.max_length_s,
            refusal_code=self._limits.refusal_code,
            guard_ms=turns.guard_ms + silence_ms if turns.guard_ms else 0,
            goodbye_limit_s=profile.goodbye_limit_s,
            tool_filler_after_s=profile.tools.filler_after_s,
        )

    async def _run(self, session: CallSession) -> None:
        with bind_call(session.call_id):
            try:
                outcome = await session.run()
                _log.info("call_ended", reason=outcome.reason, by=outcome.ended_by, detail=outcome.detail)
            except Exception:  # noqa: BLE001 - the boundary of a call: its fault must not touch another
                _log.exception("call_failed")
            finally:
                del self._sessions[session.call_id]

    def _turn_away(self, invite: IncomingInvite, outcome: Outcome) -> None:
        _log.info("call_refused", call_id=invite.call_id, code=outcome.sip_code, detail=outcome.detail)
        self._refuse(invite.call_id, outcome.sip_code, outcome.detail)
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

    def _facts(self, invite: IncomingInvite) -> dict[str, str | float]:
        return {
            "sip_call_id": invite.sip_call_id,
            "from_uri": invite.from_uri,
            "to_uri": invite.to_uri,
            "source": invite.source,
            "worker": self._worker,
            "created_at": self._clock.now(),
        }
