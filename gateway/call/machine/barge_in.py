"""
Barge-in: whether the agent's speech goes out and whether the agent hears, through interruptions, hold and second legs.

What is ordered follows from what is true now: speech is held while the guard cannot tell the caller's speech from a
cough, and while the caller has us on hold; the agent is deaf on hold, too, and where it must not be cut off.
"""

from __future__ import annotations

from typing import Final

from gateway.audio.played import PlayoutPosition
from gateway.call import actions as do
from gateway.call import events as ev
from gateway.call.machine import recording
from gateway.call.machine.ending import await_anew
from gateway.call.machine.phase import GOODBYE, GUARD, CallStage
from gateway.call.machine.playback import flush, pause
from gateway.call.machine.state import CallState, Orders, cancel_timer, start_timer
from gateway.call.outcome import EndReason

GOES_ON: Final = (
    "The caller began to speak before the call ended, so the call goes on. "
    "Answer, and call hang_up again when the conversation is over."
)
ENDS_ALL_THE_SAME: Final = (
    "The caller spoke over the goodbye. The call has to end all the same: answer in one sentence and say goodbye."
)


def speech_started(call: CallState, event: ev.SpeechStarted) -> Orders:
    """Let the caller interrupt the agent, at once or when the guard runs out; a muted agent is not interrupted."""
    before = call.agent.interrupted
    orders = _started(call, event)
    call.agent.spoken_over |= call.agent.caller_speaks
    if call.agent.interrupted:
        recording.cut(call, cancelled=False)
    return orders if before else (*orders, *_give_way(call))


def speech_stopped(call: CallState, _event: ev.SpeechStopped) -> Orders:
    """End the caller's turn; one shorter than the guard was a cough."""
    return (*end_turn(call), *await_anew(call))


def guard_fired(call: CallState, event: ev.TimerFired) -> Orders:
    """Treat it as speech: it has lasted longer than a cough."""
    recording.cut(call, cancelled=True)
    call.agent.interrupted = True
    return (*stop(call, event.at), *_give_way(call))


def stop(call: CallState, at: PlayoutPosition | None) -> Orders:
    """Cut the agent off where its upstream does not do so by itself."""
    return (do.CancelResponse(), *_cut(call, at))


def end_turn(call: CallState) -> Orders:
    """End the caller's turn: it is over, its end can no longer be observed, or the agent turns to someone else."""
    call.agent.caller_speaks = call.agent.interrupted = False
    return (*cancel_timer(call, GUARD), *settle(call))


def settle(call: CallState) -> Orders:
    """Order what follows from what is true now, unless it was ordered already."""
    unheard = call.leg.on_hold and not call.with_second
    # A ringing tone, a voicemail that goes on talking, what is not meant for the agent.
    deaf = call.calls_blind or call.message_left or call.taken_over
    return (*_mute(call, muted=unheard or deaf), *pause(call, paused=unheard or GUARD in call.timers))


def _mute(call: CallState, *, muted: bool) -> Orders:
    if muted is call.agent.muted:
        return ()
    call.agent.muted = muted
    return (do.MuteCaller() if muted else do.UnmuteCaller(),)


def _started(call: CallState, event: ev.SpeechStarted) -> Orders:
    if call.agent.muted:
        return ()
    call.agent.caller_speaks = True
    if not event.interrupts:
        return ()
    if not call.agent.routed.guard_ms:
        call.agent.interrupted = True
        return _cut(call, event.at)
    speechless = event.at is None and not event.responding
    if GUARD in call.timers or (speechless and not call.awaits_words):
        return ()
    guard = start_timer(call, GUARD, call.agent.routed.guard_ms / 1000)
    return (*settle(call), *guard)


def _cut(call: CallState, at: PlayoutPosition | None) -> Orders:
    """Drop what waits; the upstream is not told of what was played to its end already."""
    stopped = cancel_timer(call, GUARD)
    told = () if at is None else (do.Truncate(at.item_id, at.played_ms),)
    return (*stopped, *flush(call), *told, *settle(call))


def _give_way(call: CallState) -> Orders:
    """
    Hear a caller who interrupts the goodbye.

    A hang-up that the agent itself wanted is given up. Where the call must end it ends once the caller was answered,
    within the time that the goodbye has.
    """
    if call.leaving is None or not call.agent.interrupted:
        return ()
    if call.leaving.reason is not EndReason.AGENT_HUNG_UP:
        return (do.TellAgent(ENDS_ALL_THE_SAME, respond=False),)
    given_up = do.Note("hang_up_given_up", {})
    if call.agent.overdue is not None:
        (call.outcome, _), call.agent.overdue = call.agent.overdue, None
        return given_up, do.TellAgent(ENDS_ALL_THE_SAME, respond=False)
    call.stage = CallStage.NONE
    return (*cancel_timer(call, GOODBYE), given_up, do.TellAgent(GOES_ON, respond=False))
