"""
A transfer from its wish to its end: by REFER, or over a second leg of our own; blind, or with words to whoever answers.

A part of ``Talk`` and as pure. One transfer at a time: the last words are heard, then it goes out by REFER, or the
target is called on a second leg. There a blind one joins caller and target as soon as they answer; a warm one lets the
agent speak with them first, and they take the call with 1 or decline with 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from gateway.audio.played import PlayoutPosition
from gateway.call.actions import (
    AwaitPlayedOut,
    CallAction,
    CallSecond,
    CancelTimer,
    FlushPlayout,
    StartTimer,
    TalkToCaller,
    TalkToSecond,
    TellAgent,
    Transfer,
)
from gateway.call.events import Routed, SecondClosed, SecondDigit, SecondUp, TimerFired, TransferAsked, TransferEnded
from gateway.call.machine.barge_in import Speech
from gateway.call.machine.second_leg import SECOND, SecondLeg
from gateway.call.machine.tool_calls import Errands
from gateway.call.outcome import EndReason, Outcome

GOODBYE = "goodbye"
"""Timer: how long the agent's last words may take."""

TRANSFER = "transfer"
"""Timer: how long the far end may take to say what became of a transfer."""

TRANSFER_LIMIT_S = 30.0

BRIEFING = "briefing"
"""Timer: how long whoever answered the second leg may take to take the call."""

BRIEFING_LIMIT_S = 60.0

TAKE, DECLINE = "1", "2"


class _Stage(Enum):
    NONE = auto()
    LAST_WORDS = auto()
    REFERRED = auto()
    CALLING = auto()
    BRIEFING = auto()
    JOINED = auto()


@dataclass(frozen=True, slots=True)
class Join:
    """
    The agent has done its part: after these orders the caller is joined with the second leg.

    Attributes:
        orders: in their order.
        outcome: how the call ends when either of them leaves.
    """

    orders: tuple[CallAction, ...]
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Back:
    """The transfer failed because of ``cause``; after these orders the caller is with the agent again."""

    orders: tuple[CallAction, ...]
    asked: TransferAsked
    cause: str
    spoke: bool = False  # the agent spoke with somebody else meanwhile


Course = tuple[CallAction, ...] | Outcome | Join | Back
"""How a transfer goes on: orders, its success by REFER, a join, or its failure."""


class Handover:
    """
    The transfers of one call.

    Args:
        routed: how to transfer, and the limits.
        speech: the agent's speech and ears.
        errands: the filler.
        second: the second leg.
    """

    def __init__(self, routed: Routed, speech: Speech, errands: Errands, second: SecondLeg) -> None:
        self._policy = routed.transfers
        self._goodbye_limit_s = routed.goodbye_limit_s
        self._ring_limit_s = routed.ring_limit_s
        self._speech = speech
        self._errands = errands
        self._stage = _Stage.NONE
        self._second = second
        self._asked: TransferAsked | None = None
        self._given_up: TransferAsked | None = None  # by REFER, and not heard of in time
        self._alone = False  # the agent is gone

    @property
    def under_way(self) -> bool:
        """A transfer was asked for and has neither failed nor ended the call."""
        return self._asked is not None

    @property
    def awaits_words(self) -> bool:
        """The transfer waits until the last words were heard."""
        return self._stage is _Stage.LAST_WORDS

    def ask(self, asked: TransferAsked) -> tuple[CallAction, ...]:
        """Transfer the caller once the last words were heard."""
        self._asked, self._stage = asked, _Stage.LAST_WORDS
        return AwaitPlayedOut(), StartTimer(GOODBYE, self._goodbye_limit_s)

    def ask_at_once(self, asked: TransferAsked) -> Course:
        """Transfer the caller without last words."""
        self._asked, self._stage = asked, _Stage.LAST_WORDS
        return self._send(asked)

    def words_heard(self) -> Course:
        """Go on: everything the agent said was heard."""
        if self._asked is None or self._stage is not _Stage.LAST_WORDS:
            return ()
        return _after((CancelTimer(GOODBYE),), self._send(self._asked))

    def words_overdue(self, event: TimerFired) -> Course:
        """Go on: they took too long."""
        if self._asked is None or self._stage is not _Stage.LAST_WORDS:
            return ()
        return self._send(self._asked, event.at)

    def lose_agent(self) -> Course:
        """Go on without the agent: whoever answers is joined with the caller, there is nobody to say more."""
        self._alone = True
        if self._asked is None or self._stage is not _Stage.BRIEFING:
            return ()
        return self._join(self._asked, (CancelTimer(BRIEFING),))

    # By REFER

    def refer_ended(self, event: TransferEnded) -> Course:
        """Take the end of a REFER, or of what came of it, however late."""
        given_up = self._given_up
        if self._asked is None and given_up is not None and 200 <= event.code < 300:
            return Outcome(EndReason.TRANSFERRED, given_up.target, 200)
        if self._asked is None or self._stage is not _Stage.REFERRED:
            return ()
        if 200 <= event.code < 300:
            return Outcome(EndReason.TRANSFERRED, self._asked.target, 200)
        stopped = (CancelTimer(TRANSFER),)
        # A target that was called and is busy would be busy for us, too.
        if event.refused and self._policy == "refer_or_bridge":
            return _after(stopped, self._call(self._asked))
        return self._back(stopped, f"{event.code} {event.reason}".rstrip())

    def refer_overdue(self) -> Course:
        """Give up waiting for news of a transfer: it may still go through, and be told so later."""
        self._given_up = self._asked
        return self._back((), f"no answer within {TRANSFER_LIMIT_S:g} s")

    # Over a second leg

    def second_up(self, event: SecondUp) -> Course:
        """Take the answer of whoever was called."""
        if self._asked is None or self._stage is not _Stage.CALLING:
            return ()
        stopped = (CancelTimer(SECOND),)
        if self._alone or not self._asked.warm:
            return self._join(self._asked, stopped)
        self._stage = _Stage.BRIEFING
        return (
            *stopped,
            *self._errands.calling(calling=False),
            *self._speech.stop(event.at),
            TalkToSecond(),
            *self._speech.turn_to_second(deaf=False),
            TellAgent(_briefing(self._asked), respond=True),
            StartTimer(BRIEFING, BRIEFING_LIMIT_S),
        )

    def second_digit(self, event: SecondDigit) -> Course:
        """Take the decision of whoever the agent speaks with."""
        if self._asked is None or self._stage is not _Stage.BRIEFING or event.digit not in (TAKE, DECLINE):
            return ()
        stopped = (CancelTimer(BRIEFING),)
        if event.digit == TAKE:
            return self._join(self._asked, stopped)
        return self._back(stopped, "they declined the call", event)

    def second_closed(self, event: SecondClosed) -> Course:
        """Take the end of the second leg."""
        if not self._second.closed() or self._asked is None:
            return ()
        if self._stage is _Stage.CALLING:
            return self._back((CancelTimer(SECOND),), f"{event.code} {event.reason}".rstrip(), event)
        if self._stage is _Stage.BRIEFING:
            return self._back((CancelTimer(BRIEFING),), "they hung up", event)
        return ()

    def second_overdue(self, event: TimerFired) -> Course:
        """Give up a target that does not answer."""
        return self._back((), f"no answer within {self._ring_limit_s:g} s", event)

    def briefing_overdue(self, event: TimerFired) -> Course:
        """Give up somebody who does not decide."""
        return self._back((), f"they did not take the call within {BRIEFING_LIMIT_S:g} s", event)

    def _send(self, asked: TransferAsked, at: PlayoutPosition | None = None) -> Course:
        if asked.warm or self._policy == "bridge":
            return self._call(asked, at)
        self._stage = _Stage.REFERRED
        return Transfer(asked.target), StartTimer(TRANSFER, TRANSFER_LIMIT_S)

    def _call(self, asked: TransferAsked, at: PlayoutPosition | None = None) -> Course:
        if not self._second.is_free:
            return self._back((), "the call to somebody else before it is still being ended")
        self._stage = _Stage.CALLING
        called = (*self._second.call(CallSecond(asked.target)), StartTimer(SECOND, self._ring_limit_s))
        if asked.warm:  # the caller stays with the agent while it rings
            return (*called, *self._errands.calling(calling=True))
        # The caller hears that it rings; the agent is not to answer announcements.
        cut = self._speech.stop(at)
        return (*called, *cut, TalkToSecond(), *self._speech.turn_to_second(deaf=True))

    def _join(self, asked: TransferAsked, stopped: tuple[CallAction, ...]) -> Join:
        self._stage = _Stage.JOINED
        orders = (*stopped, *self._errands.close(), FlushPlayout())
        return Join(orders, Outcome(EndReason.TRANSFERRED, asked.target, 200))

    def _back(
        self, stopped: tuple[CallAction, ...], cause: str, event: SecondDigit | SecondClosed | TimerFired | None = None
    ) -> Course:
        """Return to the caller, whatever was reached so far."""
        asked, stage = self._asked, self._stage
        if asked is None:
            return ()
        if self._alone:  # nobody is left to return to: the call's end lets go of it all
            return Back((), asked, cause)
        self._asked, self._stage = None, _Stage.NONE
        orders = stopped
        if stage is _Stage.CALLING:
            orders += self._errands.calling(calling=False)
        if stage is _Stage.BRIEFING and event is not None:  # what was meant for others is not for the caller
            orders += self._speech.stop(event.at)
        if self._speech.with_second:
            orders += (TalkToCaller(), *self._speech.turn_to_caller())
        return Back((*orders, *self._second.drop()), asked, cause, spoke=stage is _Stage.BRIEFING)


def _after(orders: tuple[CallAction, ...], course: Course) -> Course:
    """Put orders before what comes of a transfer's next step."""
    match course:
        case tuple():
            return (*orders, *course)
        case Back():
            return Back((*orders, *course.orders), course.asked, course.cause, course.spoke)
        case _:
            return course


def _briefing(asked: TransferAsked) -> str:
    summary = asked.summary or "who is calling, and why."
    return (
        f"You now speak with {asked.target}, not with the caller, who is waiting and does not hear you. "
        f"Tell them: {summary} Ask them to press {TAKE} to take the call or {DECLINE} to decline it."
    )
