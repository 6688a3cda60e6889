"""One SIP call: its pjsua2 callbacks, and the leg that the rest of the gateway sees."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.audio.playout import PlayoutBuffer
from gateway.audio.uplink import UplinkTap
from gateway.call.events import CallEvent, LegClosed, LegFailed, LegRinging, MediaLost, MediaUp, TransferEnded
from gateway.ids import CallId
from gateway.sip.binding import pj
from gateway.sip.guard import callback, describe
from gateway.sip.media_port import AgentMediaPort
from gateway.threads import runs_on


@dataclass
class CallTable:
    """
    The calls of this process and what they share. Thread: sip, all of it.

    Attributes:
        emit: carries a fact to the loop.
        make_port: makes one more media port.
        retry_after_s: what a 503 refusal tells the caller to wait.
        calls: every call whose dialog is not over.
        idle_ports: media ports that no call uses.
    """

    emit: Callable[[CallEvent], None]
    make_port: Callable[[], AgentMediaPort]
    retry_after_s: int
    calls: dict[CallId, PjCall] = field(default_factory=dict)
    idle_ports: list[AgentMediaPort] = field(default_factory=list)

    def order(self, call_id: CallId, order: Callable[[PjCall], None]) -> None:
        """Carry out an order on a call; on one that is over it means nothing any more."""
        call = self.calls.get(call_id)
        if call is None:
            return
        try:
            order(call)
        except pj.Error as error:
            call.failed(describe(error))


class PjCall(pj.Call):
    """
    The pjsua2 side of one call. It leaves the table in its DISCONNECTED callback, and no other reference is kept.

    Args:
        account: the ``pj.Account`` it belongs to.
        call_id: our id.
        table: where it is registered.
        pj_id: pjsua2's number of an incoming call; None for one to be placed.
    """

    def __init__(self, account: Any, call_id: CallId, table: CallTable, pj_id: int | None = None) -> None:
        super().__init__(account) if pj_id is None else super().__init__(account, pj_id)
        self.call_id = call_id
        self._table = table
        self._port: AgentMediaPort | None = None
        self._buffers: tuple[UplinkTap, PlayoutBuffer] | None = None
        self._media_index = -1
        self._media_up = False
        self._hung_up_by_us = False
        self._rtp_packets = 0
        self._rtp_at = time.monotonic()
        table.calls[call_id] = self

    # --- orders, from the loop by way of the thread's queue ---

    @runs_on("sip")
    def ring(self) -> None:
        """Send 180 Ringing."""
        self._respond(pj.PJSIP_SC_RINGING)

    @runs_on("sip")
    def pick_up(self, uplink: UplinkTap, playout: PlayoutBuffer) -> None:
        """Send 200 OK; these buffers carry the audio."""
        self._buffers = (uplink, playout)
        self._respond(pj.PJSIP_SC_OK)

    @runs_on("sip")
    def place(self, uri: str, uplink: UplinkTap, playout: PlayoutBuffer) -> None:
        """Send an INVITE to ``uri``."""
        self._buffers = (uplink, playout)
        self.makeCall(uri, pj.CallOpParam(True))

    @runs_on("sip")
    def end(self, code: int, reason: str) -> None:
        """Refuse the call with ``code`` while it is not answered, send BYE after that."""
        self._hung_up_by_us = True
        parameters = pj.CallOpParam()
        if self.getInfo().state < pj.PJSIP_INV_STATE_CONFIRMED:
            parameters.statusCode = code
            parameters.reason = reason
            if code == pj.PJSIP_SC_SERVICE_UNAVAILABLE:
                header = pj.SipHeader()  # RFC 3261 section 20.33
                header.hName, header.hValue = "Retry-After", str(self._table.retry_after_s)
                parameters.txOption.headers.append(header)
        self.hangup(parameters)

    @runs_on("sip")
    def transfer(self, target: str) -> None:
        """Send REFER (RFC 3515) to ``target``; whatever comes of it ends in ``TransferEnded``."""
        try:
            self.xfer(target, pj.CallOpParam(True))
        except pj.Error as error:
            self._emit(TransferEnded(self.call_id, 500, describe(error)))

    @runs_on("sip")
    def send_digits(self, digits: str) -> None:
        """Send DTMF as RFC 4733 events; to a far end that takes none, as SIP INFO."""
        try:
            self.dialDtmf(digits)
        except pj.Error:
            parameters = pj.CallSendDtmfParam()
            parameters.digits = digits
            parameters.method = pj.PJSUA_DTMF_METHOD_SIP_INFO
            self.sendDtmf(parameters)

    def _respond(self, code: int) -> None:
        parameters = pj.CallOpParam()
        parameters.statusCode = code
        self.answer(parameters)

    # --- once a second, from the thread's own loop ---

    @runs_on("sip")
    def watch_rtp(self, now: float, limit_s: float) -> None:
        """Report ``MediaLost`` when no RTP packet came for ``limit_s``; a call on hold owes us none."""
        if not self._media_up or not limit_s:
            return
        # Each part is read while the whole is held: a SWIG proxy does not keep its parent alive.
        statistics = self.getStreamStat(self._media_index)
        packets = statistics.rtcp.rxStat.pkt
        if packets != self._rtp_packets or not self._caller_may_send():
            self._rtp_packets, self._rtp_at = packets, now
        elif now - self._rtp_at >= limit_s:
            self._emit(MediaLost(self.call_id, round(now - self._rtp_at, 1)))
            self._rtp_at = now

    def _caller_may_send(self) -> bool:
        info = self.getInfo()
        media = info.media[self._media_index]
        return media.status == pj.PJSUA_CALL_MEDIA_ACTIVE and bool(media.dir & pj.PJMEDIA_DIR_DECODING)

    # --- callbacks ---

    @callback
    def onCallState(self, prm: Any) -> None:
        """Follow the dialog."""
        info = self.getInfo()
        if info.state == pj.PJSIP_INV_STATE_EARLY and info.role == pj.PJSIP_ROLE_UAC:
            self._emit(LegRinging(self.call_id, info.lastStatusCode))
        elif info.state == pj.PJSIP_INV_STATE_CONFIRMED:
            self._report_media(info)
        elif info.state == pj.PJSIP_INV_STATE_DISCONNECTED:
            self._closed(info)

    @callback
    def onCallMediaState(self, prm: Any) -> None:
        """Join the call's stream with its port; called again after every re-INVITE."""
        info = self.getInfo()
        for media in info.media:
            if media.type == pj.PJMEDIA_TYPE_AUDIO and media.status in (
                pj.PJSUA_CALL_MEDIA_ACTIVE,
                pj.PJSUA_CALL_MEDIA_REMOTE_HOLD,
            ):
                self._media_index = media.index
                self._join(self.getAudioMedia(media.index))
                break
        self._report_media(info)

    @callback
    def onCallTransferStatus(self, prm: Any) -> None:
        """Follow a transfer of ours; only its end is told."""
        if prm.finalNotify:
            self._emit(TransferEnded(self.call_id, prm.statusCode, prm.reason))

    @callback
    def onCallTransferRequest(self, prm: Any) -> None:
        """Refuse REFER: by default the library obeys it, and a stranger could dial on our account."""
        prm.statusCode = pj.PJSIP_SC_DECLINE

    @callback
    def onCallReplaceRequest(self, prm: Any) -> None:
        """Refuse an INVITE with Replaces (RFC 3891), which by default takes a running call over."""
        prm.statusCode = pj.PJSIP_SC_BUSY_HERE

    def failed(self, detail: str) -> None:
        """Report that the stack could not do what was asked."""
        self._emit(LegFailed(self.call_id, detail))

    def _emit(self, event: CallEvent) -> None:
        self._table.emit(event)

    def _join(self, stream: Any) -> None:
        if self._buffers is None:
            return
        if self._port is None:
            self._port = self._table.idle_ports.pop() if self._table.idle_ports else self._table.make_port()
            self._port.lend(*self._buffers)
        stream.startTransmit(self._port)
        self._port.startTransmit(stream)

    def _report_media(self, info: Any) -> None:
        ready = info.state == pj.PJSIP_INV_STATE_CONFIRMED and self._port is not None
        if self._media_up or not ready:
            return
        self._media_up = True
        self._rtp_at = time.monotonic()
        stream = self.getStreamInfo(self._media_index)
        self._emit(MediaUp(self.call_id, f"{stream.codecName}/{stream.codecClockRate}"))

    def _closed(self, info: Any) -> None:
        # The library has taken the stream off the bridge by now, and its connections with it.
        if self._port is not None:
            self._port.take_back()
            self._table.idle_ports.append(self._port)
            self._port = None
        # Dropped here and nowhere later: the destructor of an old wrapper can hang up whoever has its slot by then.
        self._table.calls.pop(self.call_id, None)
        self._emit(LegClosed(self.call_id, not self._hung_up_by_us, info.lastStatusCode, info.lastReason))


class _Orders(Protocol):
    """The part of ``SipThread`` that a leg needs."""

    def submit(self, order: Callable[[CallTable], None]) -> None:
        """Have ``order`` carried out on the SIP thread."""


class PjLeg:
    """
    The SIP side of one call as ``call/ports.py`` wants it. Thread: loop.

    Args:
        thread: where orders go.
        call_id: our id of the call.
        uplink: takes the caller's voice.
        playout: gives the agent's speech.
    """

    def __init__(self, thread: _Orders, call_id: CallId, uplink: UplinkTap, playout: PlayoutBuffer) -> None:
        self._thread = thread
        self._call_id = call_id
        self._buffers = (uplink, playout)

    def ring(self) -> None:
        """Send 180 Ringing."""
        self._order(PjCall.ring)

    def answer(self) -> None:
        """Send 200 OK; ``MediaUp`` or ``LegFailed`` follows."""
        self._order(lambda call: call.pick_up(*self._buffers))

    def dial(self, uri: str) -> None:
        """Place the call ``SipThread.new_call`` made room for; ``LegRinging``, ``MediaUp``, ``LegClosed`` follow."""
        self._order(lambda call: call.place(uri, *self._buffers))

    def hang_up(self, code: int, reason: str) -> None:
        """End the leg: final response ``code`` before the answer, BYE after it. ``LegClosed`` follows."""
        self._order(lambda call: call.end(code, reason))

    def transfer(self, target: str) -> None:
        """Send the far end to the URI ``target``; ``TransferEnded`` follows."""
        self._order(lambda call: call.transfer(target))

    def send_digits(self, digits: str) -> None:
        """Send DTMF digits."""
        self._order(lambda call: call.send_digits(digits))

    def _order(self, order: Callable[[PjCall], None]) -> None:
        self._thread.submit(lambda table: table.order(self._call_id, order))
