"""
What a call does while its phase stays the same: it listens, waits for last words, transfers, records, counts keys.

A part of ``CallMachine`` and as pure: facts in, orders out. Its own parts, by subject: ``speech.py`` (interruptions,
hold), ``errands.py`` (tools, the filler), ``keypad.py`` (keys), ``handover.py`` (transfers, the second leg),
``recording.py`` (with what has to be said before it).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from gateway.call.actions import (
    AnswerTool,
    AwaitPlayedOut,
    CallAction,
    CancelTimer,
    FlushPlayout,
    Greet,
    Note,
    PauseRecording,
    Play,
    SayGoodbye,
    SendDigits,
    StartTimer,
    TalkToCaller,
    TellAgent,
)
from gateway.call.events import (
    AgentAway,
    AgentBack,
    AgentExpiring,
    AnnouncementFailed,
    AnnouncementSaid,
    AnswerCame,
    AnswerLate,
    ApologyAsked,
    CallEvent,
    DigitPressed,
    DigitsAsked,
    HangUpAsked,
    LeaveMessageAsked,
    McpCallBegan,
    McpCallEnded,
    PlayedOut,
    RecordingAsked,
    RecordingFailed,
    Routed,
    SecondClosed,
    SecondDigit,
    SecondRinging,
    SecondUp,
    SpeechStarted,
    SpeechStopped,
    TimerFired,
    ToolAsked,
    ToolFinished,
    TransferAsked,
    TransferEnded,
    WaitAsked,
)
from gateway.call.machine.barge_in import GUARD, Speech
from gateway.call.machine.dtmf import KEYS, KeyCollector
from gateway.call.machine.recording import Recording
from gateway.call.machine.second_leg import SECOND, SecondLeg
from gateway.call.machine.tool_calls import FILLER, Errands
from gateway.call.machine.transfer import BRIEFING, GOODBYE, TRANSFER, Back, Course, Handover, Join
from gateway.call.outcome import EndReason, Outcome
from gateway.call.steps import Step, TalkTo

MESSAGE_LIMIT_S = 120.0
"""The longest message that is left in a voicemail: the voicemail itself would not take much more."""

GOES_ON = (
    "The caller began to speak before the call ended, so the call goes on. "
    "Answer, and call hang_up again when the conversation is over."
)
ENDS_ALL_THE_SAME = (
    "The caller spoke over the goodbye. The call has to end all the same: answer in one sentence and say goodbye."
)


@dataclass(frozen=True, slots=True)
class Take:
    """The agent has done its part: the call goes on with this step, because of ``cause``."""

    step: Step
    cause: str


Reply = tuple[CallAction, ...] | Outcome | Join | Take
"""What a rule answers with: orders, the outcome the call is to end with now, or with whom it goes on instead."""


class Talk:
    """
    Decides what happens as long as an agent speaks with the caller.

    Args:
        routed: the limits of this call.
        second: the second leg.
        step: the dialplan's step that the agent was chosen for; None when there is none.
    """

    def __init__(self, routed: Routed, second: SecondLeg, step: TalkTo | None = None) -> None:
        self._routed = routed
        self._second = second
        self._prompt = "" if step is None else step.prompt
        self._steps: Mapping[str, Step] = {} if step is None else step.keys
        self._speech = Speech(routed.guard_ms / 1000)
        self._errands = Errands(routed.tool_filler_after_s)
        self._keys = KeyCollector(routed.keypad)
        self._handover = Handover(routed, self._speech, self._errands, second)
        self._expiring_early: AgentExpiring | None = None
        self._leaving: Outcome | None = None  # with which the call ends once the last words are heard
        self._spoken_over = False  # the caller spoke since the last words were awaited
        self._overdue: tuple[Outcome, str] | None = None  # what else ends the call if the hang-up or transfer is off
        self._lost: Outcome | None = None  # the agent is gone, its last words are not
        self._recording = Recording(routed)

    # Before the talk, at its beginning and its end

    def expires_early(self, event: AgentExpiring) -> None:
        """Keep in mind that the agent has no time left, though the call is not up yet."""
        self._expiring_early = event

    def begin(self, *, on_hold: bool) -> tuple[CallAction, ...]:
        """Open the talk: the media is up."""
        expiring = self._expiring_early
        begun = self._recording.begin(Greet(self._prompt) if expiring is None else None)
        goodbye = () if expiring is None else self._leave(*_expired(expiring))
        return (*begun, *goodbye, *(self._speech.hold() if on_hold else ()))

    def handle(self, event: CallEvent) -> Reply:
        """Take one fact of those in ``RULES``."""
        return self.RULES[type(event)](self, event)

    def timer_fired(self, event: TimerFired) -> Reply:
        """Take the end of one of the timers of a talk."""
        return self._TIMERS[event.name](self, event)

    def leave(self, outcome: Outcome, detail: str) -> Reply:
        """
        End the call once the agent has said goodbye; ``detail`` tells it why.

        A hang-up or a transfer under way goes first.
        """
        if self._leaving is not None or self._handover.under_way:
            self._overdue = self._overdue or (outcome, detail)
            return ()
        return outcome if self._speech.on_hold else self._leave(outcome, detail)  # on hold nobody would hear it

    def lose_agent(self, outcome: Outcome) -> Reply:
        """End the call, but let last words that are on their way to the caller be heard."""
        if self._leaving is None and not self._handover.under_way:
            return outcome
        self._lost = outcome
        reply = self._go_on(self._handover.lose_agent())
        return (*self._speech.let_go(), *reply, *self._await_anew()) if isinstance(reply, tuple) else reply

    def lose_media(self, outcome: Outcome) -> Reply:
        """End the call, unless silence is what must be expected: on hold, or of a voicemail that listens."""
        message = self._leaving is not None and self._leaving.reason is EndReason.MESSAGE_LEFT
        return () if message or self._speech.on_hold else outcome

    def close(self) -> tuple[CallAction, ...]:
        """Let go of what sounds."""
        return self._errands.close()

    def part(self) -> tuple[CallAction, ...]:
        """Leave the caller to the dialplan's next step: nothing of this agent is to be heard, or recorded, there."""
        back = (TalkToCaller(),) if self._speech.with_second else ()
        pause = (PauseRecording(),) if self._recording.runs else ()
        return (FlushPlayout(), *self._errands.close(), *back, *self._second.drop(), *pause)

    # Interruption and hold

    def hold(self) -> tuple[CallAction, ...]:
        """Pause: the caller put us on hold."""
        return (*self._speech.hold(), *self._await_anew())

    def resume(self) -> tuple[CallAction, ...]:
        """Go on: the caller listens again."""
        return self._speech.resume()

    def _speech_started(self, event: SpeechStarted) -> Reply:
        before = self._speech.interrupted
        parting = self._leaving is not None or self._handover.awaits_words
        orders = self._speech.started(event, parting=parting)
        self._spoken_over |= self._speech.caller_speaks
        if self._speech.interrupted:
            self._recording.cut(cancelled=False)
        return orders if before else (*orders, *self._give_way())

    def _speech_stopped(self, _event: SpeechStopped) -> Reply:
        return (*self._speech.let_go(), *self._await_anew())

    def _guard_fired(self, event: TimerFired) -> Reply:
        self._recording.cut(cancelled=True)
        return (*self._speech.guard_fired(event.at), *self._give_way())

    def _give_way(self) -> tuple[CallAction, ...]:
        """
        Hear a caller who interrupts the goodbye.

        A hang-up that the agent itself wanted is given up. Where the call must end it ends once the caller was
        answered, within the time that the goodbye has.
        """
        if self._leaving is None or not self._speech.interrupted:
            return ()
        if self._leaving.reason is not EndReason.AGENT_HUNG_UP:
            return (TellAgent(ENDS_ALL_THE_SAME, respond=False),)
        given_up = Note("hang_up_given_up", {})
        if self._overdue is not None:
            (self._leaving, _), self._overdue = self._overdue, None
            return given_up, TellAgent(ENDS_ALL_THE_SAME, respond=False)
        self._leaving = None
        return CancelTimer(GOODBYE), given_up, TellAgent(GOES_ON, respond=False)

    def _await_anew(self) -> tuple[CallAction, ...]:
        """Wait for quiet again once a turn of the caller is over, which the agent may answer."""
        if not self._spoken_over or self._speech.caller_speaks:
            return ()
        self._spoken_over = False
        parting = self._leaving is not None or self._handover.awaits_words
        return (AwaitPlayedOut(),) if parting else self._recording.await_quiet()

    # Keys

    def _digit_pressed(self, event: DigitPressed) -> Reply:
        """Take a key of the caller's, unless it cannot be meant for the agent: hold music has tones too."""
        elsewhere = self._speech.on_hold or self._speech.with_second
        if self._leaving is not None or self._lost is not None or elsewhere:
            return ()
        if (step := self._chosen(event.digit)) is not None:
            return Take(step, f"key {event.digit}")
        if not self._keys.counts(event.digit):
            return ()
        target = self._keys.shortcut(event.digit)
        if target is not None and self._parting() is not None:
            return ()
        self._recording.cut(cancelled=True)
        cut = self._speech.stop(event.at)
        if target is None:
            told = self._keys.add(event.digit, respond=self._parting() is None)
            return (*cut, *told, *self._recording.await_quiet())
        reply = self._go_on(self._handover.ask_at_once(TransferAsked(event.call_id, "", target)))
        return (*cut, *reply) if isinstance(reply, tuple) else reply

    def _chosen(self, digit: str) -> Step | None:
        """Return the step that a key is for. A key in the midst of a number belongs to the number."""
        return None if self._parting() is not None or self._keys.collecting else self._steps.get(digit)

    def _keys_fired(self, _event: TimerFired) -> Reply:
        told = self._keys.tell(respond=self._parting() is None and not self._speech.on_hold)
        return (*told, *self._recording.await_quiet()) if self._lost is None else ()

    # The end of the call, and transfers

    def _hang_up_asked(self, event: HangUpAsked) -> Reply:
        if (refusal := self._refusal(event.tool_call_id)) is not None:
            return refusal
        self._leaving = Outcome(EndReason.AGENT_HUNG_UP, event.reason, 200)
        return (AnswerTool(event.tool_call_id, "ok", respond=False), *self._await_words(self._routed.goodbye_limit_s))

    def _leave_message_asked(self, event: LeaveMessageAsked) -> Reply:
        if (refusal := self._refusal(event.tool_call_id)) is not None:
            return refusal
        self._leaving = Outcome(EndReason.MESSAGE_LEFT, "the agent left a message", 200)
        words = "Say the message now, in one go; the call ends after it."
        answer = AnswerTool(event.tool_call_id, words, respond=True)
        # A voicemail goes on talking, and beeps: nothing of it is to cut the message off.
        return (*self._speech.deafen(), answer, *self._await_words(MESSAGE_LIMIT_S))

    def _transfer_asked(self, event: TransferAsked) -> Reply:
        if event.tool_call_id and (refusal := self._refusal(event.tool_call_id)) is not None:
            return refusal
        return () if self._parting() is not None else self._handover.ask(event)

    def _refusal(self, tool_call_id: str) -> tuple[CallAction, ...] | None:
        """Return what to answer to a wish that cannot be fulfilled; None when it can."""
        if not self._errands.is_new(tool_call_id):
            return ()
        words = self._parting()
        return None if words is None else (AnswerTool(tool_call_id, words, respond=False),)

    def _parting(self) -> str | None:
        """Return why the call cannot be ended or transferred once more."""
        if self._leaving is not None:
            return "Error: the call is ending already."
        return "Error: a transfer is under way already." if self._handover.under_way else None

    def _leave(self, outcome: Outcome, detail: str) -> tuple[CallAction, ...]:
        self._leaving = outcome
        return (SayGoodbye(detail), *self._await_words(self._routed.goodbye_limit_s))

    def _await_words(self, limit_s: float) -> tuple[CallAction, ...]:
        self._spoken_over = self._speech.caller_speaks
        return AwaitPlayedOut(), StartTimer(GOODBYE, limit_s)

    def _played_out(self, event: PlayedOut) -> Reply:
        if event.mark or self._speech.caller_speaks:  # of sounds from before the agent came; or too early
            return ()
        if self._leaving is not None or self._handover.under_way:
            return self._leaving or self._go_on(self._handover.words_heard())
        return () if self._keys.collecting else self._recording.quiet()

    def _goodbye_fired(self, event: TimerFired) -> Reply:
        return self._leaving or self._go_on(self._handover.words_overdue(event))

    def _go_on(self, course: Course) -> Reply:
        """Do as a transfer says; after one that failed go on, if there is still somebody to go on with."""
        if not isinstance(course, Back):
            return course
        if self._lost is not None:
            return self._lost
        overdue, self._overdue = self._overdue, None
        here = "You speak with the caller again." if course.spoke else "The caller is still here."
        words, asked = f"The transfer failed: {course.cause}. {here}", course.asked
        told = (
            AnswerTool(asked.tool_call_id, words, respond=overdue is None)
            if asked.tool_call_id
            else TellAgent(words, respond=overdue is None)
        )
        self._recording.cut(cancelled=True)  # what was to be heard before was not, or not by the caller
        if overdue is None:
            return (*course.orders, told, *self._recording.await_quiet())
        return (*course.orders, told, *self._leave(*overdue))

    def _agent_expiring(self, event: AgentExpiring) -> Reply:
        return self.leave(*_expired(event))

    # What the agent asks for besides

    def _tool_asked(self, event: ToolAsked) -> Reply:
        return self._errands.run(event) if self._errands.is_new(event.tool_call_id) else ()

    def _tool_finished(self, event: ToolFinished) -> Reply:
        return self._errands.finished(event)

    def _digits_asked(self, event: DigitsAsked) -> Reply:
        if not self._errands.is_new(event.tool_call_id):
            return ()
        return SendDigits(event.digits), AnswerTool(event.tool_call_id, "sent")

    def _wait_asked(self, event: WaitAsked) -> Reply:
        if not self._errands.is_new(event.tool_call_id):
            return ()
        return (AnswerTool(event.tool_call_id, "waiting", respond=False),)

    def _recording_asked(self, event: RecordingAsked) -> Reply:
        if not self._errands.is_new(event.tool_call_id):
            return ()
        return self._recording.asked(event)

    def _recording_failed(self, _event: RecordingFailed) -> Reply:
        self._recording.failed()
        return ()

    def _filler_fired(self, _event: TimerFired) -> Reply:
        return self._errands.filler_fired()

    def _apology_asked(self, event: ApologyAsked) -> Reply:
        """Let the caller hear that the agent cannot answer; not somebody else, and not a caller on hold."""
        stopped = self._errands.late(late=False)
        elsewhere = self._speech.on_hold or self._speech.with_second
        return stopped if elsewhere else (*stopped, Play((event.sound,)))

    def _agent_away(self, _event: AgentAway) -> Reply:
        return (*self._speech.let_go(), *self._await_anew(), *self._errands.away(away=True))

    def _agent_back(self, _event: AgentBack) -> Reply:
        return self._errands.away(away=False)

    RULES: ClassVar[Mapping[type[CallEvent], Callable[[Talk, Any], Reply]]] = {
        SpeechStarted: _speech_started,
        SpeechStopped: _speech_stopped,
        DigitPressed: _digit_pressed,
        HangUpAsked: _hang_up_asked,
        LeaveMessageAsked: _leave_message_asked,
        TransferAsked: _transfer_asked,
        TransferEnded: lambda self, event: self._go_on(self._handover.refer_ended(event)),
        SecondRinging: lambda _self, _event: (),
        SecondUp: lambda self, event: self._go_on(self._handover.second_up(event)),
        SecondDigit: lambda self, event: self._go_on(self._handover.second_digit(event)),
        SecondClosed: lambda self, event: self._go_on(self._handover.second_closed(event)),
        PlayedOut: _played_out,
        AgentExpiring: _agent_expiring,
        ToolAsked: _tool_asked,
        ToolFinished: _tool_finished,
        McpCallBegan: lambda self, event: self._errands.mcp_began(event),
        McpCallEnded: lambda self, event: self._errands.mcp_ended(event),
        DigitsAsked: _digits_asked,
        WaitAsked: _wait_asked,
        RecordingAsked: _recording_asked,
        AnnouncementSaid: lambda self, _event: self._recording.said(),
        AnnouncementFailed: lambda self, event: self._recording.give_up(event.detail),
        RecordingFailed: _recording_failed,
        AgentAway: _agent_away,
        AgentBack: _agent_back,
        AnswerLate: lambda self, _event: self._errands.late(late=True),
        AnswerCame: lambda self, _event: self._errands.late(late=False),
        ApologyAsked: _apology_asked,
    }

    _TIMERS: ClassVar[Mapping[str, Callable[[Talk, TimerFired], Reply]]] = {
        GUARD: _guard_fired,
        KEYS: _keys_fired,
        GOODBYE: _goodbye_fired,
        FILLER: _filler_fired,
        TRANSFER: lambda self, _event: self._go_on(self._handover.refer_overdue()),
        SECOND: lambda self, event: self._go_on(self._handover.second_overdue(event)),
        BRIEFING: lambda self, event: self._go_on(self._handover.briefing_overdue(event)),
    }


def _expired(event: AgentExpiring) -> tuple[Outcome, str]:
    """Return how a call ends whose agent has no time left, and the words for it."""
    outcome = Outcome(EndReason.SESSION_EXPIRED, f"the agent's session had {event.left_s:g} s left")
    return outcome, "the longest time for a conversation is over"
