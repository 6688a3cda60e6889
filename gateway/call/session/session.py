"""
One call in progress: the shell around the state machine, with one task and one inbox per call.

Theory of operation
-------------------
Everything here runs on the loop thread. Events come from the SIP leg, the agent, its tools, the recorder and the
session's own timers. ``post`` puts each into the inbox with the time of its arrival; ``run`` takes them out one by one:

1. *Stamp* (``_stamped``): an event that may cut the agent off gets ``at``, the item being played and how many
   milliseconds of it were clocked out to RTP, as the playout buffer says at this moment.
2. *Decide*: ``CallMachine.handle`` returns the orders that follow. It does no I/O and holds all state of the call's
   control; an event that cannot happen in this phase is logged, counted and passed over.
3. *Carry out*: the table ``_orders`` has one entry for each kind of order. They go to the leg, to the agent in use
   (``agents.py``), to playout and recorder, or to the timers kept here. An order returns at once; what comes of it
   arrives as a later event. If one raises, the rest are carried out all the same, and then the call ends.
4. *Write down* (``journal.py``): what the event says and what it changed goes into the call's record and its stream of
   events. Keys of the caller that must not be kept are hidden by ``key_mask.py``.

An agent is made when the machine asks for one (``ChooseAgent``): the worker's function ``choose`` builds it, its limits
come back as ``Routed``. Agents follow one another in a call; events of one that was closed are dropped.

A call ends by one door: ``run`` returns or raises only once the leg was told to hang up, agents, tools and recorder
were closed (within ``CLOSE_LIMIT_S``), the timers were stopped, and the last note was written.

Speech does not pass through here. The session only looks at the playout: it polls for silence to report ``PlayedOut``
(``_look_for_quiet``), and the clock thread wakes the journal, by ``call_soon_threadsafe``, when an item was heard to
its end.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import structlog

from gateway.call import actions as do
from gateway.call import events as ev
from gateway.call.events import Scalar
from gateway.call.machine.machine import CallMachine
from gateway.call.machine.phase import ENDING, Phase
from gateway.call.outcome import Outcome
from gateway.call.ports import (
    AgentSetup,
    Choose,
    Clock,
    EmitEvent,
    Playout,
    Recorder,
    SessionStore,
    SipLeg,
    Sounds,
    Spend,
    TimerHandle,
)
from gateway.call.session.agents import Agents, close_all
from gateway.call.session.journal import Journal
from gateway.call.steps import TalkTo
from gateway.errors import GatewayError, IllegalEvent
from gateway.ids import CallId

CLOSE_LIMIT_S = 5.0
"""How long agents, tools and recorder may take to close; each has tighter limits of its own."""

QUIET_POLL_S = 0.05
QUIET_S = 0.15
"""Silence that counts as the end of speech: its last frames are still on their way to RTP, others perhaps to us."""

_QUIET = "quiet"  # the poll's name among the timers; the machine has no timer of this name


def no_agents(step: TalkTo) -> AgentSetup:
    """Refuse to make an agent: for calls whose plan names none."""
    raise GatewayError(f"there is no agent {step.agent}")


def no_budget(usd: float, emit: EmitEvent) -> None:
    """Let a call cost what it will."""


def no_sounds(name: str) -> bytes:
    """Refuse to give a sound: for calls whose plan names none."""
    raise GatewayError(f"there is no sound {name}")


_Orders = dict[type[do.CallAction], Callable[[Any], None]]
_Order = TypeVar("_Order", bound=do.CallAction)


def _on(kind: type[_Order], carry_out: Callable[[_Order], None]) -> tuple[type[do.CallAction], Callable[[Any], None]]:
    """Pair an order with what carries it out; the type checker sees that one takes the other."""
    return kind, carry_out


class _Inbox(asyncio.Queue[tuple[float, ev.CallEvent]]):
    """
    The events of a call that wait, each with the time of its arrival.

    What posts events holds this, not the session, so that nothing keeps an ended session alive.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def post(self, event: ev.CallEvent) -> None:
        """Append an event."""
        self.put_nowait((self._clock.monotonic(), event))


class CallSession:
    """
    Runs one call from its route to its outcome; the module says how. Thread: loop.

    Args:
        call_id: our id of the call.
        leg: the SIP side, which posts its events here.
        playout: speech and sounds on their way to the caller.
        store: where the call is written down.
        clock: time.
        begins: what the call begins with: the dialplan's steps, or an agent (a call that we place has one at once).
        first_fields: what the call's record begins with, named as there (``from_uri``, ``route``, ...).
        recorder: records the call; None when it is not to be recorded.
        choose: makes the agents that the steps name. A ``GatewayError`` ends the step alone.
        sounds: gives the sounds that the steps name.
        spend: is told what the call costs.
        answer: takes the answer to each command of an operator.

    Attributes:
        call_id: our id of the call.
        outcome: how the call ended; None as long as it has not.
        illegal_events: how many events could not happen in their phase; each is a fault of the gateway.
    """

    def __init__(
        self,
        *,
        call_id: CallId,
        leg: SipLeg,
        playout: Playout,
        store: SessionStore,
        clock: Clock,
        begins: ev.Planned | AgentSetup,
        first_fields: Mapping[str, Scalar],
        recorder: Recorder | None = None,
        choose: Choose = no_agents,
        sounds: Sounds = no_sounds,
        spend: Spend = no_budget,
        answer: Callable[[do.AnswerCommand], None] = lambda order: None,
    ) -> None:
        self.call_id = call_id
        self._spend = spend
        self._choose = choose
        self._sounds = sounds
        self._answer = answer
        self._recorder = recorder
        self._playout = playout
        self._clock = clock
        self._inbox = _Inbox(clock)
        self._agents = Agents(call_id, self._inbox.post)
        self._journal = Journal(call_id, store, clock, playout, first_fields)
        self._machine = CallMachine()
        self._timers: dict[str, TimerHandle] = {}
        self._quiet_since: float | None = None
        self._played = 0  # sounds
        self._log = structlog.get_logger().bind(call_id=call_id)
        self.outcome: Outcome | None = None
        self.illegal_events = 0
        self._orders = {**self._orders_to_leg(leg), **self._orders_to_agents(), **self._orders_to_playout()}
        if isinstance(begins, AgentSetup):
            self._use_agent(begins)
        else:
            self.post(begins)

    @staticmethod
    def _orders_to_leg(leg: SipLeg) -> _Orders:
        return dict(
            (
                _on(do.Ring, lambda _: leg.ring()),
                _on(do.Progress, lambda _: leg.progress()),
                _on(do.Answer, lambda _: leg.answer()),
                _on(do.Dial, lambda _: leg.dial()),
                _on(do.HangUp, lambda order: leg.hang_up(order.code, order.reason, order.contacts, order.cause)),
                _on(do.Transfer, lambda order: leg.transfer(order.target)),
                _on(do.SendDigits, lambda order: leg.send_digits(order.digits)),
                _on(do.CallSecond, leg.call_second),
                _on(do.TalkToSecond, lambda _: leg.talk_to_second()),
                _on(do.TalkToCaller, lambda _: leg.talk_to_caller()),
                _on(do.JoinLegs, lambda _: leg.join()),
                _on(do.DropSecond, lambda _: leg.drop_second()),
                _on(do.TraceCall, lambda _: leg.trace()),
            )
        )

    def _orders_to_agents(self) -> _Orders:
        agents = self._agents
        return dict(
            (
                _on(do.ChooseAgent, self._choose_agent),
                _on(do.OpenAgent, lambda _: agents.open()),
                _on(do.CloseAgent, lambda _: agents.close()),
                _on(do.Greet, lambda order: agents.current.greet(order.text)),
                _on(do.AnnounceRecording, lambda _: agents.current.announce()),
                _on(do.Truncate, lambda order: agents.current.truncate(order.item_id, order.played_ms)),
                _on(do.CancelResponse, lambda _: agents.current.cancel()),
                _on(do.SayGoodbye, lambda order: agents.current.say_goodbye(order.detail)),
                _on(do.RunTool, agents.run_tool),
                _on(do.AnswerTool, self._answer_tool),
                _on(do.TellAgent, lambda order: agents.current.tell(order.text, respond=order.respond)),
                _on(do.Say, lambda order: agents.current.say(order.text)),
                _on(do.Whisper, lambda order: agents.current.tell(order.text, respond=False)),
                _on(do.MuteCaller, lambda _: agents.current.mute_caller()),
                _on(do.UnmuteCaller, lambda _: agents.current.unmute_caller()),
            )
        )

    def _orders_to_playout(self) -> _Orders:
        playout, recorder = self._playout, self._recorder
        return dict(
            (
                _on(do.FlushPlayout, lambda _: playout.flush()),
                _on(do.PausePlayout, lambda _: playout.pause()),
                _on(do.ResumePlayout, lambda _: playout.resume()),
                _on(do.StartFiller, lambda _: playout.start_filler()),
                _on(do.StopFiller, lambda _: playout.stop_filler()),
                _on(do.Play, self._play),
                _on(do.AwaitPlayedOut, self._await_quiet),
                _on(do.StartRecording, lambda _: recorder.start(self._inbox.post) if recorder is not None else None),
                _on(do.PauseRecording, lambda _: recorder.pause() if recorder is not None else None),
                _on(do.StartTimer, self._start_timer),
                _on(do.CancelTimer, lambda order: self._cancel_timer(order.name)),
                _on(do.AnswerCommand, self._answer),
                _on(do.Note, lambda _: None),  # the journal writes it, with the event that led to it
                _on(do.Finish, self._finish),
            )
        )

    @property
    def phase(self) -> Phase:
        """The phase the call is in."""
        return self._machine.phase

    def post(self, event: ev.CallEvent) -> None:
        """Put an event into the inbox; returns at once. After the end of the call it is never read."""
        self._inbox.post(event)

    async def run(self) -> Outcome:
        """
        Run the call to its end.

        Whatever happens, cancellation and faults of the gateway included: the leg is told to hang up, agents, tools and
        recorder are closed, the timers are stopped, and last of all the end is written down. An exception is raised
        again only after that, and ``outcome`` is set all the same.
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
        """Write down what came while the call was being closed (where its recording is), then that it has ended."""
        with ExitStack() as steps:
            steps.callback(self._let_go)
            steps.callback(self._journal.end)
            while not self._inbox.empty():
                self._step(*self._inbox.get_nowait())

    def _let_go(self) -> None:
        """Drop the table of orders, which refers to this session: without that cycle it is freed at once."""
        self._orders = {}

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let the journal know as soon as an item was heard, not only with the next event."""

        def wake() -> None:
            loop.call_soon_threadsafe(self._journal.heard)

        self._playout.listen(wake)

    def _step(self, at: float, event: ev.CallEvent) -> None:
        """Show one event to the machine, carry out all it orders, then write down what changed."""
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

    def _stamped(self, event: ev.CallEvent) -> ev.CallEvent:
        """Return the event with what is being played now, if it is one that asks for that."""
        if not isinstance(event, ev.StampedEvent):
            return event
        at = self._playout.position()
        if isinstance(event, ev.SpeechStarted):
            return replace(event, at=at, responding=self._agents.responding)
        return replace(event, at=at)

    def _write_down(self, at: float, event: ev.CallEvent, orders: tuple[do.CallAction, ...], before: Phase) -> None:
        after = self._machine.phase
        self._journal.write_down(event, at, orders, before=before, after=after, outcome=self.outcome)
        if isinstance(event, ev.Noted) and event.name == "usage":
            self._spend(self._journal.cost_usd, self._inbox.post)

    def _end_at_once(self, cause: BaseException | None) -> None:
        """End a call whose task cannot wait any longer: by the usual orders, but without waiting for the leg."""
        if isinstance(cause, asyncio.CancelledError):
            last: ev.CallEvent = ev.StopAsked(self.call_id, "the call's task was cancelled")
        else:
            last = ev.OrderFailed(self.call_id, type(cause).__name__)  # its text may hold a secret
        now = self._clock.monotonic()
        with ExitStack() as steps:
            steps.callback(self._step, now, ev.TimerFired(self.call_id, ENDING))
            steps.callback(self._step, now, last)

    def _choose_agent(self, order: do.ChooseAgent) -> None:
        """Make the agent that a step names. If that fails, the step alone fails."""
        try:
            setup = self._choose(order.step)
        except GatewayError as error:
            self._log.error("agent_not_made", agent=order.step.agent, detail=str(error))
            self.post(ev.ChoiceFailed(self.call_id, str(error)))
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
        """Wait until agents, tools and recording are closed, or ``CLOSE_LIMIT_S`` is over."""
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

    def _answer_tool(self, order: do.AnswerTool) -> None:
        self._agents.current.answer_tool(order.tool_call_id, order.output, respond=order.respond)

    def _play(self, order: do.Play) -> None:
        for name in order.sounds:
            self._played += 1
            item_id = f"sound_{self._played}"
            self._journal.sound(item_id, name)
            self._playout.write(item_id, self._sounds(name))
            self._playout.complete(item_id)

    def _await_quiet(self, order: do.AwaitPlayedOut) -> None:
        self._quiet_since = None
        self._look_for_quiet(order.mark)

    def _look_for_quiet(self, mark: int) -> None:
        """Report ``PlayedOut`` once nothing was generated or queued for ``QUIET_S``; until then look again."""
        now = self._clock.monotonic()
        if self._agents.responding or self._playout.queued_ms:
            self._quiet_since = None
        elif self._quiet_since is None:
            self._quiet_since = now
        elif now - self._quiet_since >= QUIET_S:
            self.post(ev.PlayedOut(self.call_id, mark))
            return
        self._cancel_timer(_QUIET)
        self._timers[_QUIET] = self._clock.call_later(QUIET_POLL_S, partial(self._look_for_quiet, mark))

    def _start_timer(self, order: do.StartTimer) -> None:
        self._cancel_timer(order.name)
        fire = partial(self.post, ev.TimerFired(self.call_id, order.name))
        self._timers[order.name] = self._clock.call_later(order.seconds, fire)

    def _cancel_timer(self, name: str) -> None:
        if (timer := self._timers.pop(name, None)) is not None:
            timer.cancel()

    def _finish(self, order: do.Finish) -> None:
        self.outcome = order.outcome
