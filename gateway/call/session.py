"""One call in progress: one task, one inbox. Carries out what the machine orders, writes down what happened."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from gateway.call.actions import (
    Answer,
    CallAction,
    CancelTimer,
    CloseAgent,
    Finish,
    FlushPlayout,
    Greet,
    HangUp,
    OpenAgent,
    Ring,
    StartTimer,
    Truncate,
)
from gateway.call.events import (
    AgentReady,
    AgentSpoke,
    CallerSpoke,
    CallEvent,
    LegClosed,
    MediaUp,
    OrderFailed,
    Routed,
    SpeechStarted,
    SpeechStopped,
    StopAsked,
    TimerFired,
)
from gateway.call.machine import ENDING, CallMachine, Phase
from gateway.call.outcome import Outcome
from gateway.call.ports import Agent, Clock, Playout, Scalar, SessionStore, SipLeg, TimerHandle
from gateway.errors import IllegalEvent
from gateway.ids import CallId

CLOSE_LIMIT_S = 5.0
"""The agent bounds its own closing more tightly; beyond this it is abandoned."""

_NOTABLE: Mapping[type[CallEvent], str] = {
    MediaUp: "media_up",
    SpeechStarted: "speech_started",
    SpeechStopped: "speech_stopped",
    AgentSpoke: "agent_spoke",
    CallerSpoke: "caller_spoke",
}
"""Events that stand in the call's history though they change no state."""


class CallSession:
    """
    Runs one call from its route to its outcome. Thread: loop.

    Args:
        call_id: our id of the call.
        leg: the SIP side, already told of us.
        agent: the voice model's side, not opened yet.
        playout: the agent's speech on its way to the caller.
        store: where the call is written down.
        clock: time.
        routed: limits of this call; the machine's first event.
        facts: first fields of the call's record, named as in it (``from_uri``, ``route``, ...).

    Attributes:
        call_id: our id of the call.
        outcome: how the call ended; None as long as it has not.
        illegal_events: events that could not happen; each is a fault of the gateway, logged and passed over.
    """

    def __init__(
        self,
        *,
        call_id: CallId,
        leg: SipLeg,
        agent: Agent,
        playout: Playout,
        store: SessionStore,
        clock: Clock,
        routed: Routed,
        facts: Mapping[str, Scalar],
    ) -> None:
        self.call_id = call_id
        self._agent = agent
        self._playout = playout
        self._store = store
        self._clock = clock
        self._facts = facts
        self._machine = CallMachine()
        self._inbox: asyncio.Queue[CallEvent] = asyncio.Queue()
        self._inbox.put_nowait(routed)
        self._timers: dict[str, TimerHandle] = {}
        self._closing: asyncio.Task[None] | None = None
        self._began = clock.monotonic()
        self._answered: float | None = None  # monotonic seconds of the first MediaUp
        self._first_audio_noted = False
        self._log = structlog.get_logger().bind(call_id=call_id)
        self.outcome: Outcome | None = None
        self.illegal_events = 0
        self._orders: Mapping[type[CallAction], Callable[[Any], None]] = {
            Ring: lambda _: leg.ring(),
            Answer: lambda _: leg.answer(),
            HangUp: lambda order: leg.hang_up(order.code, order.reason),
            OpenAgent: lambda _: agent.open(self.post),
            CloseAgent: lambda _: self._start_closing(),
            Greet: lambda _: agent.greet(),
            FlushPlayout: lambda _: playout.flush(),
            Truncate: lambda order: agent.truncate(order.item_id, order.played_ms),
            StartTimer: self._start_timer,
            CancelTimer: lambda order: self._cancel_timer(order.name),
            Finish: self._finish,
        }

    @property
    def phase(self) -> Phase:
        """Where the call stands now."""
        return self._machine.phase

    def post(self, event: CallEvent) -> None:
        """Put a fact into the inbox; returns at once. After the call's end it is never read."""
        self._inbox.put_nowait(event)

    async def run(self) -> Outcome:
        """
        Run the call to its end.

        Whatever happens here, cancellation and faults of the gateway included, the leg is told to hang up, the
        agent is closed, the timers are stopped and the end is written down; then an exception goes on to the
        caller of this function, and ``outcome`` is set all the same.
        """
        try:
            began: dict[str, Scalar] = {"state": Phase.ROUTING.value, "created_at": self._clock.now()}
            self._note(Phase.ROUTING.value, began | dict(self._facts))
            while self.outcome is None:
                self._step(await self._inbox.get())
            return self.outcome
        finally:
            try:
                if self.outcome is None:
                    self._end_at_once(sys.exception())
            finally:
                for name in tuple(self._timers):
                    self._cancel_timer(name)
                await self._finish_closing()

    def _step(self, event: CallEvent) -> None:
        """Let the machine see one event, carry out all it orders, then write down what changed."""
        if isinstance(event, SpeechStarted):
            item_id, played_ms = self._playout.position() or (None, 0)
            event = replace(event, item_id=item_id, played_ms=played_ms)
        before = self._machine.phase
        try:
            actions = self._machine.handle(event)
        except IllegalEvent as fault:
            self.illegal_events += 1
            self._log.warning("illegal_event", phase=fault.phase, illegal=fault.event)
            return
        # The stack runs every order even when one raises, last pushed first, and raises at its end.
        with ExitStack() as orders:
            orders.callback(self._write_down, event, before)
            for action in reversed(actions):
                orders.callback(self._orders[type(action)], action)

    def _end_at_once(self, cause: BaseException | None) -> None:
        """End a call whose task cannot wait any longer: through the same door, without waiting for the leg."""
        if isinstance(cause, asyncio.CancelledError):
            last: CallEvent = StopAsked(self.call_id, "the call's task was cancelled")
        else:
            last = OrderFailed(self.call_id, type(cause).__name__)  # its text may hold a secret
        with ExitStack() as steps:
            steps.callback(self._step, TimerFired(self.call_id, ENDING))
            steps.callback(self._step, last)

    def _start_closing(self) -> None:
        self._closing = asyncio.create_task(self._agent.close(), name=f"close agent {self.call_id}")

    async def _finish_closing(self) -> None:
        """Wait until the agent is closed, within ``CLOSE_LIMIT_S``; its faults are logged and end here."""
        closing = self._closing
        if closing is None:
            return
        expired: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        limit = self._clock.call_later(CLOSE_LIMIT_S, partial(expired.set_result, None))
        try:
            await asyncio.wait({closing, expired}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            limit.cancel()
            expired.cancel()
            if not closing.done():
                closing.cancel()
                self._log.error("agent_not_closed", limit_s=CLOSE_LIMIT_S)
            elif not closing.cancelled() and (fault := closing.exception()) is not None:
                self._log.error("agent_close_failed", exc_info=fault)

    def _start_timer(self, order: StartTimer) -> None:
        self._cancel_timer(order.name)
        fire = partial(self.post, TimerFired(self.call_id, order.name))
        self._timers[order.name] = self._clock.call_later(order.seconds, fire)

    def _cancel_timer(self, name: str) -> None:
        if (timer := self._timers.pop(name, None)) is not None:
            timer.cancel()

    def _finish(self, order: Finish) -> None:
        self.outcome = order.outcome

    def _write_down(self, event: CallEvent, before: Phase) -> None:
        after = self._machine.phase
        if after is not before:
            fields = _fields_of(event) | self._fields_at(after, event)
            self._note(after.value, {"state": after.value, **fields})
            self._log.info("call_state", state=after.value, **fields)
        elif (name := _NOTABLE.get(type(event))) is not None:
            self._note(name, _fields_of(event))

    def _fields_at(self, phase: Phase, event: CallEvent) -> dict[str, Scalar]:
        """Return what the record says about entering ``phase``."""
        match phase:
            case Phase.RINGING:
                return {"ringing_at": self._clock.now()}
            case Phase.ACTIVE:
                self._answered = self._clock.monotonic()
                setup_ms = round((self._answered - self._began) * 1000)
                return {"answered_at": self._clock.now(), "setup_ms": setup_ms}
            case Phase.ENDED if self.outcome is not None:
                told = event.code if isinstance(event, LegClosed) else self.outcome.sip_code
                return {
                    "ended_at": self._clock.now(),
                    "end_reason": self.outcome.reason.value,
                    "end_detail": self.outcome.detail,
                    "ended_by": self.outcome.ended_by.value,
                    "sip_code": told if self._answered is None else 200,
                }
            case _:
                return {}

    def _note(self, name: str, fields: Mapping[str, Scalar]) -> None:
        self._store.note(self.call_id, name, **fields, **self._first_audio())

    def _first_audio(self) -> dict[str, Scalar]:
        """Return ``first_audio_ms`` once, with the first note written after the agent was heard."""
        heard = self._playout.first_frame_at
        if self._first_audio_noted or self._answered is None or heard is None:
            return {}
        self._first_audio_noted = True
        return {"first_audio_ms": max(0, round((heard - self._answered) * 1000))}


def _fields_of(event: CallEvent) -> dict[str, Scalar]:
    """Return what an event itself says, named as in the record and the stream of events."""
    match event:
        case AgentReady(session_id=session_id):
            return {"upstream_session_id": session_id}
        case MediaUp(codec=codec):
            return {"codec": codec}
        case SpeechStarted(item_id=str(item_id), played_ms=played_ms):
            return {"item_id": item_id, "played_ms": played_ms}
        case AgentSpoke(item_id=item_id, text=text) | CallerSpoke(item_id=item_id, text=text):
            return {"item_id": item_id, "text": text}
        case _:
            return {}
