"""
What a dialplan wants done around the agent: announcements, menus, somebody else called, redirects, refusals.

One step at a time, with one timer at the most. A step ends with the next one, with an agent that is to be chosen, with
the caller joined to a second leg, or with the call. What a step needs comes first: a sound waits for the media, the
media for the answer. A step that fails is followed by its ``otherwise``, an agent that is lost likewise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from gateway.call import actions as do
from gateway.call import events as ev
from gateway.call.machine import legs
from gateway.call.machine.ending import answer_command, close_agent, end, join
from gateway.call.machine.phase import MAX_LENGTH, MENU, SECOND, SETUP, TRANSFER, TRANSFER_LIMIT_S, CallStage, Phase
from gateway.call.machine.playback import fall_silent, fill, flush, pause
from gateway.call.machine.state import CallState, Orders, SecondLegState, cancel_stage_timers, enter, start_timer
from gateway.call.outcome import EndReason, Fault, Outcome, Side, outcome_of_no_answer
from gateway.call.steps import Step, TalkTo

# The steps that need no agent; worker/compile.py makes them


@dataclass(frozen=True, slots=True)
class RefuseCall(Step):
    """Refuses the call with ``code`` and ``reason``, after ``sound`` as early media; ends an answered one by BYE."""

    code: int
    reason: str = ""
    sound: str = ""

    def story(self) -> Mapping[str, str]:
        """See ``Step``."""
        return {"action": "reject", "target": f"{self.code} {self.reason}".rstrip()}


@dataclass(frozen=True, slots=True)
class Redirect(Step):
    """302 with these contacts (RFC 3261 section 21.3.3); once answered, the caller is sent there by REFER."""

    contacts: tuple[str, ...]

    def story(self) -> Mapping[str, str]:
        """See ``Step``."""
        return {"action": "redirect", "target": ", ".join(self.contacts)}


@dataclass(frozen=True, slots=True)
class DialTo(Step):
    """
    A second leg is called and joined with the caller.

    Attributes:
        target: SIP or tel URI, or a number of the trunk's.
        ring_limit_s: how long it may ring; after that the step has failed.
        trunk: name of the trunk the call goes out through; empty leaves it to the SIP side.
        headers: extra headers of the INVITE.
        otherwise: the step taken if the call was not answered.
        caller_id: the number it shows: ``caller``, ``trunk`` or a number; empty leaves it to the trunk's settings.
        diverted_from: the number it says the call was diverted from: ``called``, ``nobody`` or a number.
    """

    target: str
    ring_limit_s: float = 45
    trunk: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    otherwise: Step | None = None
    caller_id: str = ""
    diverted_from: str = "called"

    def story(self) -> Mapping[str, str]:
        """See ``Step``."""
        return {"action": "dial", "target": self.target}


@dataclass(frozen=True, slots=True)
class PlaySounds(Step):
    """Sounds are played one after the other, then the step ``then`` is taken; ``early``: before the answer (183)."""

    sounds: tuple[str, ...]
    early: bool = False
    then: Step | None = None

    def story(self) -> Mapping[str, str]:
        """See ``Step``."""
        return {"action": "announce", "target": ", ".join(self.sounds)}


@dataclass(frozen=True, slots=True)
class Menu(Step):
    """
    A sound is played, and a key of the caller chooses the next step.

    Attributes:
        sound: the prompt.
        keys: key -> the step it chooses.
        timeout_s: how long to wait for a key after the prompt.
        retries: how often the prompt is repeated after silence or a key that chooses nothing.
        otherwise: the step taken if no key chose one.
    """

    sound: str
    keys: Mapping[str, Step]
    timeout_s: float = 5
    retries: int = 2
    otherwise: Step | None = None

    def story(self) -> Mapping[str, str]:
        """See ``Step``."""
        return {"action": "menu", "target": self.sound}


# From step to step


def planned(call: CallState, event: ev.Planned) -> Orders:
    """Take the first step of the dialplan."""
    if call.stage is CallStage.CHOOSING:
        return ()
    call.limits = event
    return take(call, event.step)


def take(call: CallState, step: Step, cause: str = "") -> Orders:
    """Leave the step before, whose end is the ``cause``, and take this one."""
    left = (*cancel_stage_timers(call), *fall_silent(call))
    call.ivr.step, call.ivr.tries, call.stage = step, 0, CallStage.NONE
    return (*left, _note(step, cause), *_begin(call, step))


def move_on(call: CallState, step: Step, cause: str) -> Orders:
    """Leave the agent, if there is one, and take the next step: nothing of this agent is heard, or recorded, there."""
    left = _part(call) if call.phase is Phase.ACTIVE else ()
    answered = answer_command(call, done=False, detail=f"the call went on without this agent: {cause}")
    orders = (*answered, *left, *fall_silent(call), *close_agent(call), *cancel_stage_timers(call))
    return (*orders, *take(call, step, cause))


def without_agent(call: CallState, outcome: Outcome) -> Orders:
    """Take the step for a call whose agent is not there, or end it."""
    agent = call.ivr.agent
    step = agent.otherwise if agent is not None else None
    if agent is not None and agent.full is not None and outcome.reason is EndReason.SESSIONS_FULL:
        step = agent.full
    if step is None:
        return end(call, outcome)
    if call.leg.up and MAX_LENGTH not in call.timers:  # it ran out while a transfer was under way
        return end(call, too_long(call))
    return move_on(call, step, f"{outcome.reason}: {outcome.detail}")


def too_long(call: CallState) -> Outcome:
    """Return how a call ends that has reached its longest permitted length."""
    return Outcome(EndReason.MAX_LENGTH, f"longer than {call.limits.max_length_s:g} s")


def choice_failed(call: CallState, event: ev.ChoiceFailed) -> Orders:
    """Go on without the agent that was to be chosen."""
    if call.stage is not CallStage.CHOOSING:
        return ()
    call.stage = CallStage.NONE
    outcome = Outcome(EndReason.INTERNAL_ERROR, event.detail, 500, fault=Fault.CONFIGURATION)
    return without_agent(call, outcome)


def _part(call: CallState) -> Orders:
    back = (do.TalkToCaller(),) if call.with_second else ()
    pause_recording = (do.PauseRecording(),) if call.agent.recording.runs else ()
    return (*flush(call), *fill(call, on=False), *back, *legs.drop_second(call), *pause_recording)


def _begin(call: CallState, step: Step) -> Orders:
    match step:
        case TalkTo():
            call.stage = CallStage.CHOOSING
            if call.phase is not Phase.ROUTING:
                enter(call, Phase.ATTENDING)
            return (do.ChooseAgent(step),)
        case RefuseCall(sound=""):
            return end(call, _refusal(step))
        case Redirect() if not call.leg.answered:
            contacts = ", ".join(step.contacts)
            phrase = "Moved Temporarily"
            return end(call, Outcome(EndReason.REDIRECTED, contacts, 302, phrase=phrase, contacts=step.contacts))
        case DialTo():
            return _dial(call, step)
        case RefuseCall() | PlaySounds(early=True):
            return _be_heard(call, early=True)
        case _:
            return _be_heard(call)


# Heard by the caller


def heard_early(call: CallState) -> Orders:
    """Go on if this was waited for: the caller hears us unanswered."""
    return _heard(call) if call.stage is CallStage.EARLY else ()


def heard(call: CallState) -> Orders:
    """Go on if this was waited for: audio flows both ways."""
    return _heard(call) if call.stage is CallStage.MEDIA else ()


def bridge_silence(call: CallState) -> Orders:
    """Let an answered caller hear a tone while a second leg is being called."""
    return fill(call, on=True) if call.leg.answered else ()


def hold(call: CallState) -> Orders:
    """Pause: the caller does not listen."""
    if call.stage is CallStage.KEY:
        return cancel_stage_timers(call)
    return pause(call, paused=True) if call.stage is CallStage.PLAYING else ()


def resume(call: CallState) -> Orders:
    """Go on: the caller listens again, and has the whole time for a key."""
    return (*pause(call, paused=False), *_await_key(call))


def set_up_overdue(call: CallState, _event: ev.TimerFired) -> Orders:
    """Go on without early media if the network blocks it; end a call that gets no media at all."""
    if call.stage is CallStage.EARLY:
        return _sounded(call)
    detail = f"no media within {call.limits.setup_limit_s:g} s"
    return end(call, Outcome(EndReason.SETUP_TIMEOUT, detail, fault=Fault.CARRIER))


def _be_heard(call: CallState, *, early: bool = False) -> Orders:
    """Go on as soon as the caller hears us."""
    enter(call, Phase.ATTENDING)
    if call.leg.up or (early and call.leg.early_up):
        return _heard(call)
    early = early and not call.leg.answered
    call.stage = CallStage.EARLY if early else CallStage.MEDIA
    orders = legs.progress(call) if early else legs.answer(call)
    return (*orders, *start_timer(call, SETUP, call.limits.setup_limit_s))


def _heard(call: CallState) -> Orders:
    """Do what the media was needed for."""
    stopped = cancel_stage_timers(call)
    match call.ivr.step:
        case PlaySounds(sounds=sounds):
            orders = _play(call, *sounds)
        case RefuseCall(sound=sound) | Menu(sound=sound):
            orders = _play(call, sound)
        case Redirect() as step:
            orders = _refer(call, step)
        case DialTo() as step:
            orders = (*fall_silent(call), *join(call, _connected(step)))
        case _:
            orders = ()
    return (*stopped, *orders)


# Sounds and keys


def played_out(call: CallState, event: ev.PlayedOut) -> Orders:
    """Go on after the sounds of this step."""
    if call.stage is not CallStage.PLAYING or event.mark != call.ivr.mark:
        return ()
    call.stage = CallStage.NONE
    return _sounded(call)


def digit_pressed(call: CallState, event: ev.DigitPressed) -> Orders:
    """Take a key of a menu's; hold music has tones, too."""
    step = call.ivr.step
    listening = call.stage in (CallStage.PLAYING, CallStage.KEY) and not call.leg.on_hold
    if not isinstance(step, Menu) or not listening:
        return ()
    chosen = step.keys.get(event.digit)
    return _ask_again(call, step) if chosen is None else take(call, chosen, f"key {event.digit}")


def menu_fired(call: CallState, _event: ev.TimerFired) -> Orders:
    """Ask again: no key came."""
    return _ask_again(call, call.ivr.step) if isinstance(call.ivr.step, Menu) else ()


def _play(call: CallState, *sounds: str) -> Orders:
    call.stage = CallStage.PLAYING
    call.ivr.mark += 1
    paused = hold(call) if call.leg.on_hold else ()
    return (do.Play(sounds), *paused, do.AwaitPlayedOut(call.ivr.mark))


def _sounded(call: CallState) -> Orders:
    match call.ivr.step:
        case RefuseCall() as step:
            return end(call, _refusal(step))
        case PlaySounds(then=Step() as following):
            return take(call, following)
        case PlaySounds():
            code = 200 if call.leg.answered else 480
            return end(call, Outcome(EndReason.COMPLETED, "the announcement was played", code))
        case _:
            call.stage = CallStage.KEY
            return _await_key(call)


def _await_key(call: CallState) -> Orders:
    step = call.ivr.step
    if call.stage is not CallStage.KEY or MENU in call.timers or call.leg.on_hold or not isinstance(step, Menu):
        return ()
    return start_timer(call, MENU, step.timeout_s)


def _ask_again(call: CallState, step: Menu) -> Orders:
    """Play the prompt once more: no key came, or another."""
    call.ivr.tries += 1
    if call.ivr.tries <= step.retries:
        left = (*cancel_stage_timers(call), *fall_silent(call))
        return (*left, *_play(call, step.sound))
    cause = "no key was pressed"
    if step.otherwise is not None:
        return take(call, step.otherwise, cause)
    return (*cancel_stage_timers(call), *end(call, Outcome(EndReason.COMPLETED, cause, 200)))


# Somebody else


def second_up(call: CallState, _event: ev.SecondUp) -> Orders:
    """Connect the caller, who may have to be answered first, with the person who was called."""
    if call.stage is not CallStage.CALLING:
        return ()
    stopped = cancel_stage_timers(call)
    return (*stopped, *_be_heard(call))


def second_closed(call: CallState, event: ev.SecondClosed) -> Orders:
    """Call the next one, now that the leg is free; or go on without the one who was called."""
    was_open, step = legs.second_closed(call), call.ivr.step
    if not isinstance(step, DialTo):
        return ()
    if call.stage is CallStage.FREEING:
        return _call(call, step)
    if not was_open:
        return ()
    if call.stage is CallStage.MEDIA:  # they answered, and did not wait for the caller
        return end(call, _connected(step))
    return _not_reached(call, step, outcome_of_no_answer(event.code, event.reason, event.cause, event.contacts))


def second_overdue(call: CallState, _event: ev.TimerFired) -> Orders:
    """Go on without somebody who does not answer, or whose call would need the leg that is still in use."""
    step = call.ivr.step
    if not isinstance(step, DialTo):
        return ()
    if call.stage is CallStage.FREEING:
        busy = outcome_of_no_answer(480, "the call to somebody else before it is still being ended")
        return _not_reached(call, step, busy)
    dropped = legs.drop_second(call)
    silent = outcome_of_no_answer(480, f"no answer within {step.ring_limit_s:g} s")
    return (*dropped, *_not_reached(call, step, silent))


def _dial(call: CallState, step: DialTo) -> Orders:
    enter(call, Phase.ATTENDING)
    waiting = (*legs.ring(call), *bridge_silence(call))
    if call.second is SecondLegState.CLOSED:
        return (*waiting, *_call(call, step))
    call.stage = CallStage.FREEING
    return (*waiting, *start_timer(call, SECOND, step.ring_limit_s))


def _call(call: CallState, step: DialTo) -> Orders:
    stopped = cancel_stage_timers(call)
    call.stage = CallStage.CALLING
    order = do.CallSecond(step.target, step.trunk, step.headers, step.caller_id, step.diverted_from)
    return (*stopped, *legs.call_second(call, order), *start_timer(call, SECOND, step.ring_limit_s))


def _not_reached(call: CallState, step: DialTo, outcome: Outcome) -> Orders:
    if step.otherwise is not None:
        return take(call, step.otherwise, outcome.detail)
    return (*cancel_stage_timers(call), *end(call, _unreached(outcome)))


# Redirects after the answer


def transfer_ended(call: CallState, event: ev.TransferEnded) -> Orders:
    """End the call with a REFER that went through, or try the next contact."""
    step = call.ivr.step
    if call.stage is not CallStage.REFERRED or not isinstance(step, Redirect):
        return ()
    stopped = cancel_stage_timers(call)
    if 200 <= event.code < 300:
        return (*stopped, *end(call, Outcome(EndReason.REDIRECTED, step.contacts[call.ivr.tries], 200)))
    call.ivr.tries += 1
    if call.ivr.tries < len(step.contacts):
        return (*stopped, *_refer(call, step))
    return (*stopped, *end(call, _unreached(outcome_of_no_answer(event.code, event.reason))))


def transfer_overdue(call: CallState, _event: ev.TimerFired) -> Orders:
    """End a call whose REFER was never heard of."""
    return end(call, _unreached(outcome_of_no_answer(408, f"no answer within {TRANSFER_LIMIT_S:g} s")))


def _refer(call: CallState, step: Redirect) -> Orders:
    call.stage = CallStage.REFERRED
    return (do.Transfer(step.contacts[call.ivr.tries]), *start_timer(call, TRANSFER, TRANSFER_LIMIT_S))


# Outcomes and what is noted


def _refusal(step: RefuseCall) -> Outcome:
    return Outcome(EndReason.REJECTED, f"{step.code} {step.reason}".rstrip(), step.code, phrase=step.reason)


def _connected(step: DialTo) -> Outcome:
    return Outcome(EndReason.CONNECTED, step.target, 200)


def _unreached(outcome: Outcome) -> Outcome:
    """Return how a call ends because somebody else could not be reached."""
    # What another server wants of us (to call elsewhere, a password) is not for the caller to do. Nor has a caller
    # cancelled who would be told 487 (RFC 3261 section 21.4.25).
    code = outcome.sip_code
    caller_code = 480 if code < 400 or code == 487 else 503 if code in (401, 407) else outcome.caller_code
    return replace(outcome, caller_code=caller_code, by=Side.GATEWAY)


def _note(step: Step, cause: str) -> do.Note:
    """Return what the call's history says of a step that is taken."""
    fields = {**step.story(), "detail": cause}
    return do.Note("step", {name: text for name, text in fields.items() if text})
