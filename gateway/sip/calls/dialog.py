"""
What every call has, first leg or second: its SIP dialog, its audio stream, its DTMF keys and its end.

Theory of operation. ``Dialog`` is pjsua2's ``Call`` with the callbacks that both kinds of leg share; ``PjCall`` and
``PjSecondLeg`` (``calls.py``) say what an event means for them by overriding the small methods under "what the two
kinds of call make of it". Orders come from the loop through ``CallTable.order``; callbacks come from the library
inside its poll. Both run on ``sip``, never at the same time.

Life: an INVITE that arrives is wrapped by ``GatewayAccount.onIncomingCall``, one of ours is sent by ``place``. State
changes arrive in ``onCallState``, each re-INVITE's media in ``onCallMediaState``. A stream exists from
``onStreamCreated`` to ``onStreamDestroyed``, the last moment at which its counters can be read; ``watch`` looks after
it once a second (jitter buffer, a codec that was not agreed on, a stream that never came).

Where a far end's own words matter, the message is read, not the library's summary of it: INFO and NOTIFY are answered
by us, the Reason of a BYE and the status of a refusal are kept, a 302's contacts too. A callback hands over the text,
``CallTable.reader`` has parsed it already.

End: the table holds the only reference to a call. It goes when the dialog is DISCONNECTED, inside that callback: the
destructor of a wrapper that lived on could hang up whoever has taken over its slot in the library. So whoever orders
something that may end the call must not touch the call afterwards. If the server that an INVITE went to does not
answer, a new ``Dialog`` takes the old one's place in the table (``_place_again``), and nobody outside notices.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from gateway.ids import CallId
from gateway.settings.sip import Codec, SipSettings
from gateway.sip.calls.rtp_source import address_of, take_only_from
from gateway.sip.calls.table import CallTable
from gateway.sip.core.dtmf import DtmfFilter, key_in_info
from gateway.sip.core.ending import DialogEnding, ending_in, reason_headers
from gateway.sip.core.info_notify import FinalResponse, answer_to
from gateway.sip.core.jitter import JitterWatch
from gateway.sip.core.message import Message, clean
from gateway.sip.core.quality import CodecWatch, StreamCounts, read_counts
from gateway.sip.core.sdp import keep_codecs, may_pause, takes_any
from gateway.sip.library.pj import pj
from gateway.sip.library.refusing_call import RefusingCall
from gateway.sip.native.dtmf_memory import DtmfMemory
from gateway.sip.native.guard import callback, describe
from gateway.sip.native.library import respond_in_dialog
from gateway.sip.native.max_forwards import DEFAULT_HOPS, max_forwards
from gateway.threads import runs_on

if TYPE_CHECKING:
    from gateway.sip.core.addressing import OutboundInvite
    from gateway.sip.location.failover import RequestAttempt
    from gateway.sip.native.jitter_buffer import JitterBuffer


_KEY_OVER_S = 2.5  # packets of an event are none of audio
_DTMF_ENDED = 2  # PJMEDIA_STREAM_DTMF_IS_END, which the binding does not name

NO_STREAM_LIMIT_S = 5.0
"""How long a call may go without an audio stream and not be on hold: a re-INVITE may still repair it."""


class Dialog(RefusingCall):
    """
    The pjsua2 side of one call. It leaves the table in its DISCONNECTED callback, and no other reference is kept.

    Args:
        account: the ``pj.Account`` it belongs to.
        call_id: our id of the call.
        table: all calls.
        standing: the part of the table that holds it.
        pj_id: pjsua2's number of an incoming call; None for one to be placed.
        trunk: the trunk it goes through; empty for none.
    """

    def __init__(
        self,
        account: pj.Account,
        call_id: CallId,
        table: CallTable[Any, Any],
        standing: dict[CallId, Any],
        pj_id: int | None = None,
        *,
        trunk: str = "",
    ) -> None:
        super().__init__(account) if pj_id is None else super().__init__(account, pj_id)
        self.trunk = trunk
        self.sip_call_id = ""
        """Call-ID of a call that came in: what the library tells of it ends after 127 characters."""
        self.call_id = call_id
        self._table = table
        self._standing = standing
        self._keys = DtmfFilter()
        self._memory: DtmfMemory | None = None
        self._index = -1  # of the stream's line in the SDP; there is none on hold from the first moment
        self._codec = ""
        self._on_hold = False
        self._listens_only = False
        self._has_line = False
        self._well_at = time.monotonic()
        self._jitter: JitterBuffer | None = None
        self._line = _jitter_watch(table.settings)
        self._codec_watch = CodecWatch()
        self._offered: tuple[str, ...] = ()
        self._insisted = False
        self._key_at = 0.0
        self._ended_counts = StreamCounts()
        self._may_pause = False
        self._ended_by_us = False
        self._end_due: tuple[int, str, int] | None = None  # asked for, and to be done when the ACK is there
        self._answered = False
        self._cancelled_by: Message | None = None
        self._told_over = False
        self._traced = False
        self._referred = False  # NOTIFYs about a transfer are expected
        self._where: OutboundInvite | None = None
        self._hops = DEFAULT_HOPS
        self._attempt: RequestAttempt | None = None
        self._rung = False
        standing[call_id] = self

    # --- what the two kinds of call make of it ---

    @runs_on("sip")
    def failed(self, detail: str) -> None:
        """Report that the stack could not do what was asked."""

    @runs_on("sip")
    def watch(self, now: float) -> None:
        """Look after the call, once a second; ``now`` on the scale of ``time.monotonic``."""
        if self._has_line or not self._answered:
            self._well_at = now
        elif now - self._well_at >= NO_STREAM_LIMIT_S and not self._ended_by_us:
            self.failed("the audio stream could not be made")
        counts = self._current_counts()
        if counts is not None and self._jitter is not None:
            self._jitter.follow(self._line.measure(now, counts.level_ms, counts.rx_packets, counts.missing))
        pressing = now - self._key_at <= _KEY_OVER_S
        if counts is not None and self._answered and not (self._insisted or self._on_hold or pressing):
            self._insist_on_codec(now, counts)

    def _insist_on_codec(self, now: float, counts: StreamCounts) -> None:
        """Offer the codec in use alone, once, to a far end that sends in another."""
        if not self._codec_watch.is_other(now, counts.rx_packets, counts.missing, counts.level_ms):
            return
        self._offered = (self._codec.partition("/")[0],)
        try:
            self.reinvite(pj.CallOpParam(True))
            self._insisted = True
        except pj.Error:  # another offer is on its way; the next sample will tell
            pass
        finally:
            self._offered = ()

    def _ringing(self, code: int) -> None:
        """Take a provisional answer."""

    def _media_changed(self, info: pj.CallInfo) -> None:
        """Take that the dialog or its media are in another state; the stream, if there is one, is known."""

    def _stream_gone(self) -> None:
        """Take that the library has removed the audio stream."""

    def _notified(self, message: Message) -> None:
        """Take a NOTIFY."""

    def _pressed(self, key: str) -> None:
        """Take a key of the far end."""

    def _over(self, ending: DialogEnding) -> None:
        """Take the end of the dialog."""

    def _successor(self) -> Dialog:
        """Return a new dialog that replaces this one, in the table too: its call goes to another server."""
        raise NotImplementedError

    # --- orders ---

    @runs_on("sip")
    def place(self, where: OutboundInvite, hops: int = DEFAULT_HOPS, after: RequestAttempt | None = None) -> None:
        """
        Send an INVITE; when even that cannot be done, the call is over.

        The table is the only holder of a call: the caller of this method must not use the call afterwards.

        Args:
            where: whom to call, and as whom.
            hops: its Max-Forwards.
            after: the attempt of the same call that failed before, at another server of its name.
        """
        parameters = pj.CallOpParam(True)
        parameters.txOption.localUri = where.local_uri
        for name, value in where.headers:
            _add_header(parameters, name, value)
        self._where, self._hops = where, hops
        tracer = self._table.tracer
        followed = contextlib.nullcontext() if tracer is None or not self._traced else tracer.follow_new()
        with self._table.failover.attempt(after) as self._attempt, max_forwards(hops), followed:
            try:
                # In brackets, or To would have the URI's parameters for its own (RFC 3261 section 20.10).
                self.makeCall(f"<{where.uri}>", parameters)
            except pj.Error as error:
                self._end(DialogEnding(pj.PJSIP_SC_SERVICE_UNAVAILABLE, self._attempt.problem or describe(error)))

    @runs_on("sip")
    def follow_trace(self) -> None:
        """Keep the messages of this dialog from now on, whatever the settings say."""
        self._traced = True
        if self._table.tracer is not None and self.getId() >= 0:
            self._table.tracer.follow(self._own_call_id())

    @runs_on("sip")
    def end(self, code: int, reason: str, contacts: tuple[str, ...] = (), cause: int = 0) -> None:
        """
        Refuse the call with ``code`` while it is not answered, cancel it, or send BYE with a Reason (RFC 3326).

        Args:
            code: SIP status that tells why.
            reason: the same for people.
            contacts: URIs that a 3xx names.
            cause: ITU-T Q.850 cause to send; 0 derives it from the code.
        """
        self._ended_by_us = True
        if self._attempt is not None:
            self._attempt.abandoned = True
        if self.getId() < 0:  # never placed
            self._end(DialogEnding(code, reason))
            return
        info = self.getInfo()
        if info.role == pj.PJSIP_ROLE_UAS and info.state == pj.PJSIP_INV_STATE_CONNECTING:
            # RFC 3261 section 15: no BYE before the ACK. The library would wait, too, but forget the Reason.
            self._end_due = code, reason, cause
            return
        refusal = info.role == pj.PJSIP_ROLE_UAS and info.state < pj.PJSIP_INV_STATE_CONNECTING
        parameters = pj.CallOpParam()
        if info.state < pj.PJSIP_INV_STATE_CONFIRMED:
            parameters.statusCode = code if code >= 300 else pj.PJSIP_SC_REQUEST_TERMINATED
            parameters.reason = reason
        if refusal and code == pj.PJSIP_SC_SERVICE_UNAVAILABLE:
            _add_header(parameters, "Retry-After", str(self._table.settings.retry_after_s))  # RFC 3261 section 20.33
        for value in reason_headers(code, reason, answered=not refusal, cause=cause):
            _add_header(parameters, "Reason", value)
        if refusal and contacts:
            for contact in contacts:
                _add_header(parameters, "Contact", f"<{contact}>")
        self.hangup(parameters)

    @runs_on("sip")
    def codecs(self) -> tuple[Codec, ...]:
        """Return the codecs of this call's trunk, best first."""
        trunk = self._table.trunks.get(self.trunk)
        return self._table.settings.codecs if trunk is None or trunk.codecs is None else trunk.codecs

    @runs_on("sip")
    def counts(self) -> StreamCounts:
        """Return what was counted of the audio so far."""
        now = self._current_counts()
        return self._ended_counts if now is None else self._ended_counts.and_then(now)

    def _current_counts(self) -> StreamCounts | None:
        if self._index < 0:
            return None
        statistics = self.getStreamStat(self._index)
        return read_counts(statistics)

    # --- callbacks: the dialog ---

    @callback
    def onCallState(self, prm: pj.OnCallStateParam) -> None:
        """Follow the dialog; its end is reported, whatever fails."""
        info = self.getInfo()
        try:
            self._follow(info, prm.e)
        finally:
            if info.state == pj.PJSIP_INV_STATE_DISCONNECTED:
                self._end(DialogEnding(info.lastStatusCode, clean(info.lastReason)))

    def _follow(self, info: pj.CallInfo, event: pj.SipEvent) -> None:
        if info.state == pj.PJSIP_INV_STATE_EARLY and info.role == pj.PJSIP_ROLE_UAC:
            self._rung = True
            self._ringing(info.lastStatusCode)
        elif info.state == pj.PJSIP_INV_STATE_CONFIRMED and self._end_due is not None:
            code, reason, cause = self._end_due
            self.end(code, reason, cause=cause)
        elif info.state == pj.PJSIP_INV_STATE_CONFIRMED:
            self._answered = True
            self._media_changed(info)
        elif info.state == pj.PJSIP_INV_STATE_DISCONNECTED:
            self._follow_end(info, event)

    def _follow_end(self, info: pj.CallInfo, event: pj.SipEvent) -> None:
        if self._goes_elsewhere(info.lastStatusCode, event):
            self._place_again(info.lastStatusCode)
        elif self._attempt is not None and self._attempt.problem:
            self._end(DialogEnding(pj.PJSIP_SC_SERVICE_UNAVAILABLE, self._attempt.problem))
        elif not self._answered and _timed_out(event):
            # RFC 3261 section 8.1.3.1 makes it a 408, but here somebody might have rung a telephone for so long.
            self._end(DialogEnding(pj.PJSIP_SC_SERVICE_UNAVAILABLE, "nothing answers at that address"))
        else:
            said = None if self._ended_by_us else self._cancelled_by or self._received(event)
            asked = info.role == pj.PJSIP_ROLE_UAC and not self._answered
            self._end(ending_in(said, info.lastStatusCode, info.lastReason, asked=asked))

    @callback
    def onCallTsxState(self, prm: pj.OnCallTsxStateParam) -> None:
        """Read what the library does not, or not well: keys by INFO, and the far end's answer to our offer."""
        message = self._received(prm.e)
        if message is None:
            return
        if message.method == "CANCEL":
            self._cancelled_by = message
        elif message.method == "NOTIFY" and _is_new(prm.e):
            _answer(prm.e, answer_to(message, referred=self._referred))
            self._notified(message)
        elif message.method == "INFO" and _is_new(prm.e):
            self._take_info(prm.e, message)
        elif message.code // 100 == 2 and "m=audio" in message.body:
            self._may_pause = may_pause(message.body)

    # --- callbacks: media ---

    @callback
    def onCallSdpCreated(self, prm: pj.OnCallSdpCreatedParam) -> None:
        """Leave only the trunk's codecs in what we offer or answer."""
        offer, ours = prm.remSdp.wholeSdp, prm.sdp
        if offer:
            self._may_pause = may_pause(offer)
        kept = keep_codecs(ours.wholeSdp, self._offered or self.codecs())
        if kept != ours.wholeSdp:
            ours.wholeSdp = kept

    @callback
    def onCallRxReinvite(self, prm: pj.OnCallRxReinviteParam) -> None:
        """Refuse a re-INVITE without a codec of ours; the library would answer 500. The call stays as it was."""
        self._judge_offer(prm)

    @callback
    def onCallRxOffer(self, prm: pj.OnCallRxOfferParam) -> None:
        """Refuse an UPDATE without a codec of ours."""
        self._judge_offer(prm)

    @callback
    def onCallMediaState(self, prm: pj.OnCallMediaStateParam) -> None:
        """Find the audio stream; called again after every re-INVITE."""
        info = self.getInfo()
        line = _audio_line(info)
        self._has_line = line is not None
        if line is not None:
            self._on_hold = not line.dir & pj.PJMEDIA_DIR_ENCODING
            self._listens_only = not self._on_hold and not line.dir & pj.PJMEDIA_DIR_DECODING
            if line.audioConfSlot != pj.INVALID_ID:
                self._index = line.index
                stream = self.getStreamInfo(line.index)
                self._codec = f"{stream.codecName}/{stream.codecClockRate}"
        self._media_changed(info)

    @callback
    def onStreamPreCreate(self, prm: pj.OnStreamPreCreateParam) -> None:
        """Shut strangers out before the stream reads anything."""
        trunk = self._table.trunks.get(self.trunk)
        source = self._table.settings.rtp_source if trunk is None or trunk.rtp_source is None else trunk.rtp_source
        info = prm.streamInfo
        far_end = address_of(info.remoteRtpAddress)
        if source == "signalled" and far_end is not None:
            ours = self.getMedTransportInfo(prm.streamIdx)
            take_only_from(far_end, *(int(name.rpartition(":")[2]) for name in (ours.localRtpName, ours.localRtcpName)))

    @callback
    def onStreamCreated(self, prm: pj.OnStreamCreatedParam) -> None:
        """Reach into the new stream for its memory of keys, and for its jitter buffer."""
        self._memory = DtmfMemory(int(prm.stream))
        self._codec_watch = CodecWatch()
        if self._table.jitter is not None:
            self._jitter = self._table.jitter.take()
            self._line = _jitter_watch(self._table.settings)

    @callback
    def onStreamDestroyed(self, prm: pj.OnStreamDestroyedParam) -> None:
        """Keep what was counted: the last moment at which it can be read."""
        self._memory = self._jitter = None
        if prm.streamIdx != self._index:
            return
        try:
            self._ended_counts = self.counts()
        finally:
            self._index = -1
            self._stream_gone()

    @callback
    def onDtmfEvent(self, prm: pj.OnDtmfEventParam) -> None:
        """Take a key by RFC 4733, in every packet that tells a change of it; those by SIP INFO were taken before."""
        if prm.method != pj.PJSUA_DTMF_METHOD_RFC2833:
            return
        key, ended = prm.digit.upper(), bool(prm.flags & _DTMF_ENDED)
        self._key_at = time.monotonic()
        if self._keys.event(key, prm.timestamp, prm.duration, self._key_at, ended=ended):
            self._pressed(key)
        if ended and self._memory is not None:
            self._memory.forget(key)

    # --- inside ---

    def _stream(self, info: pj.CallInfo) -> pj.AudioMedia:
        """Return the stream's end in the conference bridge; ask only while there is a stream."""
        # The library asks for the position among the lines of sound and video; the stream knows its line in the SDP.
        return self.getAudioMedia(next(at for at, line in enumerate(info.media) if line.index == self._index))

    def _goes_elsewhere(self, code: int, event: pj.SipEvent) -> bool:
        """Return whether this INVITE of ours is to be sent to the next server of its name (RFC 3263 section 4.3)."""
        asked = not self._answered and not self._rung
        return asked and self._table.failover.another(self._attempt, code, self._received(event))

    def _received(self, event: pj.SipEvent) -> Message | None:
        """Return the message that an event tells of."""
        return self._table.reader.find(_text_of(event))

    def _place_again(self, code: int) -> None:
        """Leave the call to a successor: this dialog is over, and its wrapper must go with it."""
        where, hops, failed = self._where, self._hops, self._attempt
        assert where is not None
        self._told_over = True
        self._finish_trace(code)
        successor = self._successor()
        successor._traced = self._traced

        def place() -> None:
            if self._standing.get(self.call_id) is successor:  # else it was given up meanwhile
                successor.place(where, hops, failed)

        self._table.later(place)

    def _judge_offer(self, prm: pj.OnCallRxReinviteParam | pj.OnCallRxOfferParam) -> None:
        offer = prm.offer.wholeSdp
        if offer and not takes_any(offer, self.codecs()):
            prm.statusCode = pj.PJSIP_SC_NOT_ACCEPTABLE_HERE

    def _take_info(self, event: pj.SipEvent, message: Message) -> None:
        """Take a key and answer the INFO; the library gets no body of it (``bodies.py``)."""
        key = key_in_info(message)
        _answer(event, answer_to(message) if key is None else FinalResponse(pj.PJSIP_SC_OK))
        if key is not None and self._keys.info(key, time.monotonic()):
            self._pressed(key)

    def _finish_trace(self, code: int) -> str | None:
        """Have the messages of this dialog written, if they are kept; returns where."""
        tracer = self._table.tracer
        if tracer is None or self.getId() < 0:
            return None
        path = tracer.finish(self._own_call_id(), keep=code // 100 != 2)
        return None if path is None else str(path)

    def _own_call_id(self) -> str:
        """Return the Call-ID header; there is none before the call was placed."""
        return self.sip_call_id or str(self.getInfo().callIdString)

    def _end(self, ending: DialogEnding) -> None:
        if self._told_over:
            return
        self._told_over = True
        try:
            self._over(ending)
        finally:
            # Dropped here and nowhere later: the destructor of an old wrapper can hang up whoever has its slot by then.
            self._standing.pop(self.call_id, None)


def _audio_line(info: pj.CallInfo) -> pj.CallMediaInfo | None:
    """Return the library's account of the audio line in use, on hold or not; None: none is, or its stream failed."""
    usable = (pj.PJSUA_CALL_MEDIA_ACTIVE, pj.PJSUA_CALL_MEDIA_REMOTE_HOLD)
    lines = (media for media in info.media if media.type == pj.PJMEDIA_TYPE_AUDIO and media.status in usable)
    return next(lines, None)


def _jitter_watch(settings: SipSettings) -> JitterWatch:
    return JitterWatch(settings.jitter_start_ms, settings.jitter_min_ms, settings.jitter_max_ms)


def _text_of(event: pj.SipEvent) -> str:
    """Return the text of the message that an event tells of, or nothing. Each part is read while its whole is held."""
    if event.type != pj.PJSIP_EVENT_TSX_STATE:
        return ""
    body = event.body
    state = body.tsxState
    if state.type != pj.PJSIP_EVENT_RX_MSG:
        return ""
    source = state.src
    return str(source.rdata.wholeMsg)


def _is_new(event: pj.SipEvent) -> bool:
    """Return whether an event tells of a request that has just come."""
    body = event.body
    transaction = body.tsxState.tsx
    return bool(transaction.role == pj.PJSIP_ROLE_UAS and transaction.state == pj.PJSIP_TSX_STATE_TRYING)


def _timed_out(event: pj.SipEvent) -> bool:
    """Return whether an event tells that a request of ours drew no response at all (RFC 3261, timers B and F)."""
    if event.type != pj.PJSIP_EVENT_TSX_STATE:
        return False
    body = event.body
    state = body.tsxState
    transaction = state.tsx
    return bool(state.type == pj.PJSIP_EVENT_TIMER and transaction.role == pj.PJSIP_ROLE_UAC)


def _answer(event: pj.SipEvent, answer: FinalResponse | None) -> None:
    """Answer the request of an event, where this build lets us; else the library answers as it does."""
    if answer is None:
        return
    body = event.body
    state = body.tsxState
    source = state.src
    received = source.rdata
    with contextlib.suppress(AttributeError):
        respond_in_dialog(int(received.pjRxData), answer.code, answer.headers)


def _add_header(parameters: pj.CallOpParam, name: str, value: str) -> None:
    header = pj.SipHeader()
    header.hName, header.hValue = name, value
    parameters.txOption.headers.append(header)
