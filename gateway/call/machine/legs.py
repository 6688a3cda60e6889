"""
What the caller's side was told of the call: ringing, early media, the answer; and whether it has us on hold.

A part of ``CallMachine`` and as pure. Nothing is told twice, and nothing that an earlier order has overtaken.
"""

from __future__ import annotations

from gateway.call.actions import Answer, CallAction, CancelTimer, Progress, Ring, StartTimer
from gateway.call.machine.phase import HOLD


class Line:
    """The caller's leg of one call, as far as orders depend on it."""

    def __init__(self) -> None:
        self._rung = False
        self._progressed = False
        self._answered = False
        self._early_up = False
        self._up = False
        self._held = False

    @property
    def answered(self) -> bool:
        """200 OK went out, or is on its way."""
        return self._answered

    @property
    def up(self) -> bool:
        """The call is answered and audio flows both ways."""
        return self._up

    @property
    def early_up(self) -> bool:
        """The caller hears us, unanswered."""
        return self._early_up and not self._answered

    @property
    def on_hold(self) -> bool:
        """The caller does not listen."""
        return self._held and self._up

    def ring(self) -> tuple[CallAction, ...]:
        """Let the caller hear ringing, unless there is more to hear already."""
        if self._rung or self._progressed or self._answered:
            return ()
        self._rung = True
        return (Ring(),)

    def progress(self) -> tuple[CallAction, ...]:
        """Let the caller hear us without an answer."""
        if self._progressed or self._answered:
            return ()
        self._progressed = True
        return (Progress(),)

    def answer(self) -> tuple[CallAction, ...]:
        """Answer the call."""
        if self._answered:
            return ()
        self._answered = True
        return (Answer(),)

    def early_media_up(self) -> None:
        """Take that the caller hears us."""
        self._early_up = self._progressed

    def media_up(self, hold_limit_s: float) -> tuple[CallAction, ...]:
        """Take that audio flows. A hold that began before counts from now on."""
        self._answered = self._up = True
        return (StartTimer(HOLD, hold_limit_s),) if self._held else ()

    def hold(self, limit_s: float) -> tuple[CallAction, ...]:
        """Take that the caller put us on hold."""
        if self._held:
            return ()
        self._held = True
        return (StartTimer(HOLD, limit_s),) if self._up else ()

    def resume(self) -> tuple[CallAction, ...]:
        """Take that the caller listens again."""
        if not self._held:
            return ()
        self._held = False
        return (CancelTimer(HOLD),) if self._up else ()
