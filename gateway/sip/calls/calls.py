"""The two kinds of calls: the caller's, or one that we place, with its orders; and a second leg for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from gateway.audio.playout import PlayoutBuffer
from gateway.audio.tap import AudioTap
from gateway.audio.uplink import UplinkTap
from gateway.call.actions import CallSecond
from gateway.call.events import (
    CallEvent,
    DigitPressed,
    EarlyMediaUp,
    LegClosed,
    LegFailed,
    LegHeld,
    LegResumed,
    LegRinging,
    MediaLost,
    MediaUp,
    Noted,
    SecondClosed,
    SecondDigit,
    SecondRinging,
    SecondUp,
    TransferEnded,
)
from gateway.errors import SipError
from gateway.ids import CallId
from gateway.sip.calls.bridge import Bridge, Talkers
from gateway.sip.calls.dialog import Dialog
from gateway.sip.calls.table import CallTable
from gateway.sip.core.addressing import UNKNOWN, OutboundInvite, goes_through, outbound_invite, shown
from gateway.sip.core.ending import DialogEnding
from gateway.sip.core.info_notify import news_in
from gateway.sip.core.message import Message
from gateway.sip.core.quality import RtpWatch
from gateway.sip.library.account_config import own_address
from gateway.sip.library.pj import pj
from gateway.sip.native.guard import callback, describe
from gateway.sip.native.max_forwards import DEFAULT_HOPS
from gateway.threads import runs_on

TOO_MANY_HOPS = 483  # RFC 3261 section 16.3: the call may be going round in a circle
NOTIFY_LIMIT_S = 60.0
"""A transfer that was accepted, but brought no news for this long, has failed."""


class PjSecondLeg(Dialog):
    """
    The second leg of a call. Its facts bear the first one's id.

    Args:
        account: the ``pj.Account`` it belongs to.
        call_id: our id of the first call.
        table: all calls.
        bridge: the first call's.
        over: takes its end, once.
        trunk: the trunk it goes through; empty for none.
    """

    def __init__(
        self,
        account: pj.Account,
        call_id: CallId,
        table: Calls,
        bridge: Bridge,
        over: Callable[[DialogEnding], None],
        *,
        trunk: str = "",
    ) -> None:
        super().__init__(account, call_id, table, table.second_legs, trunk=trunk)
        self._bridge = bridge
        self._tell_over = over
        self._up = False

    @runs_on("sip")
    def failed(self, detail: str) -> None:
        """End the leg: whatever went wrong with it, it is of no use any more."""
        if self._ended_by_us:
            return
        try:
            self.end(pj.PJSIP_SC_INTERNAL_SERVER_ERROR, detail)
        except pj.Error:  # it cannot even be ended: nothing more of it can be told
            self._end(DialogEnding(pj.PJSIP_SC_INTERNAL_SERVER_ERROR, detail))

    def _ringing(self, code: int) -> None:
        self._table.emit(SecondRinging(self.call_id, code))

    def _pressed(self, key: str) -> None:
        self._table.emit(SecondDigit(self.call_id, key))

    def _stream_gone(self) -> None:
        self._bridge.stream_gone("second")

    def _media_changed(self, info: pj.CallInfo) -> None:
        if info.state != pj.PJSIP_INV_STATE_CONFIRMED:
            return
        if self._index >= 0:
            self._bridge.stream_up("second", self._stream(info))
        if not self._up and (self._index >= 0 or self._on_hold):
            self._up = True
            self._table.emit(SecondUp(self.call_id, self._codec))

    def _successor(self) -> PjSecondLeg:
        account = self._table.account_of(self.trunk)
        return PjSecondLeg(account, self.call_id, self._table, self._bridge, self._tell_over, trunk=self.trunk)

    def _over(self, ending: DialogEnding) -> None:
        try:
            self._bridge.stream_gone("second")
            path = self._finish_trace(ending.code)
            if path is not None:
                self._table.emit(Noted(self.call_id, "second_traced", {"path": path}))
        finally:
            self._tell_over(ending)


class PjCall(Dialog):
    """
    The call of one caller, or to one.

    Args:
        account: the ``pj.Account`` it belongs to.
        call_id: our id.
        table: where it is registered.
        pj_id: pjsua2's number of an incoming call; None for one to be placed.
        trunk: the trunk it goes through; empty for none.
    """

    def __init__(
        self, account: pj.Account, call_id: CallId, table: Calls, pj_id: int | None = None, *, trunk: str = ""
    ) -> None:
        super().__init__(account, call_id, table, table.calls, pj_id, trunk=trunk)
        self.caller = UNKNOWN
        """Who calls, of a call that came in."""
        self.called = ""
        """The number that was called, of a call that came in."""
        self.hops = DEFAULT_HOPS
        """Max-Forwards of a second leg."""
        self._bridge = Bridge(table.borrow_port, table.idle_ports.append, table.pcm)
        self._watch = RtpWatch(table.settings.no_rtp_timeout_s)
        self._early_wanted = False
        self._media_up = False
        self._codec_told = ""
        self._hold_told = False
        self._quality_at = 0.0
        self._transfer_accepted = False
        self._transfer_news_at: float | None = None
        self._transfer_given_up = False
        self._has_second = False

    # --- orders, from the loop by way of the thread's queue ---

    @runs_on("sip")
    def ring(self) -> None:
        """Send 180 Ringing."""
        self._respond(pj.PJSIP_SC_RINGING)

    @runs_on("sip")
    def pick_up(self, uplink: UplinkTap, playout: PlayoutBuffer, recorder: AudioTap | None = None) -> None:
        """Send 200 OK; these buffers carry the audio."""
        self._bridge.serve(uplink, playout, recorder)
        self._respond(pj.PJSIP_SC_OK)

    @runs_on("sip")
    def progress(self, uplink: UplinkTap, playout: PlayoutBuffer, recorder: AudioTap | None = None) -> None:
        """Send 183 with our SDP; ``EarlyMediaUp`` follows once these buffers carry the audio."""
        self._bridge.serve(uplink, playout, recorder)
        self._early_wanted = True
        self._respond(pj.PJSIP_SC_PROGRESS)

    @runs_on("sip")
    def dial(
        self, where: OutboundInvite, uplink: UplinkTap, playout: PlayoutBuffer, recorder: AudioTap | None = None
    ) -> None:
        """Send an INVITE; these buffers carry the audio once it is answered."""
        self._bridge.serve(uplink, playout, recorder)
        self.place(where)

    @runs_on("sip")
    def transfer(self, target: str) -> None:
        """Send REFER (RFC 3515) to ``target``; ``TransferEnded`` reports every result."""
        self._transfer_accepted = self._transfer_given_up = False
        self._referred = True
        self._transfer_news_at = time.monotonic()
        try:
            # In brackets: what stands behind a semicolon is the URI's, not the header's (RFC 3261 section 20).
            self.xfer(f"<{target}>", pj.CallOpParam(True))
        except pj.Error as error:
            self._end_transfer(pj.PJSIP_SC_INTERNAL_SERVER_ERROR, describe(error), refused=True)

    @runs_on("sip")
    def send_key(self, key: str) -> None:
        """Send a DTMF digit as the trunk wants it; to a far end that takes no RFC 4733, as SIP INFO."""
        trunk = self._table.trunks.get(self.trunk)
        if trunk is None or trunk.dtmf != "info":
            try:
                self.dialDtmf(key)
                return
            except pj.Error:
                pass
        parameters = pj.CallSendDtmfParam()
        parameters.digits = key
        parameters.method = pj.PJSUA_DTMF_METHOD_SIP_INFO
        self.sendDtmf(parameters)

    @runs_on("sip")
    def call_second(self, order: CallSecond) -> None:
        """Call a second leg for this call, on the order's trunk or else on its own; ``SecondClosed`` follows."""
        if self._has_second:
            self._emit(SecondClosed(self.call_id, pj.PJSIP_SC_REQUEST_PENDING, "there is a second leg already"))
            return
        if self.hops < 1:
            self._emit(SecondClosed(self.call_id, TOO_MANY_HOPS, "Too Many Hops"))
            return
        trunk = order.trunk or self._own_trunk_for(order.target)
        try:
            where = outbound_invite(
                *(order.target, self._table.trunks),
                trunk=trunk,
                caller=shown(order.caller_id, self._table.trunks.get(trunk), self.caller),
                diverted_from={"called": self.called, "nobody": ""}.get(order.diverted_from, order.diverted_from),
                own_host=own_address(self._table.settings),
            )
        except SipError as error:
            self._emit(SecondClosed(self.call_id, pj.PJSIP_SC_SERVICE_UNAVAILABLE, str(error)))
            return
        if self._table.is_full(trunk):
            busy = "all lines of the trunk are busy"
            self._emit(SecondClosed(self.call_id, pj.PJSIP_SC_SERVICE_UNAVAILABLE, busy))
            return
        self._has_second = True
        account = self._table.account_of(trunk)
        PjSecondLeg(account, self.call_id, self._table, self._bridge, self._second_over, trunk=trunk)
        written = {name.lower() for name in order.headers}
        ours = (header for header in where.headers if header[0].lower() not in written)
        where = replace(where, headers=(*ours, *order.headers.items()))
        if self._traced:
            self._table.order_second(self.call_id, PjSecondLeg.follow_trace)
        self._table.order_second(self.call_id, lambda second: second.place(where, self.hops))

    def _own_trunk_for(self, target: str) -> str:
        """Return this call's trunk where the target is its own; a stranger is not to see the trunk's digest."""
        settings = self._table.trunks.get(self.trunk)
        return self.trunk if settings is not None and goes_through(target, settings) else ""

    @runs_on("sip")
    def let_talk(self, talk: Talkers) -> None:
        """Change who talks with whom."""
        self._bridge.let_talk(talk)

    @runs_on("sip")
    def listen(self, tap: AudioTap | None) -> None:
        """Let ``tap`` have each frame of both sides, too; None: no longer."""
        self._bridge.listen(tap)

    @runs_on("sip")
    def drop_second(self) -> None:
        """End the second leg; nothing happens when there is none."""
        self._table.order_second(self.call_id, lambda second: second.end(pj.PJSIP_SC_OK, ""))

    @runs_on("sip")
    def trace(self) -> None:
        """Keep the messages of this call from now on, and those of its second legs."""
        self.follow_trace()
        self._table.order_second(self.call_id, PjSecondLeg.follow_trace)

    def _respond(self, code: int) -> None:
        parameters = pj.CallOpParam()
        parameters.statusCode = code
        self.answer(parameters)

    # --- once a second ---

    @runs_on("sip")
    def watch(self, now: float) -> None:
        """Miss the caller's audio, note the quality, give up a transfer without news."""
        super().watch(now)
        news_at = self._transfer_news_at
        if news_at is not None and now - news_at >= NOTIFY_LIMIT_S:
            self._transfer_given_up = True
            self._end_transfer(pj.PJSIP_SC_REQUEST_TIMEOUT, f"nothing was heard of it for {NOTIFY_LIMIT_S:g} s")
        if not self._media_up:
            return
        counts = self._current_counts()
        owed = counts is not None and not self._on_hold and not self._listens_only
        heard = (counts.rx_packets, counts.reports) if counts is not None else None
        silent_s = self._watch.silent_s(heard, now, owed=owed, may_pause=self._may_pause)
        if silent_s is not None:
            self._emit(MediaLost(self.call_id, round(silent_s, 1)))
        if now >= self._quality_at:
            self._quality_at = now + self._table.settings.quality_every_s
            self._note_quality()

    def _note_quality(self) -> None:
        codec = self._codec.partition("/")[0]
        self._emit(Noted(self.call_id, "quality", self.counts().fields(codec)))

    # --- callbacks ---

    @callback
    def onCallTransferStatus(self, prm: pj.OnCallTransferStatusParam) -> None:
        """Take the answer to a REFER of ours; what NOTIFYs say is read before the library gets to it."""
        if self._transfer_news_at is None:
            return
        if prm.statusCode < 200:
            self._transfer_accepted = True
            self._transfer_news_at = time.monotonic()
        elif prm.finalNotify:
            self._referred = False
            self._end_transfer(prm.statusCode, prm.reason, refused=not self._transfer_accepted)

    def _notified(self, message: Message) -> None:
        """Follow a transfer of ours and report its end only. A success counts, however late it comes."""
        news = news_in(message)
        self._referred = self._referred and not (news is not None and news.over)
        if news is None or (self._transfer_news_at is None and not self._transfer_given_up):
            return
        self._transfer_accepted = True  # a NOTIFY may come before the 202 (RFC 6665 section 4.1.2.4)
        if news.code >= 200:
            self._transfer_given_up = False
            self._end_transfer(news.code, news.reason)
        elif not self._transfer_given_up:
            self._transfer_news_at = time.monotonic()

    @runs_on("sip")
    def failed(self, detail: str) -> None:
        """Report that the stack could not do what was asked."""
        self._emit(LegFailed(self.call_id, detail))

    # --- what became of it ---

    def _end_transfer(self, code: int, reason: str, *, refused: bool = False) -> None:
        self._transfer_news_at = None
        self._emit(TransferEnded(self.call_id, code, reason, refused=refused))

    def _emit(self, event: CallEvent) -> None:
        self._table.emit(event)

    def _ringing(self, code: int) -> None:
        self._emit(LegRinging(self.call_id, code))

    def _pressed(self, key: str) -> None:
        self._emit(DigitPressed(self.call_id, key))

    def _stream_gone(self) -> None:
        self._bridge.stream_gone("caller")

    def _media_changed(self, info: pj.CallInfo) -> None:
        # Before the answer of whom we called there may be ringing or an announcement: not for the agent's ears.
        if info.role == pj.PJSIP_ROLE_UAC and info.state < pj.PJSIP_INV_STATE_CONFIRMED:
            return
        if self._index >= 0:
            self._bridge.stream_up("caller", self._stream(info))
        if not self._bridge.carries_caller and not self._on_hold:
            return
        if info.state <= pj.PJSIP_INV_STATE_EARLY and self._early_wanted and self._bridge.carries_caller:
            self._early_wanted = False  # the media may come up before the 183 counts
            self._emit(EarlyMediaUp(self.call_id, self._codec))
        if info.state == pj.PJSIP_INV_STATE_CONFIRMED:
            self._follow_media()

    def _follow_media(self) -> None:
        if not self._media_up:
            now = time.monotonic()
            self._watch.begin(now)
            self._quality_at = now + self._table.settings.quality_every_s
        if not self._media_up or self._codec != self._codec_told:
            self._media_up, self._codec_told = True, self._codec
            self._emit(MediaUp(self.call_id, self._codec))
        if self._on_hold != self._hold_told:
            self._hold_told = self._on_hold
            self._bridge.hold(held=self._on_hold)
            self._emit(LegHeld(self.call_id) if self._on_hold else LegResumed(self.call_id))

    def _second_over(self, ending: DialogEnding) -> None:
        self._has_second = False
        code, reason = ending.code, ending.reason
        self._emit(SecondClosed(self.call_id, code, reason, cause=ending.cause, contacts=ending.contacts))

    def _successor(self) -> PjCall:
        successor = PjCall(self._table.account_of(self.trunk), self.call_id, self._table, trunk=self.trunk)
        successor._bridge = self._bridge
        return successor

    def _over(self, ending: DialogEnding) -> None:
        try:
            if ending.by_far_end and self._transfer_news_at is not None and self._transfer_accepted:
                # It took the REFER, and left without a word of what came of it: it is on its way.
                self._end_transfer(pj.PJSIP_SC_OK, "the far end left once it had accepted it")
            self._wind_up(ending.code)
        finally:
            by_caller, code, reason = ending.by_far_end, ending.code, ending.reason
            self._emit(LegClosed(self.call_id, by_caller, code, reason, ending.cause, ending.contacts))

    def _wind_up(self, code: int) -> None:
        self._bridge.close()
        self.drop_second()  # a safety net: whoever it was called for is gone
        if self._media_up:
            self._note_quality()
        path = self._finish_trace(code)
        if path is not None:
            self._emit(Noted(self.call_id, "traced", {"sip_trace": path}))


Calls = CallTable[PjCall, PjSecondLeg]
"""The table as this process fills it."""
