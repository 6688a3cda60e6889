"""
What a dialplan wants done around the agent: announcements, menus, somebody else called, redirects, refusals.

A part of ``CallMachine`` and as pure. One step at a time, with one timer at the most; a step ends with the next one,
with an agent that is to speak now, with the caller joined to somebody else, or with the call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any, ClassVar

from gateway.call.actions import (
    AwaitPlayedOut,
    CallAction,
    CallSecond,
    CancelTimer,
    FlushPlayout,
    PausePlayout,
    Play,
    ResumePlayout,
    StartFiller,
    StartTimer,
    StopFiller,
    Transfer,
)
from gateway.call.events import (
    CallEvent,
    DigitPressed,
    PlayedOut,
    SecondClosed,
    SecondUp,
    TimerFired,
    TransferEnded,
)
from gateway.call.machine.legs import Line
from gateway.call.machine.phase import SETUP
from gateway.call.machine.second_leg import SECOND, SecondLeg
from gateway.call.machine.story import told
from gateway.call.machine.transfer import TRANSFER, TRANSFER_LIMIT_S
from gateway.call.outcome import EndReason, Outcome, Side, outcome_of_no_answer
from gateway.call.steps import Announce, DialTo, Menu, Redirect, Refuse, Step, TalkTo

MENU = "menu"
"""Timer: how long a key is awaited."""


@dataclass(frozen=True, slots=True)
class Connected:
    """The caller is to be joined with the second leg; ``outcome`` is how the call ends when either leaves."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Turn:
    """
    What the attendant does next.

    Attributes:
        orders: in their order.
        then: what follows them; None: the attendant goes on.
    """

    orders: tuple[CallAction, ...] = ()
    then: Outcome | TalkTo | Connected | None = None

    def after(self, *orders: CallAction) -> Turn:
        """Return the same with other orders before."""
        return Turn((*orders, *self.orders), self.then)


class _Stage(Enum):
    NONE = auto()
    EARLY = auto()  # waits until the caller hears us unanswered
    MEDIA = auto()  # waits until the answered call has audio
    PLAYING = auto()
    KEY = auto()
    FREEING = auto()  # waits until the second leg before is over
    CALLING = auto()
    REFERRED = auto()


class Attendant:
    """
    Takes the steps of one call's dialplan that need no agent.

    Args:
        line: the caller's leg.
        second: the second leg.
        setup_limit_s: how long the media of a leg may take to be up.
    """

    def __init__(self, line: Line, second: SecondLeg, setup_limit_s: float) -> None:
        self._line = line
        self._second = second
        self._setup_limit_s = setup_limit_s
        self._step: Step | None = None
        self._stage = _Stage.NONE
        self._timer: str | None = None
        self._mark = 0  # of the sounds being played: what is told of earlier ones is stale
        self._playing = False
        self._paused = False
        self._filling = False
        self._tries = 0  # prompts of a menu, or contacts, tried so far

    def take(self, step: Step, cause: str = "") -> Turn:
        """Leave the step before, whose end is the ``cause``, and take this one."""
        left = (*self._stop_timer(), *self.close())
        self._step, self._stage, self._tries = step, _Stage.NONE, 0
        return self._BEGIN[type(step)](self, step).after(*left, told(step, cause))

    def handle(self, event: CallEvent) -> Turn:
        """Take one fact of those in ``RULES``."""
        return self.RULES[type(event)](self, event)

    def media_up(self) -> Turn:
        """Go on: audio flows both ways."""
        return self._heard() if self._stage is _Stage.MEDIA else Turn()

    def early_media_up(self) -> Turn:
        """Go on: the caller hears us."""
        return self._heard() if self._stage is _Stage.EARLY else Turn()

    def timer_fired(self, event: TimerFired) -> Turn:
        """Take the end of the attendant's timer."""
        self._timer = None
        return self._TIMERS[event.name](self)

    def hold(self) -> tuple[CallAction, ...]:
        """Pause: the caller does not listen."""
        if self._stage is _Stage.KEY:
            return self._stop_timer()
        if not self._playing or self._paused:
            return ()
        self._paused = True
        return (PausePlayout(),)

    def resume(self) -> tuple[CallAction, ...]:
        """Go on: the caller listens again, and has the whole time for a key."""
        resumed = (ResumePlayout(),) if self._paused else ()
        self._paused = False
        return (*resumed, *self._await_key())

    def bridge_silence(self) -> tuple[CallAction, ...]:
        """Let an answered caller hear that it goes on, while somebody is waited for."""
        if self._filling or not self._line.answered:
            return ()
        self._filling = True
        return (StartFiller(),)

    def close(self) -> tuple[CallAction, ...]:
        """Let go of what sounds."""
        flush = (FlushPlayout(),) if self._playing or self._paused else ()
        stop = (StopFiller(),) if self._filling else ()
        self._playing = self._paused = self._filling = False
        return (*flush, *stop)

    # Timers and media

    def _start_timer(self, name: str, seconds: float) -> tuple[CallAction, ...]:
        self._timer = name
        return (StartTimer(name, seconds),)

    def _stop_timer(self) -> tuple[CallAction, ...]:
        timer, self._timer = self._timer, None
        return (CancelTimer(timer),) if timer is not None else ()

    def _be_heard(self, *, early: bool = False) -> Turn:
        """Go on as soon as the caller hears us."""
        if self._line.up or (early and self._line.early_up):
            return self._heard()
        early = early and not self._line.answered
        self._stage = _Stage.EARLY if early else _Stage.MEDIA
        orders = self._line.progress() if early else self._line.answer()
        return Turn((*orders, *self._start_timer(SETUP, self._setup_limit_s)))

    def _heard(self) -> Turn:
        """Do what the media was needed for."""
        stopped = self._stop_timer()
        match self._step:
            case Announce(sounds=sounds):
                turn = self._play(*sounds)
            case Refuse(sound=sound) | Menu(sound=sound):
                turn = self._play(sound)
            case Redirect():
                turn = self._refer()
            case _:
                turn = self._connect()
        return turn.after(*stopped)

    def _set_up_overdue(self) -> Turn:
        if self._stage is _Stage.EARLY:  # the network lets nothing through before the answer: go on without
            return self._sounded()
        detail = f"no media within {self._setup_limit_s:g} s"
        return Turn(then=Outcome(EndReason.SETUP_TIMEOUT, detail))

    # Sounds and keys

    def _play(self, *sounds: str) -> Turn:
        self._stage, self._playing, self._mark = _Stage.PLAYING, True, self._mark + 1
        pause = self.hold() if self._line.on_hold else ()
        return Turn((Play(sounds), *pause, AwaitPlayedOut(self._mark)))

    def _played_out(self, event: PlayedOut) -> Turn:
        if self._stage is not _Stage.PLAYING or event.mark != self._mark:
            return Turn()
        self._playing = False
        return self._sounded()

    def _sounded(self) -> Turn:
        """Go on after the sounds of a step."""
        match self._step:
            case Refuse() as step:
                return Turn(then=_refusal(step))
            case Announce(then=Step() as following):
                return self.take(following)
            case Announce():
                code = 200 if self._line.answered else 480
                return Turn(then=Outcome(EndReason.COMPLETED, "the announcement was played", code))
            case _:
                self._stage = _Stage.KEY
                return Turn(self._await_key())

    def _await_key(self) -> tuple[CallAction, ...]:
        if self._stage is not _Stage.KEY or self._timer is not None or self._line.on_hold:
            return ()
        return self._start_timer(MENU, self._step.timeout_s if isinstance(self._step, Menu) else 0)

    def _pressed(self, event: DigitPressed) -> Turn:
        step = self._step
        listening = self._stage in (_Stage.PLAYING, _Stage.KEY) and not self._line.on_hold  # hold music has tones too
        if not isinstance(step, Menu) or not listening:
            return Turn()
        chosen = step.keys.get(event.digit)
        return self._ask_again() if chosen is None else self.take(chosen, f"key {event.digit}")

    def _ask_again(self) -> Turn:
        """Play the prompt once more: no key came, or another."""
        step = self._step
        if not isinstance(step, Menu):
            return Turn()
        self._tries += 1
        if self._tries <= step.retries:
            left = (*self._stop_timer(), *self.close())
            return self._play(step.sound).after(*left)
        cause = "no key was pressed"
        if step.otherwise is not None:
            return self.take(step.otherwise, cause)
        return Turn(self._stop_timer(), Outcome(EndReason.COMPLETED, cause, 200))

    # Somebody else

    def _dial(self, step: DialTo) -> Turn:
        waiting = (*self._line.ring(), *self.bridge_silence())
        if self._second.is_free:
            return self._call(step).after(*waiting)
        self._stage = _Stage.FREEING
        return Turn((*waiting, *self._start_timer(SECOND, step.ring_limit_s)))

    def _call(self, step: DialTo) -> Turn:
        self._stage = _Stage.CALLING
        called = self._second.call(
            CallSecond(step.target, step.trunk, step.headers, step.caller_id, step.diverted_from)
        )
        return Turn((*self._stop_timer(), *called, *self._start_timer(SECOND, step.ring_limit_s)))

    def _second_up(self, _event: SecondUp) -> Turn:
        if self._stage is not _Stage.CALLING:
            return Turn()
        stopped = self._stop_timer()
        return self._be_heard().after(*stopped)

    def _second_closed(self, event: SecondClosed) -> Turn:
        was_open, step = self._second.closed(), self._step
        if not isinstance(step, DialTo):
            return Turn()
        if self._stage is _Stage.FREEING:
            return self._call(step)
        if not was_open:
            return Turn()
        if self._stage is _Stage.MEDIA:  # they answered, and did not wait for the caller
            return Turn(then=_connected(step))
        return self._not_reached(step, outcome_of_no_answer(event.code, event.reason, event.cause, event.contacts))

    def _second_overdue(self) -> Turn:
        step = self._step
        if not isinstance(step, DialTo):
            return Turn()
        if self._stage is _Stage.FREEING:
            busy = outcome_of_no_answer(480, "the call to somebody else before it is still being ended")
            return self._not_reached(step, busy)
        dropped = self._second.drop()
        silent = outcome_of_no_answer(480, f"no answer within {step.ring_limit_s:g} s")
        return self._not_reached(step, silent).after(*dropped)

    def _not_reached(self, step: DialTo, outcome: Outcome) -> Turn:
        if step.otherwise is not None:
            return self.take(step.otherwise, outcome.detail)
        return Turn(self._stop_timer(), _unreached(outcome))

    def _connect(self) -> Turn:
        if not isinstance(self._step, DialTo):
            return Turn()
        return Turn(self.close(), Connected(_connected(self._step)))

    # Redirects and refusals

    def _refuse(self, step: Refuse) -> Turn:
        return self._be_heard(early=True) if step.sound else Turn(then=_refusal(step))

    def _redirect(self, step: Redirect) -> Turn:
        if self._line.answered:
            return self._be_heard()
        detail = ", ".join(step.contacts)
        outcome = Outcome(EndReason.REDIRECTED, detail, 302, phrase="Moved Temporarily", contacts=step.contacts)
        return Turn(then=outcome)

    def _refer(self) -> Turn:
        if not isinstance(self._step, Redirect):
            return Turn()
        self._stage = _Stage.REFERRED
        transfer = Transfer(self._step.contacts[self._tries])
        return Turn((transfer, *self._start_timer(TRANSFER, TRANSFER_LIMIT_S)))

    def _transfer_ended(self, event: TransferEnded) -> Turn:
        step = self._step
        if self._stage is not _Stage.REFERRED or not isinstance(step, Redirect):
            return Turn()
        stopped = self._stop_timer()
        if 200 <= event.code < 300:
            return Turn(stopped, Outcome(EndReason.REDIRECTED, step.contacts[self._tries], 200))
        self._tries += 1
        if self._tries < len(step.contacts):
            return self._refer().after(*stopped)
        return Turn(stopped, _unreached(outcome_of_no_answer(event.code, event.reason)))

    def _transfer_overdue(self) -> Turn:
        return Turn(then=_unreached(outcome_of_no_answer(408, f"no answer within {TRANSFER_LIMIT_S:g} s")))

    _BEGIN: ClassVar[Mapping[type[Step], Callable[[Attendant, Any], Turn]]] = {
        TalkTo: lambda _self, step: Turn(then=step),
        Refuse: _refuse,
        Redirect: _redirect,
        DialTo: _dial,
        Announce: lambda self, step: self._be_heard(early=step.early),
        Menu: lambda self, _step: self._be_heard(),
    }

    RULES: ClassVar[Mapping[type[CallEvent], Callable[[Attendant, Any], Turn]]] = {
        PlayedOut: _played_out,
        DigitPressed: _pressed,
        SecondUp: _second_up,
        SecondClosed: _second_closed,
        TransferEnded: _transfer_ended,
    }

    _TIMERS: ClassVar[Mapping[str, Callable[[Attendant], Turn]]] = {
        SETUP: _set_up_overdue,
        MENU: _ask_again,
        SECOND: _second_overdue,
        TRANSFER: _transfer_overdue,
    }


def _refusal(step: Refuse) -> Outcome:
    return Outcome(EndReason.REJECTED, f"{step.code} {step.reason}".rstrip(), step.code, phrase=step.reason)


def _connected(step: DialTo) -> Outcome:
    return Outcome(EndReason.CONNECTED, step.target, 200)


def _unreached(outcome: Outcome) -> Outcome:
    """Return how a call ends because somebody else could not be had."""
    # What another server wants of us (to call elsewhere, a password) is not for the caller to do. Nor has a caller
    # cancelled who would be told 487 (RFC 3261 section 21.4.25).
    code = outcome.sip_code
    told = 480 if code < 400 or code == 487 else 503 if code in (401, 407) else outcome.told
    return replace(outcome, told=told, by=Side.GATEWAY)
