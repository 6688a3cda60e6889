"""What the caller hears of us: pauses, what is dropped unheard, the filler. Nothing is ordered twice."""

from __future__ import annotations

from gateway.call import actions as do
from gateway.call.machine.phase import CallStage
from gateway.call.machine.state import CallState, Orders


def pause(call: CallState, *, paused: bool) -> Orders:
    """Pause what is being played, or let it go on."""
    if paused is call.playback.paused:
        return ()
    call.playback.paused = paused
    return (do.PausePlayout() if paused else do.ResumePlayout(),)


def flush(call: CallState) -> Orders:
    """Drop what waits to be heard; that ends a pause, too."""
    call.playback.paused = False
    return (do.FlushPlayout(),)


def fill(call: CallState, *, on: bool) -> Orders:
    """Let the caller hear the filler, or no longer."""
    if on is call.playback.filler:
        return ()
    call.playback.filler = on
    return (do.StartFiller() if on else do.StopFiller(),)


def fall_silent(call: CallState) -> Orders:
    """Let go of what sounds of a dialplan's step: its sounds, the filler."""
    sounds = call.stage is CallStage.PLAYING or call.playback.paused
    return (*(flush(call) if sounds else ()), *fill(call, on=False))
