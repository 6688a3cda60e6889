"""
Whether the agent's speech goes out and whether the agent hears: interruptions, hold, a second leg, a voicemail.

A part of ``Talk`` and as pure. What is ordered follows from what holds now: speech is held while the caller's is not
told from a cough, or while the caller has us on hold; the agent is deaf on hold, too, and where it must not be cut off.
"""

from __future__ import annotations

from gateway.audio.played import PlayoutPosition
from gateway.call.actions import (
    CallAction,
    CancelResponse,
    CancelTimer,
    FlushPlayout,
    MuteCaller,
    PausePlayout,
    ResumePlayout,
    StartTimer,
    Truncate,
    UnmuteCaller,
)
from gateway.call.events import SpeechStarted

GUARD = "guard"
"""Timer: how long the caller's speech may be taken for a false start."""


class Speech:
    """
    What is held of the agent's speech and ears.

    Args:
        guard_s: speech of the caller shorter than this was none; 0 takes all for speech.
    """

    def __init__(self, guard_s: float) -> None:
        self._guard_s = guard_s
        self._speaks = False  # a turn of the caller is open
        self._interrupted = False  # and it is no cough
        self._guarding = False  # and it may be one
        self._on_hold = False
        self._with_second = False
        self._deaf = False
        self._paused = False  # as ordered
        self._muted = False

    @property
    def on_hold(self) -> bool:
        """The caller does not listen."""
        return self._on_hold

    @property
    def with_second(self) -> bool:
        """The agent is connected with the second leg."""
        return self._with_second

    @property
    def caller_speaks(self) -> bool:
        """The caller speaks to the agent, or coughs."""
        return self._speaks

    @property
    def interrupted(self) -> bool:
        """The caller speaks, and that interrupts the agent: it is no cough."""
        return self._interrupted

    def started(self, event: SpeechStarted, *, parting: bool) -> tuple[CallAction, ...]:
        """Someone speaks to the agent; ``parting``: over its last words, or right behind them."""
        if self._muted:
            return ()
        self._speaks = True
        if not event.interrupts:
            return ()
        if not self._guard_s:
            self._interrupted = True
            return self.cut(event.at)
        speechless = event.at is None and not event.responding
        if self._guarding or (speechless and not parting):
            return ()
        self._guarding = True
        return (*self._settle(), StartTimer(GUARD, self._guard_s))

    def let_go(self) -> tuple[CallAction, ...]:
        """End the caller's turn: it was told to be over, or nobody is left who could tell. A short one was a cough."""
        return (*self._end_turn(), *self._settle())

    def guard_fired(self, at: PlayoutPosition | None) -> tuple[CallAction, ...]:
        """Take it for speech: it lasts."""
        self._guarding, self._interrupted = False, True
        return self.stop(at)

    def stop(self, at: PlayoutPosition | None) -> tuple[CallAction, ...]:
        """Cut the agent off whose upstream does not do so by itself."""
        return (CancelResponse(), *self.cut(at))

    def cut(self, at: PlayoutPosition | None) -> tuple[CallAction, ...]:
        """Drop what waits; what was played to its end already is not told as cut."""
        told = () if at is None else (Truncate(at.item_id, at.played_ms),)
        stopped = self._stop_guard()
        self._paused = False  # a flush ends it
        return (*stopped, FlushPlayout(), *told, *self._settle())

    def hold(self) -> tuple[CallAction, ...]:
        """Pause: the caller put us on hold. What began as an interruption was none that anybody could tell."""
        if self._on_hold:
            return ()
        self._on_hold = True
        return (*self._end_turn(), *self._settle())

    def resume(self) -> tuple[CallAction, ...]:
        """Go on: the caller listens again."""
        if not self._on_hold:
            return ()
        self._on_hold = False
        return self._settle()

    def deafen(self) -> tuple[CallAction, ...]:
        """Let the agent hear nothing, so that nothing cuts it off."""
        self._deaf = True
        return (*self._end_turn(), *self._settle())

    def turn_to_second(self, *, deaf: bool) -> tuple[CallAction, ...]:
        """Speak with the second leg, whatever the caller does; ``deaf`` as long as nobody is there."""
        self._with_second, self._deaf = True, deaf
        return (*self._end_turn(), *self._settle())

    def turn_to_caller(self) -> tuple[CallAction, ...]:
        """Speak with the caller again."""
        self._with_second = self._deaf = False
        return (*self._end_turn(), *self._settle())

    def _end_turn(self) -> tuple[CallAction, ...]:
        self._speaks = self._interrupted = False
        return self._stop_guard()

    def _stop_guard(self) -> tuple[CallAction, ...]:
        guarding, self._guarding = self._guarding, False
        return (CancelTimer(GUARD),) if guarding else ()

    def _settle(self) -> tuple[CallAction, ...]:
        """Order what follows from what holds now, as far as it is not so already."""
        unheard = self._on_hold and not self._with_second
        orders: list[CallAction] = []
        if (muted := unheard or self._deaf) is not self._muted:
            self._muted = muted
            orders.append(MuteCaller() if muted else UnmuteCaller())
        if (paused := unheard or self._guarding) is not self._paused:
            self._paused = paused
            orders.append(PausePlayout() if paused else ResumePlayout())
        return tuple(orders)
