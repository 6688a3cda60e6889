"""
What a call holds beside its phase: speech that is held, last words that are being heard, tools that run, the filler.

A part of ``CallMachine`` and as pure: facts in, orders out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from gateway.call.actions import (
    AnswerTool,
    AwaitPlayedOut,
    CallAction,
    CancelResponse,
    CancelTimer,
    FlushPlayout,
    PausePlayout,
    ResumePlayout,
    RunTool,
    SayGoodbye,
    SendDigits,
    StartFiller,
    StartTimer,
    StopFiller,
    Transfer,
    Truncate,
)
from gateway.call.events import (
    AgentAway,
    AgentBack,
    AgentExpiring,
    CallEvent,
    DigitsAsked,
    HangUpAsked,
    PlayedOut,
    Routed,
    SpeechStarted,
    SpeechStopped,
    TimerFired,
    ToolAsked,
    ToolFinished,
    TransferAsked,
    TransferEnded,
    WaitAsked,
)
from gateway.call.outcome import EndReason, Outcome

GUARD = "guard"
"""Timer: how long the caller's speech may be taken for a false start."""

GOODBYE = "goodbye"
"""Timer: how long the agent's last words may take."""

TRANSFER = "transfer"
"""Timer: how long the far end may take to say what became of a transfer."""

FILLER = "filler"
"""Timer: how long a tool may run in silence."""

TRANSFER_LIMIT_S = 30.0

Reply = tuple[CallAction, ...] | Outcome
"""What a rule answers with: orders, or the outcome with which the call is to end now."""


class Talk:
    """
    Decides what happens between two changes of a call's phase.

    Args:
        routed: the limits of this call.
    """

    def __init__(self, routed: Routed) -> None:
        self._guard_s = routed.guard_ms / 1000
        self._goodbye_limit_s = routed.goodbye_limit_s
        self._filler_after_s = routed.tool_filler_after_s
        self._held = False  # playout is paused until the guard tells a false start from speech
        self._leaving: Outcome | None = None  # with which the call ends once the last words are heard
        self._transfer: TransferAsked | None = None
        self._transfer_sent = False
        self._overdue: tuple[Outcome, str] | None = None  # what else ends the call if the transfer fails
        self._lost: Outcome | None = None  # the agent is gone, its last words are not
        self._asked: set[str] = set()  # every tool call, so that none is answered twice
        self._running: set[str] = set()  # tools that have not finished
        self._patient = False  # the filler's timer runs
        self._slow = False  # it ran out
        self._away = False
        self._filler_on = False

    def handle(self, event: CallEvent) -> Reply:
        """Take one fact of those in ``RULES``."""
        return self.RULES[type(event)](self, event)

    def timer_fired(self, event: TimerFired) -> Reply:
        """Take the end of one of the timers of this file."""
        return self._TIMERS[event.name](self, event)

    def leave(self, outcome: Outcome, detail: str) -> Reply:
        """End the call once the agent has said goodbye; ``detail`` tells it why. A transfer under way goes first."""
        if self._leaving is not None:
            return ()
        if self._transfer is not None:
            self._overdue = self._overdue or (outcome, detail)
            return ()
        self._leaving = outcome
        return (SayGoodbye(detail), *self._await_goodbye())

    def lose_agent(self, outcome: Outcome) -> Reply:
        """End the call, but let last words that are on their way to the caller be heard."""
        if self._leaving is None and self._transfer is None:
            return outcome
        self._lost = outcome
        return self._let_go()

    def close(self) -> tuple[CallAction, ...]:
        """Let go of what sounds."""
        filler_on, self._filler_on = self._filler_on, False
        return (StopFiller(),) if filler_on else ()

    # Interruption

    def _speech_started(self, event: SpeechStarted) -> Reply:
        if not event.interrupts:
            return ()
        if not self._guard_s:
            return _cut(event.item_id, event.played_ms)
        if self._held or (event.item_id is None and not event.responding):
            return ()
        self._held = True
        return PausePlayout(), StartTimer(GUARD, self._guard_s)

    def _speech_stopped(self, _event: SpeechStopped) -> Reply:
        return self._let_go()

    def _let_go(self) -> tuple[CallAction, ...]:
        """Go on with held speech: it was a false start, or nobody is left who could tell."""
        if not self._held:
            return ()
        self._held = False
        return CancelTimer(GUARD), ResumePlayout()

    def _guard_fired(self, event: TimerFired) -> Reply:
        self._held = False
        return (CancelResponse(), *_cut(event.item_id, event.played_ms))

    # Last words

    def _hang_up_asked(self, event: HangUpAsked) -> Reply:
        if not self._is_new(event.tool_call_id):
            return ()
        if (refusal := self._parting()) is not None:
            return (AnswerTool(event.tool_call_id, refusal, respond=False),)
        self._leaving = Outcome(EndReason.AGENT_HUNG_UP, event.reason, 200)
        return (AnswerTool(event.tool_call_id, "ok", respond=False), *self._await_goodbye())

    def _transfer_asked(self, event: TransferAsked) -> Reply:
        if not self._is_new(event.tool_call_id):
            return ()
        if (refusal := self._parting()) is not None:
            return (AnswerTool(event.tool_call_id, refusal, respond=False),)
        self._transfer = event
        return self._await_goodbye()

    def _parting(self) -> str | None:
        """Return why the call cannot be ended or transferred once more."""
        if self._leaving is not None:
            return "Error: the call is ending already."
        return "Error: a transfer is under way already." if self._transfer is not None else None

    def _await_goodbye(self) -> tuple[CallAction, ...]:
        return AwaitPlayedOut(), StartTimer(GOODBYE, self._goodbye_limit_s)

    def _played_out(self, _event: PlayedOut) -> Reply:
        if self._leaving is not None:
            return self._leaving
        if self._transfer is None or self._transfer_sent:
            return ()
        return (CancelTimer(GOODBYE), *self._send_transfer(self._transfer))

    def _goodbye_fired(self, _event: TimerFired) -> Reply:
        if self._leaving is not None:
            return self._leaving
        return self._send_transfer(self._transfer) if self._transfer is not None else ()

    def _send_transfer(self, asked: TransferAsked) -> tuple[CallAction, ...]:
        self._transfer_sent = True
        return Transfer(asked.target), StartTimer(TRANSFER, TRANSFER_LIMIT_S)

    def _transfer_ended(self, event: TransferEnded) -> Reply:
        if self._transfer is None or not self._transfer_sent:
            return ()
        if 200 <= event.code < 300:
            return Outcome(EndReason.TRANSFERRED, self._transfer.target, 200)
        reply = self._stay(self._transfer, f"{event.code} {event.reason}".rstrip())
        return reply if isinstance(reply, Outcome) else (CancelTimer(TRANSFER), *reply)

    def _transfer_fired(self, _event: TimerFired) -> Reply:
        if self._transfer is None:
            return ()
        return self._stay(self._transfer, f"no answer within {TRANSFER_LIMIT_S:g} s")

    def _stay(self, asked: TransferAsked, cause: str) -> Reply:
        """Go on after a transfer that failed, if there is still somebody to go on with."""
        self._transfer, self._transfer_sent = None, False
        if self._lost is not None:
            return self._lost
        overdue, self._overdue = self._overdue, None
        words = f"The transfer failed: {cause}. The caller is still here."
        answer = AnswerTool(asked.tool_call_id, words, respond=overdue is None)
        if overdue is None:
            return (answer,)
        self._leaving, detail = overdue
        return (answer, SayGoodbye(detail), *self._await_goodbye())

    def _agent_expiring(self, event: AgentExpiring) -> Reply:
        outcome = Outcome(EndReason.SESSION_EXPIRED, f"the agent's session had {event.left_s:g} s left")
        return self.leave(outcome, "the longest time for a conversation is over")

    # Tools

    def _tool_asked(self, event: ToolAsked) -> Reply:
        if not self._is_new(event.tool_call_id):
            return ()
        self._running.add(event.tool_call_id)
        run = RunTool(event.tool_call_id, event.name, event.arguments)
        if self._filler_after_s is None or self._patient or self._slow:
            return (run,)
        self._patient = True
        return run, StartTimer(FILLER, self._filler_after_s)

    def _tool_finished(self, event: ToolFinished) -> Reply:
        if event.tool_call_id not in self._running:
            return ()
        self._running.remove(event.tool_call_id)
        answer = AnswerTool(event.tool_call_id, event.output)
        if self._running:
            return (answer,)
        stop_timer = (CancelTimer(FILLER),) if self._patient else ()
        self._patient = self._slow = False
        return (answer, *stop_timer, *self._filler())

    def _digits_asked(self, event: DigitsAsked) -> Reply:
        if not self._is_new(event.tool_call_id):
            return ()
        return SendDigits(event.digits), AnswerTool(event.tool_call_id, "sent")

    def _wait_asked(self, event: WaitAsked) -> Reply:
        if not self._is_new(event.tool_call_id):
            return ()
        return (AnswerTool(event.tool_call_id, "waiting", respond=False),)

    def _is_new(self, tool_call_id: str) -> bool:
        if tool_call_id in self._asked:
            return False
        self._asked.add(tool_call_id)
        return True

    # The filler

    def _filler_fired(self, _event: TimerFired) -> Reply:
        self._patient, self._slow = False, True
        return self._filler()

    def _agent_away(self, _event: AgentAway) -> Reply:
        self._away = True
        return (*self._let_go(), *self._filler())

    def _agent_back(self, _event: AgentBack) -> Reply:
        self._away = False
        return self._filler()

    def _filler(self) -> tuple[CallAction, ...]:
        wanted = self._away or self._slow
        if wanted is self._filler_on:
            return ()
        self._filler_on = wanted
        return (StartFiller() if wanted else StopFiller(),)

    RULES: ClassVar[Mapping[type[CallEvent], Callable[[Talk, Any], Reply]]] = {
        SpeechStarted: _speech_started,
        SpeechStopped: _speech_stopped,
        HangUpAsked: _hang_up_asked,
        TransferAsked: _transfer_asked,
        TransferEnded: _transfer_ended,
        PlayedOut: _played_out,
        AgentExpiring: _agent_expiring,
        ToolAsked: _tool_asked,
        ToolFinished: _tool_finished,
        DigitsAsked: _digits_asked,
        WaitAsked: _wait_asked,
        AgentAway: _agent_away,
        AgentBack: _agent_back,
    }

    _TIMERS: ClassVar[Mapping[str, Callable[[Talk, TimerFired], Reply]]] = {
        GUARD: _guard_fired,
        GOODBYE: _goodbye_fired,
        TRANSFER: _transfer_fired,
        FILLER: _filler_fired,
    }


def _cut(item_id: str | None, played_ms: int) -> tuple[CallAction, ...]:
    """Drop what waits; what was played to its end already is not told as cut."""
    if item_id is None:
        return (FlushPlayout(),)
    return FlushPlayout(), Truncate(item_id, played_ms)
