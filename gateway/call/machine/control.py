"""
What an operator orders, from outside: hang up, transfer, keys, a sentence, an instruction, a take-over, a trace.

Each command is answered once: ``done``, or refused with the reason in words. Most are answered at once; what becomes of
a transfer or a take-over answers theirs (``ending.answer_command``).
"""

from __future__ import annotations

from gateway.call import actions as do
from gateway.call import builtin_tools as tool
from gateway.call import commands as given
from gateway.call.machine import recording, take_over
from gateway.call.machine import transfer as transfers
from gateway.call.machine.barge_in import stop
from gateway.call.machine.ending import end, leave
from gateway.call.machine.phase import Phase
from gateway.call.machine.state import CallState, Orders, SecondLegState
from gateway.call.outcome import EndReason, Outcome

NO_AGENT = "the call has no agent at the moment"
ON_HOLD = "the caller is on hold"
ENDING = "the call is ending already"
WHISPERED = "An instruction of the operator, of which the caller hears nothing:"


def hang_up(call: CallState, event: given.HangUpCommanded) -> Orders:
    """End the call; with ``goodbye`` once the agent has said it, where the caller can hear that."""
    outcome = Outcome(EndReason.OPERATOR_HUNG_UP, f"by {event.by}", 603, phrase="")
    if not event.goodbye or _without_agent(call) or call.taken_over or call.leg.on_hold:
        return (*_done(event), *end(call, outcome))
    return (*_done(event, "the agent says goodbye first"), *leave(call, outcome, "an operator ends it"))


def transfer(call: CallState, event: given.TransferCommanded) -> Orders:
    """Transfer the caller at once, as the agent does; ``transfer`` answers the command."""
    if (words := _hindrance(call)) is not None:
        return _refused(event, words)
    recording.cut(call, cancelled=True)
    cut = stop(call, event.at)
    call.command = event.command_id
    return (*cut, *transfers.ask_at_once(call, tool.TransferAsked(event.call_id, "", event.target)))


def send_digits(call: CallState, event: given.DigitsCommanded) -> Orders:
    """Send digits to the caller's side."""
    if not call.leg.up:
        return _refused(event, "the call is not answered yet")
    if call.leg.on_hold:
        return _refused(event, ON_HOLD)
    return (do.SendDigits(event.digits), *_done(event))


def say(call: CallState, event: given.SayCommanded) -> Orders:
    """Let the agent say a sentence in place of what it says now."""
    if (words := _hindrance(call, summoning=False)) is not None:
        return _refused(event, words)
    recording.cut(call, cancelled=True)
    return (*stop(call, event.at), do.Say(event.text), *recording.await_quiet(call), *_done(event))


def whisper(call: CallState, event: given.WhisperCommanded) -> Orders:
    """Tell the agent something that its next response is to obey."""
    if not call.agent.open or call.agent.lost is not None:
        return _refused(event, NO_AGENT)
    return (do.Whisper(f"{WHISPERED} {event.text}"), *_done(event))


def take_over_call(call: CallState, event: given.TakeOverCommanded) -> Orders:
    """Have a person called who takes the agent's place; ``take_over`` answers the command."""
    if (words := _hindrance(call)) is not None:
        return _refused(event, words)
    if call.second is not SecondLegState.CLOSED:
        return _refused(event, "the call to somebody else before it is still being ended")
    return take_over.begin(call, event.target, event.command_id)


def give_back(call: CallState, event: given.GiveBackCommanded) -> Orders:
    """Let the caller speak with the agent again."""
    if not call.agent.taker:
        return _refused(event, "nobody has taken the call over")
    if call.taken_over and call.agent.lost is not None:
        return _refused(event, "the agent is gone; if that person hangs up, the call goes on without it, or ends")
    return (*take_over.give_back(call, event.by), *_done(event))


def trace(_call: CallState, event: given.TraceCommanded) -> Orders:
    """Keep the call's SIP messages from now on."""
    return (do.TraceCall(), *_done(event))


def too_late(_call: CallState, event: given.CommandGiven) -> Orders:
    """Refuse whatever comes to a call that ends."""
    return _refused(event, ENDING)


def _done(event: given.CommandGiven, detail: str = "") -> Orders:
    return (do.AnswerCommand(event.command_id, done=True, detail=detail),)


def _refused(event: given.CommandGiven, detail: str) -> Orders:
    return (do.AnswerCommand(event.command_id, done=False, detail=detail),)


def _without_agent(call: CallState) -> bool:
    return call.phase is not Phase.ACTIVE or call.agent.lost is not None


def _hindrance(call: CallState, *, summoning: bool = True) -> str | None:
    """Return why the agent and the caller cannot be interfered with now; ``summoning``: that is a reason, too."""
    if call.phase is Phase.JOINED:
        return "the caller speaks with somebody else, not with an agent"
    if _without_agent(call):
        return NO_AGENT
    if call.leaving is not None:
        return ENDING
    if call.agent.transfer is not None:
        return "a transfer is under way already"
    if call.taken_over:
        return "a person has taken the call over"
    if call.summoning and summoning:
        return "a person is being called to take the call over"
    return ON_HOLD if call.leg.on_hold else None
