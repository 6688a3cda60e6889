"""The SIP side of one call as the rest of the gateway sees it: orders, carried to the SIP thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Protocol, cast

from gateway.audio.playout import PlayoutBuffer
from gateway.audio.tap import AudioTap
from gateway.audio.uplink import UplinkTap
from gateway.call.actions import CallSecond
from gateway.call.ports import Recorder
from gateway.ids import CallId
from gateway.sip.calls.bridge import Talkers
from gateway.sip.calls.calls import Calls, PjCall
from gateway.sip.core.addressing import OutboundInvite
from gateway.sip.core.dtmf import dialling


class _Orders(Protocol):
    """The part of ``SipThread`` that a leg needs."""

    def submit(self, order: Callable[[Calls], None]) -> None:
        """Have ``order`` carried out on the SIP thread."""


class PjLeg:
    """
    The SIP side of one call as ``call/ports.py`` wants it. Thread: loop.

    Args:
        thread: where orders go.
        call_id: our id of the call.
        uplink: takes the caller's voice.
        playout: gives the agent's speech.
        recorder: what records the call, if anything; it must take frames from the clock, too (``AudioTap``).
        where: what ``dial`` calls; None for a call that came in.
    """

    def __init__(
        self,
        thread: _Orders,
        call_id: CallId,
        uplink: UplinkTap,
        playout: PlayoutBuffer,
        recorder: Recorder | None = None,
        where: OutboundInvite | None = None,
    ) -> None:
        self._thread = thread
        self._call_id = call_id
        self._buffers = (uplink, playout, cast("AudioTap | None", recorder))
        self._where = where

    def ring(self) -> None:
        """Send 180 Ringing."""
        self._order(PjCall.ring)

    def progress(self) -> None:
        """Send 183 with our SDP, so that the caller hears before the answer; ``EarlyMediaUp`` follows."""
        self._order(lambda call: call.progress(*self._buffers))

    def answer(self) -> None:
        """Send 200 OK; ``MediaUp`` or ``LegFailed`` follows."""
        self._order(lambda call: call.pick_up(*self._buffers))

    def dial(self) -> None:
        """Place the call ``SipThread.new_call`` made room for; ``LegRinging``, ``MediaUp``, ``LegClosed`` follow."""
        where = self._where
        if where is not None:
            self._order(lambda call: call.dial(where, *self._buffers))

    def hang_up(self, code: int, reason: str, contacts: tuple[str, ...] = (), cause: int = 0) -> None:
        """End the leg: final response ``code`` before the answer, CANCEL or BYE else. ``LegClosed`` follows."""
        self._order(lambda call: call.end(code, reason, contacts, cause))

    def transfer(self, target: str) -> None:
        """Send the far end to the URI ``target``; ``TransferEnded`` follows."""
        self._order(lambda call: call.transfer(target))

    def send_digits(self, digits: str) -> None:
        """Send DTMF digits; ``w`` is a pause of half a second, a comma one of two."""
        for after_s, key in dialling(digits):
            self._after(after_s, partial(PjCall.send_key, key=key))

    def call_second(self, order: CallSecond) -> None:
        """Call a second leg for this call; ``SecondRinging``, ``SecondUp`` and one ``SecondClosed`` follow."""
        self._order(lambda call: call.call_second(order))

    def talk_to_second(self) -> None:
        """Connect the agent with the second leg, now or when it is up; the caller hears a waiting tone."""
        self._order(lambda call: call.let_talk(Talkers.AGENT_AND_SECOND))

    def talk_to_caller(self) -> None:
        """Connect the agent with the caller again; the second leg hears nothing."""
        self._order(lambda call: call.let_talk(Talkers.AGENT_AND_CALLER))

    def join(self) -> None:
        """Connect the caller with the second leg, without the agent. When one closes, the other stays up."""
        self._order(lambda call: call.let_talk(Talkers.CALLER_AND_SECOND))

    def drop_second(self) -> None:
        """End the second leg; ``SecondClosed`` follows. Nothing happens when there is none."""
        self._order(PjCall.drop_second)

    def listen(self, tap: AudioTap | None) -> None:
        """Let ``tap`` have each frame of what the caller says and hears, whoever talks with them; None: no longer."""
        self._order(lambda call: call.listen(tap))

    def trace(self) -> None:
        """Keep the SIP messages of both legs from now on, whatever the settings say."""
        self._order(PjCall.trace)

    def _after(self, seconds: float, order: Callable[[PjCall], None]) -> None:
        if seconds:
            asyncio.get_running_loop().call_later(seconds, self._order, order)
        else:
            self._order(order)

    def _order(self, order: Callable[[PjCall], None]) -> None:
        self._thread.submit(lambda table: table.order(self._call_id, order))
