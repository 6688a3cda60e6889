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
    AwaitPlayedOut,
    CallAction,
    CallSecond,
    CancelTimer,
    ChooseAgent,
    Dial,
    DropSecond,
    Finish,
    FlushPlayout,
    HangUp,
    JoinLegs,
    Note,
    PausePlayout,
    PauseRecording,
    Play,
    Progress,
    ResumePlayout,
    Ring,
    SendDigits,
    StartFiller,
    StartRecording,
    StartTimer,
    StopFiller,
    TalkToCaller,
    TalkToSecond,
    Transfer,
)
from gateway.call.events import (
    CallEvent,
    ChoiceFailed,
    OrderFailed,
    Planned,
    PlayedOut,
    Scalar,
    SpeechStarted,
    StampedEvent,
    StopAsked,
    TimerFired,
)
from gateway.call.machine.machine import CallMachine
from gateway.call.machine.phase import ENDING, Phase
from gateway.call.outcome import Outcome
from gateway.call.ports import (
    AgentSetup,
    Choose,
    Clock,
    Playout,
    Recorder,
    SessionStore,
    SipLeg,
    Sounds,
    TimerHandle,
)
from gateway.call.session.agents import Agents, close_all
from gateway.call.session.journal import Journal
from gateway.call.steps import TalkTo
from gateway.errors import GatewayError, IllegalEvent
from gateway.ids import CallId

CLOSE_LIMIT_S = 5.0
"""The agent bounds its own closing more tightly; beyond this it is abandoned."""

QUIET_POLL_S = 0.05
QUIET_S = 0.15
"""Silence that counts as the end of speech: the last frames are still on their way to RTP, others perhaps to us."""

_QUIET = "quiet"  # the poll's name among the timers; none of the machine's


def no_agents(step: TalkTo) -> AgentSetup:
    """Choose an agent where a plan names none."""
    raise GatewayError(f"there is no agent {step.agent}")


def no_sounds(name: str) -> bytes:
    """Give a sound where a plan names none."""
    raise GatewayError(f"there is no sound {name}")


class _Inbox(asyncio.Queue[tuple[float, CallEvent]]):
    """What happened to a call, with the time of arrival. Whoever may post into it holds this, not the session."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def post(self, event: CallEvent) -> None:
        """Append a fact."""
        self.put_nowait((self._clock.monotonic(), event))


class CallSession:
    """
    Runs one call from its route to its outcome. Thread: loop.

    Args:
        call_id: our id of the call.
        leg: the SIP side, already told of us.
        playout: speech and sounds on their way to the caller.
        store: where the call is written down.
        clock: time.
        begins: what the call begins with: the dialplan's steps, or an agent (a call that we place has one at once).
        facts: first fields of the call's record, named as in it (``from_uri``, ``route``, ...).
        recorder: records the call; None when it is not to be recorded.
        choose: makes the agents that the steps name. A ``GatewayError`` ends the step alone.
        sounds: gives the sounds that the steps name.

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
        playout: Playout,
        store: SessionStore,
        clock: Clock,
        begins: Planned | AgentSetup,
        facts: Mapping[str, Scalar],
        recorder: Recorder | None = None,
        choose: Choose = no_agents,
        sounds: Sounds = no_sounds,
    ) -> None:
        self.call_id = call_id
        self._choose = choose
        self._sounds = sounds
        self._recorder = recorder
        self._playout = playout
        self._clock = clock
        self._inbox = _Inbox(clock)
        self._agents = Agents(call_id, self._inbox.post)
        self._journal = Journal(call_id, store, clock, playout, facts)
        self._machine = CallMachine()
        self._timers: dict[str, TimerHandle] = {}
        self._quiet_since: float | None = None
        self._played = 0  # sounds
        self._log = structlog.get_logger().bind(call_id=call_id)
        self.outcome: Outcome | None = None
        self.illegal_events = 0
        self._orders: Mapping[type[CallAction], Callable[[Any], None]] = {
            **self._orders_to_leg(leg),
            **self._agents.orders(),
            **self._orders_to_playout(),
        }
        if isinstance(begins, AgentSetup):
            self._use_agent(begins)
        else:
            self.post(begins)

    @staticmethod
    def _orders_to_leg(leg: SipLeg) -> Mapping[type[CallAction], Callable[[Any], None]]:
        return {
            Ring: lambda _: leg.ring(),
            Progress: lambda _: leg.progress(),
            Answer: lambda _: leg.answer(),
            Dial: lambda _: leg.dial(),
            HangUp: lambda order: leg.hang_up(order.code, order.reason, order.contacts, order.cause),
            Transfer: lambda order: leg.transfer(order.target),
            SendDigits: lambda order: leg.send_digits(order.digits),
            CallSecond: leg.call_second,
            TalkToSecond: lambda _: leg.talk_to_second(),
            TalkToCaller: lambda _: leg.talk_to_caller(),
            JoinLegs: lambda _: leg.join(),
            DropSecond: lambda _: leg.drop_second(),
        }

    def _orders_to_playout(self) -> Mapping[type[CallAction], Callable[[Any], None]]:
        playout, recorder = self._playout, self._recorder
        return {
            FlushPlayout: lambda _: playout.flush(),
            PausePlayout: lambda _: playout.pause(),
            ResumePlayout: lambda _: playout.resume(),
            StartFiller: lambda _: playout.start_filler(),
            StopFiller: lambda _: playout.stop_filler(),
            Play: self._play,
            AwaitPlayedOut: self._await_quiet,
            StartRecording: lambda _: recorder.start(self._inbox.post) if recorder is not None else None,
            PauseRecording: lambda _: recorder.pause() if recorder is not None else None,
            StartTimer: self._start_timer,
            CancelTimer: lambda order: self._cancel_timer(order.name),
            ChooseAgent: self._choose_agent,
            Note: lambda _: None,  # with the rest of what is written down
            Finish: self._finish,
        }

    @property
    def phase(self) -> Phase:
        """Where the call stands now."""
        return self._machine.phase

    def post(self, event: CallEvent) -> None:
        """Put a fact into the inbox; returns at once. After the call's end it is never read."""
        self._inbox.post(event)

    async def run(self) -> Outcome:
        """
        Run the call to its end.

        Whatever happens here, cancellation and faults of the gateway included, the leg is told to hang up, the
        agent, tools and recorder are closed, the timers are stopped and the end is written down, last of all; then an
        exception goes on to the caller of this function, and ``outcome`` is set all the same.
        """
        try:
            self._listen(asyncio.get_running_loop())
            self._journal.begin()
            while self.outcome is None:
                self._step(*await self._inbox.get())
            return self.outcome
        finally:
            try:
                if self.outcome is None:
                    self._end_at_once(sys.exception())
            finally:
                self._playout.listen(None)
                for name in tuple(self._timers):
                    self._cancel_timer(name)
                try:
                    await self._finish_closing()
                finally:
                    self._note_the_end()

    def _note_the_end(self) -> None:
        """Write what came while the call was being closed (where its recording is), then that it has ended."""
        with ExitStack() as steps:
            steps.callback(self._let_go)
            steps.callback(self._journal.end)
            while not self._inbox.empty():
                self._step(*self._inbox.get_nowait())

    def _let_go(self) -> None:
        """Drop the orders, which refer to this session: without them it is freed at once, not by a full collection."""
        self._orders = {}

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have it written down as soon as an item was heard, not only with the next event."""

        def wake() -> None:
            loop.call_soon_threadsafe(self._journal.heard)

        self._playout.listen(wake)

    def _step(self, at: float, event: CallEvent) -> None:
        """Let the machine see one event, carry out all it orders, then write down what changed."""
        event = self._stamped(event)
        before = self._machine.phase
        try:
            orders = self._machine.handle(event)
        except IllegalEvent as fault:
            self.illegal_events += 1
            self._log.warning("illegal_event", phase=fault.phase, illegal=fault.event)
            return
        # The stack runs every order even when one raises, last pushed first, and raises at its end.
        with ExitStack() as stack:
            stack.callback(self._write_down, at, event, orders, before)
            for order in reversed(orders):
                stack.callback(self._orders[type(order)], order)

    def _stamped(self, event: CallEvent) -> CallEvent:
        """Add what is being played now, for the events that ask for it."""
        if not isinstance(event, StampedEvent):
            return event
        at = self._playout.position()
        if isinstance(event, SpeechStarted):
            return replace(event, at=at, responding=self._agents.responding)
        return replace(event, at=at)

    def _write_down(self, at: float, event: CallEvent, orders: tuple[CallAction, ...], before: Phase) -> None:
        after = self._machine.phase
        self._journal.write_down(event, at, orders, before=before, after=after, outcome=self.outcome)

    def _end_at_once(self, cause: BaseException | None) -> None:
        """End a call whose task cannot wait any longer: through the same door, without waiting for the leg."""
        if isinstance(cause, asyncio.CancelledError):
            last: CallEvent = StopAsked(self.call_id, "the call's task was cancelled")
        else:
            last = OrderFailed(self.call_id, type(cause).__name__)  # its text may hold a secret
        now = self._clock.monotonic()
        with ExitStack() as steps:
            steps.callback(self._step, now, TimerFired(self.call_id, ENDING))
            steps.callback(self._step, now, last)

    def _choose_agent(self, order: ChooseAgent) -> None:
        """Make the agent that a step names; a step that cannot have its agent is no fault of the whole call."""
        try:
            setup = self._choose(order.step)
        except GatewayError as error:
            self._log.error("agent_not_made", agent=order.step.agent, detail=str(error))
            self.post(ChoiceFailed(self.call_id, str(error)))
        else:
            self._use_agent(setup)

    def _use_agent(self, setup: AgentSetup) -> None:
        self._agents.use_agent(setup)
        self._journal.change_price(setup.price)
        self.post(replace(setup.routed, can_record=setup.may_record and self._recorder is not None))

    async def _close_rest(self) -> None:
        """Close the recording, and wait for agents and tools."""
        recorder = [self._recorder.close()] if self._recorder is not None else []
        await close_all(self.call_id, self._agents.closed(), *recorder)

    async def _finish_closing(self) -> None:
        """Wait until agents, tools and recording are closed, within ``CLOSE_LIMIT_S``."""
        closing = asyncio.create_task(self._close_rest(), name=f"close {self.call_id}")
        expired: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        limit = self._clock.call_later(CLOSE_LIMIT_S, partial(expired.set_result, None))
        try:
            await asyncio.wait({closing, expired}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            limit.cancel()
            expired.cancel()
            if not closing.done():
                closing.cancel()
                self._log.error("not_closed", limit_s=CLOSE_LIMIT_S)

    def _play(self, order: Play) -> None:
        for name in order.sounds:
            self._played += 1
            item_id = f"sound_{self._played}"
            self._journal.sound(item_id, name)
            self._playout.write(item_id, self._sounds(name))
            self._playout.complete(item_id)

    def _await_quiet(self, order: AwaitPlayedOut) -> None:
        self._quiet_since = None
        self._look_for_quiet(order.mark)

    def _look_for_quiet(self, mark: int) -> None:
        """Report ``PlayedOut`` once nothing was generated and nothing queued for ``QUIET_S``; look again till then."""
        now = self._clock.monotonic()
        if self._agents.responding or self._playout.queued_ms:
            self._quiet_since = None
        elif self._quiet_since is None:
            self._quiet_since = now
        elif now - self._quiet_since >= QUIET_S:
            self.post(PlayedOut(self.call_id, mark))
            return
        self._cancel_timer(_QUIET)
        self._timers[_QUIET] = self._clock.call_later(QUIET_POLL_S, partial(self._look_for_quiet, mark))

    def _start_timer(self, order: StartTimer) -> None:
        self._cancel_timer(order.name)
        fire = partial(self.post, TimerFired(self.call_id, order.name))
        self._timers[order.name] = self._clock.call_later(order.seconds, fire)

    def _cancel_timer(self, name: str) -> None:
        if (timer := self._timers.pop(name, None)) is not None:
            timer.cancel()

    def _finish(self, order: Finish) -> None:
        self.outcome = order.outcome
