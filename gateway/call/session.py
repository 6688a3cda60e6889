"""One call in progress: one task, one inbox. Carries out what the machine orders, writes down what happened."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from gateway.call.actions import (
    Answer,
    AnswerTool,
    AwaitPlayedOut,
    CallAction,
    CallSecond,
    CancelResponse,
    CancelTimer,
    CloseAgent,
    Dial,
    DropSecond,
    Finish,
    FlushPlayout,
    Greet,
    HangUp,
    JoinLegs,
    MuteCaller,
    OpenAgent,
    PausePlayout,
    PauseRecording,
    ResumePlayout,
    Ring,
    RunTool,
    SayGoodbye,
    SendDigits,
    StartFiller,
    StartRecording,
    StartTimer,
    StopFiller,
    TalkToCaller,
    TalkToSecond,
    TellAgent,
    Transfer,
    Truncate,
    UnmuteCaller,
)
from gateway.call.events import (
    CallEvent,
    DigitPressed,
    OrderFailed,
    PlayedOut,
    Routed,
    SecondClosed,
    SecondDigit,
    SecondUp,
    SpeechStarted,
    StopAsked,
    TimerFired,
    ToolFinished,
)
from gateway.call.machine import ENDING, CallMachine, Phase
from gateway.call.notes import CallNotes, Price
from gateway.call.outcome import Outcome
from gateway.call.ports import Agent, Clock, Playout, Recorder, Scalar, SessionStore, SipLeg, TimerHandle, Tools
from gateway.errors import IllegalEvent
from gateway.ids import CallId

CLOSE_LIMIT_S = 5.0
"""The agent bounds its own closing more tightly; beyond this it is abandoned."""

QUIET_POLL_S = 0.05
QUIET_S = 0.15
"""Silence that counts as the end of speech: the last frames are still on their way to RTP, others perhaps to us."""

_STAMPED = (SpeechStarted, DigitPressed, SecondUp, SecondDigit, SecondClosed, TimerFired)
"""Events that may cut the agent off: they tell what was being played."""

_QUIET = "quiet"  # the poll's name among the timers; none of the machine's


class CallSession:
    """
    Runs one call from its route to its outcome. Thread: loop.

    Args:
        call_id: our id of the call.
        leg: the SIP side, already told of us.
        agent: the voice model's side, not opened yet.
        tools: the own tools of the agent's profile; None when it has none.
        recorder: records the call; None when it is not to be recorded.
        playout: the agent's speech on its way to the caller.
        store: where the call is written down.
        clock: time.
        routed: limits of this call; the machine's first event.
        facts: first fields of the call's record, named as in it (``from_uri``, ``route``, ...).
        price: what used tokens cost in US dollars; None where that is not known.

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
        tools: Tools | None = None,
        recorder: Recorder | None = None,
        price: Price = lambda used: None,
    ) -> None:
        self.call_id = call_id
        self._agent = agent
        self._tools = tools
        self._recorder = recorder
        self._playout = playout
        self._clock = clock
        self._notes = CallNotes(call_id, store, clock, playout, facts, price, masked=routed.keypad.masked)
        self._machine = CallMachine()
        self._inbox: asyncio.Queue[tuple[float, CallEvent]] = asyncio.Queue()  # with the time of arrival
        self._timers: dict[str, TimerHandle] = {}
        self._quiet_since: float | None = None
        self._closing: asyncio.Task[None] | None = None
        self._log = structlog.get_logger().bind(call_id=call_id)
        self.outcome: Outcome | None = None
        self.illegal_events = 0
        self._orders = {**self._orders_to_leg(leg), **self._orders_to_agent(), **self._orders_to_playout()}
        self.post(replace(routed, can_record=recorder is not None))

    @staticmethod
    def _orders_to_leg(leg: SipLeg) -> Mapping[type[CallAction], Callable[[Any], None]]:
        return {
            Ring: lambda _: leg.ring(),
            Answer: lambda _: leg.answer(),
            Dial: lambda _: leg.dial(),
            HangUp: lambda order: leg.hang_up(order.code, order.reason),
            Transfer: lambda order: leg.transfer(order.target),
            SendDigits: lambda order: leg.send_digits(order.digits),
            CallSecond: lambda order: leg.call_second(order.target),
            TalkToSecond: lambda _: leg.talk_to_second(),
            TalkToCaller: lambda _: leg.talk_to_caller(),
            JoinLegs: lambda _: leg.join(),
            DropSecond: lambda _: leg.drop_second(),
        }

    def _orders_to_agent(self) -> Mapping[type[CallAction], Callable[[Any], None]]:
        agent = self._agent
        return {
            OpenAgent: lambda _: agent.open(self.post),
            CloseAgent: lambda _: self._start_closing(),
            Greet: lambda _: agent.greet(),
            Truncate: lambda order: agent.truncate(order.item_id, order.played_ms),
            CancelResponse: lambda _: agent.cancel(),
            SayGoodbye: lambda order: agent.say_goodbye(order.detail),
            AnswerTool: lambda order: agent.answer_tool(order.tool_call_id, order.output, respond=order.respond),
            TellAgent: lambda order: agent.tell(order.text, respond=order.respond),
            MuteCaller: lambda _: agent.mute_caller(),
            UnmuteCaller: lambda _: agent.unmute_caller(),
            RunTool: self._run_tool,
        }

    def _orders_to_playout(self) -> Mapping[type[CallAction], Callable[[Any], None]]:
        playout, recorder = self._playout, self._recorder
        return {
            FlushPlayout: lambda _: playout.flush(),
            PausePlayout: lambda _: playout.pause(),
            ResumePlayout: lambda _: playout.resume(),
            StartFiller: lambda _: playout.start_filler(),
            StopFiller: lambda _: playout.stop_filler(),
            AwaitPlayedOut: lambda _: self._await_quiet(),
            StartRecording: lambda _: recorder.start(self.post) if recorder is not None else None,
            PauseRecording: lambda _: recorder.pause() if recorder is not None else None,
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
        self._inbox.put_nowait((self._clock.monotonic(), event))

    async def run(self) -> Outcome:
        """
        Run the call to its end.

        Whatever happens here, cancellation and faults of the gateway included, the leg is told to hang up, the
        agent, tools and recorder are closed, the timers are stopped and the end is written down, last of all; then an
        exception goes on to the caller of this function, and ``outcome`` is set all the same.
        """
        try:
            self._listen(asyncio.get_running_loop())
            self._notes.begin()
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
            steps.callback(self._notes.end)
            while not self._inbox.empty():
                self._step(*self._inbox.get_nowait())

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have it written down as soon as an item was heard, not only with the next event."""

        def wake() -> None:
            loop.call_soon_threadsafe(self._notes.heard)

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
        if not isinstance(event, _STAMPED):
            return event
        item_id, played_ms = self._playout.position() or (None, 0)
        stamped = replace(event, item_id=item_id, played_ms=played_ms)
        return replace(stamped, responding=self._agent.responding) if isinstance(stamped, SpeechStarted) else stamped

    def _write_down(self, at: float, event: CallEvent, orders: tuple[CallAction, ...], before: Phase) -> None:
        after = self._machine.phase
        self._notes.write_down(event, at, orders, before=before, after=after, outcome=self.outcome)

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

    def _start_closing(self) -> None:
        self._closing = asyncio.create_task(self._close(), name=f"close agent {self.call_id}")

    async def _close(self) -> None:
        """Close agent and tools, both at once."""
        await self._close_all(self._agent.close(), *([self._tools.close()] if self._tools is not None else []))

    async def _close_rest(self) -> None:
        """Close the recording, and wait for agent and tools."""
        begun = [self._closing] if self._closing is not None else []
        await self._close_all(*begun, *([self._recorder.close()] if self._recorder is not None else []))

    async def _close_all(self, *closes: Awaitable[None]) -> None:
        """Wait for them all; their faults are logged and end here."""
        for fault in await asyncio.gather(*closes, return_exceptions=True):
            if fault is not None:
                self._log.error("close_failed", exc_info=fault)

    async def _finish_closing(self) -> None:
        """Wait until agent, tools and recording are closed, within ``CLOSE_LIMIT_S``."""
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

    def _run_tool(self, order: RunTool) -> None:
        if self._tools is not None:
            self._tools.run(order.tool_call_id, order.name, order.arguments, self.post)
        else:
            words = f"Error: there is no tool named {order.name}."
            self.post(ToolFinished(self.call_id, order.tool_call_id, order.name, words, failed=True, took_ms=0))

    def _await_quiet(self) -> None:
        self._quiet_since = None
        self._look_for_quiet()

    def _look_for_quiet(self) -> None:
        """Report ``PlayedOut`` once nothing was generated and nothing queued for ``QUIET_S``; look again till then."""
        now = self._clock.monotonic()
        if self._agent.responding or self._playout.queued_ms:
            self._quiet_since = None
        elif self._quiet_since is None:
            self._quiet_since = now
        elif now - self._quiet_since >= QUIET_S:
            self.post(PlayedOut(self.call_id))
            return
        self._cancel_timer(_QUIET)
        self._timers[_QUIET] = self._clock.call_later(QUIET_POLL_S, self._look_for_quiet)

    def _start_timer(self, order: StartTimer) -> None:
        self._cancel_timer(order.name)
        fire = partial(self.post, TimerFired(self.call_id, order.name))
        self._timers[order.name] = self._clock.call_later(order.seconds, fire)

    def _cancel_timer(self, name: str) -> None:
        if (timer := self._timers.pop(name, None)) is not None:
            timer.cancel()

    def _finish(self, order: Finish) -> None:
        self.outcome = order.outcome
