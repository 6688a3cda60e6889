"""
The screen: in front of the SIP library, it sees every message first, in both directions.

Theory of operation. The rules are pure and live in ``admission/screening.py``; this module carries them out. A message
that arrives passes two of our functions, one after the other, inside one call of the library:

1. ``_on_text``, called by ``ParserGate`` instead of the library's parser. ``Screening.source_of`` says who sent it:
   behind an edge that is not where it came from. ``Screening.admit`` limits the rate, turns strangers away and parses
   what is left. A refusal is answered by raw bytes, without any state; the library never hears of the message. What is
   admitted is kept in ``_admitted`` until step 2.
2. ``_on_request`` or ``_on_response``, called as a PJSIP module whose priority puts it just before the transport
   layer's own, so before transactions and dialogs. ``Screening.request`` and ``response`` decide by dialog and
   transaction (``admission/dialog_table.py``) and by body (``admission/bodies.py``): pass, drop or answer. What passes
   gets the body that we printed for it, or none.

Between the two the library's parser runs. If it cannot read what was admitted, ``DroppedData`` tells us, and
``_on_unread`` answers 400. What the library sends comes by ``_on_sent``: the rules learn our requests and answers from
it, so that they know later what belongs to a call.

Every message that gets past step 1 goes to the SIP trace. Connections are counted before that, at ``accept``
(``connections.py``). A build in which one of these places cannot be had runs without it, and the log says so.
Everything here runs on ``sip``, inside the library's poll.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import structlog

from gateway.errors import SipError
from gateway.rate_limit import TokenBuckets
from gateway.sip.admission.refusal import response_to
from gateway.sip.admission.screening import CUT_OFF, NOT_ALLOWED, UNTOLD, Drop, Pass, Respond, Screening, Verdict
from gateway.sip.core.message import Malformed, Message, parse_message
from gateway.sip.core.source import Source
from gateway.sip.library.pj import pj
from gateway.sip.location.failover import Failover
from gateway.sip.native.guard import answering
from gateway.sip.native.handles import Handles
from gateway.sip.native.library import RX_PRIORITY, Endpoint, OnMessage, PjString, RawSender, RxData, SipModule
from gateway.sip.native.parser import BodyReplacer, ParserGate
from gateway.sip.screen.connections import AcceptGuard
from gateway.sip.screen.dropped_data import DroppedData
from gateway.sip.screen.trace import Tracer
from gateway.threads import runs_on

_log = structlog.get_logger(__name__)
_NEWS_EVERY_S = 10.0
_NEWEST = 5  # addresses in a line of the log
_GOES_ON, _ENDS_HERE = 0, 1
_NOT_DONE = {"Allow": ("REFER", "MESSAGE", "SUBSCRIBE"), "Supported": ("replaces", "norefersub")}
"""What the library promises by itself in every INVITE and 200, and the screen refuses."""


class _Admitted(NamedTuple):
    """A message that the library may parse: what it says, its text, who sent it, ``address:port`` it came from."""

    message: Message
    text: str
    source: Source
    hop: str


class Screen:
    """
    Lets messages through to the library, drops or answers them. Thread: sip.

    Order in the SIP thread: ``install`` after ``libInit`` and before the first ``transportCreate``; ``tick`` about once
    a second; ``remove`` before ``libDestroy``; ``Tracer.close`` after it.

    Args:
        rules: decides.
        tracer: sees what passes, and what is sent.
        accept_guard: guards the listeners of TCP and TLS.
        failover: hears of requests that go out, and of the responses to them.
        handles: counts the library's sockets; the screen reports its refusals.
    """

    def __init__(
        self,
        rules: Screening,
        tracer: Tracer,
        accept_guard: AcceptGuard,
        failover: Failover | None = None,
        handles: Handles | None = None,
    ) -> None:
        self._rules = rules
        self._tracer = tracer
        self._accept_guard = accept_guard
        self._failover = failover
        self._endpoint: Endpoint | None = None
        self._sender: RawSender | None = None
        self._gate: ParserGate | None = None
        self._admitted: _Admitted | None = None  # what the library parses now
        self._dropped: DroppedData | None = None
        self._body: BodyReplacer | None = None
        self._handles = handles
        self._received: pj.SipRxData | None = None
        self._sent: pj.SipTxData | None = None
        self._module = SipModule()
        self._name = PjString.of("gateway-screen")
        self._news_at = 0.0
        self.counts: Counter[str] = Counter()
        """How many messages were dropped or answered here, by reason, since the start."""
        self._newest: OrderedDict[str, None] = OrderedDict()
        self._told_of = TokenBuckets(1 / 60, 3)
        self._told: Counter[str] = Counter()

    @runs_on("sip")
    def install(self) -> bool:
        """Register with the library; False (and one line in the log) when this build cannot have a screen."""
        try:
            endpoint, sender, gate, body = Endpoint(), RawSender(), ParserGate(self._on_text), BodyReplacer()
            dropped = DroppedData(self._on_unread, self._on_too_long, self._accept_guard.hang_up)
        except AttributeError as error:
            _log.warning("sip_screen_missing", symbol=str(error), detail="put a SIP proxy in front of this build")
            return False
        self._received, self._sent = pj.SipRxData(), pj.SipTxData()
        module = self._module
        module.name, module.id, module.priority = self._name, -1, RX_PRIORITY
        module.on_rx_request = OnMessage(self._on_request)
        module.on_rx_response = OnMessage(self._on_response)
        module.on_tx_request = module.on_tx_response = OnMessage(self._on_sent)
        if not endpoint.register(module):
            _log.warning("sip_screen_missing", detail="the library refused the module")
            return False
        self._endpoint, self._sender, self._dropped, self._gate = endpoint, sender, dropped, gate
        self._body = body if body.works() else None
        gate.hides_bodies = self._body is not None
        if self._body is None:
            _log.warning("sip_bodies_unscreened", detail="put a proxy in front of this build that rewrites SDP")
        for header, words in _NOT_DONE.items():
            if not endpoint.withdraw(header, *words):
                _log.warning("sip_promises_too_much", header=header, words=words)
        try:
            gate.install()
        except SipError as error:  # what the library's own parser refuses gets no answer then, and counts for nobody
            _log.warning("sip_gate_missing", detail=f"{error}; put a SIP proxy in front of this build")
        self._accept_guard.install()
        return True

    @runs_on("sip")
    def tick(self, now: float) -> None:
        """Do what is due: idle connections, the line in the log. ``now``: monotonic seconds."""
        self._accept_guard.tick(now)
        for half_open in self._rules.half_open(now):
            if self._endpoint is not None and self._endpoint.terminate(*half_open):
                self.counts["no ACK"] += 1
        self.counts.update(self._accept_guard.refused)
        self._accept_guard.refused.clear()
        if self._handles is not None:
            self.counts.update(self._handles.refused)
            self._handles.refused.clear()
        if now >= self._news_at and self.counts != self._told:
            self._news_at = now + _NEWS_EVERY_S
            news = self.counts - self._told
            self._told = Counter(self.counts)
            counts = {_key(why): number for why, number in news.most_common()}
            _log.warning("sip_screened", total=sum(news.values()), **counts, newest=list(self._newest))

    @runs_on("sip")
    def remove(self) -> None:
        """Leave the library."""
        if self._gate is not None:
            self._gate.remove()
            self._gate = None
        if self._endpoint is not None:
            self._endpoint.unregister(self._module)
            self._endpoint = None
            self._accept_guard.remove()
        if self._dropped is not None:
            self._dropped.remove()
            self._dropped = None
        self._received = self._sent = None

    # --- before the library reads a message ---

    @runs_on("sip")
    def _on_text(self, text: str, size: int, hop: str, rx_data: int) -> bool:
        """Return whether the library may read a message; anything else to do with it is done here."""
        admitted = self._admit(text, size, hop)
        if isinstance(admitted, _Admitted):
            self._admitted = admitted
            return True
        self._turn_away(admitted, text, hop, RxData.from_address(rx_data).transport or 0)
        return False

    def _admit(self, text: str, size: int, hop: str) -> _Admitted | Drop | Respond:
        """Have a message judged before the library reads it; what is refused is counted here."""
        now = time.monotonic()
        source = self._rules.source_of(text, hop, now)
        if not isinstance(source, Source):
            self._count(source, self._rules.near(hop))
            if isinstance(source, Respond) and source.why == UNTOLD and self._told_of.take(UNTOLD, now):
                detail = "have the edge remove X-Gateway-Source from what comes in, and add its own to each request"
                _log.warning("sip_edge_without_source", edge=hop, problem=source.reason, detail=detail)
            return source
        admitted = self._rules.admit(text, size, source, now)
        if isinstance(admitted, Message):
            self._accept_guard.heard(hop)
            return _Admitted(admitted, text, source, hop)
        self._count(admitted, source)
        if isinstance(admitted, Respond) and admitted.why == CUT_OFF:
            self._may_hear_of_length(source)
        return admitted

    @runs_on("sip")
    def _on_unread(self, transport: int) -> bool:
        """Answer what was admitted and the library cannot read: its grammar is stricter in places."""
        admitted, self._admitted = self._admitted, None
        if admitted is None:
            return False
        request = admitted.message.is_request
        why = Respond("malformed", 400, "Bad Request") if request else Drop("malformed response")
        self._count(why, admitted.source)
        self._turn_away(why, admitted.text, admitted.hop, transport)
        return True

    def _on_too_long(self, hop: str) -> bool:
        return self._may_hear_of_length(self._rules.near(hop))

    def _turn_away(self, verdict: Drop | Respond, text: str, hop: str, transport: int) -> None:
        """Answer a message that the library never reads, to where it came from, or drop it."""
        host, _, port = hop.rpartition(":")
        answer = response_to(text, int(port), verdict.code, verdict.reason) if isinstance(verdict, Respond) else None
        if answer is not None and self._sender is not None:
            self._sender.send(transport, answer[0], host, answer[1])

    def _may_hear_of_length(self, source: Source) -> bool:
        """Log that a message was too long; return whether its sender gets an answer."""
        if not self._rules.allows(source):
            return False
        if self._told_of.take(CUT_OFF, time.monotonic()):
            detail = "over 4000 bytes: have the sender shorten it, or put a SIP proxy in front that removes headers"
            trunk = self._rules.trunk_of(source)
            _log.warning("sip_message_too_long", source=str(source), trunk=trunk, detail=detail)
        return True

    # --- callbacks of the library; what they return is for it ---

    @answering(_ENDS_HERE)
    def _on_request(self, rx_data: int) -> int:
        return self._screen(rx_data, self._rules.request)

    @answering(_ENDS_HERE)
    def _on_response(self, rx_data: int) -> int:
        return self._screen(rx_data, self._rules.response)

    @answering(_GOES_ON)
    def _on_sent(self, tx_data: int) -> int:
        if self._endpoint is None or self._sent is None:
            return _GOES_ON
        self._endpoint.read_sent(tx_data, self._sent)
        text, target = self._sent.wholeMsg, self._sent.dstAddress
        try:
            message = parse_message(text)
        except Malformed as error:
            _log.error("sip_sent_malformed", reason=error.reason, target=target)
            return _GOES_ON
        self._rules.sent(message, target, time.monotonic())
        if self._failover is not None:
            self._failover.sent(message)
        self._tracer.saw(time.time(), True, self._rules.near(target), message, text)
        return _GOES_ON

    def _screen(self, rx_data: int, judge: Callable[[Message, Source, float], Verdict]) -> int:
        if self._endpoint is None:
            return _GOES_ON
        admitted, self._admitted = self._admitted or self._read(rx_data), None
        if admitted is None:
            return _ENDS_HERE
        message, text, source, _ = admitted
        verdict = judge(message, source, time.monotonic())
        if not isinstance(verdict, Pass):
            self._count(verdict, source)
        if isinstance(verdict, Drop):
            return _ENDS_HERE
        self._tracer.saw(time.time(), False, source, message, text)
        if isinstance(verdict, Pass):
            if self._failover is not None and not message.is_request:
                self._failover.heard(message)
            return self._hand_over(rx_data, text, verdict)
        self._endpoint.respond(rx_data, verdict.code, verdict.reason, verdict.headers)
        if verdict.code >= 300 and verdict.code != 401 and verdict.why != NOT_ALLOWED:
            self._tracer.refused(message)
        return _ENDS_HERE

    def _hand_over(self, rx_data: int, text: str, verdict: Pass) -> int:
        body = None if verdict.body is None else (verdict.body.kind, verdict.body.text)
        if self._body is None or self._body.replace(rx_data, text, body):
            return _GOES_ON
        self.counts["body not replaced"] += 1
        return _ENDS_HERE

    def _read(self, rx_data: int) -> _Admitted | None:
        """Read a message that passed no gate."""
        assert self._endpoint is not None
        assert self._received is not None
        self._endpoint.read_received(rx_data, self._received)
        text, hop = self._received.wholeMsg, self._received.srcAddress
        admitted = self._admit(text, len(text.encode("utf-8", "surrogateescape")), hop)
        if isinstance(admitted, _Admitted):
            return admitted
        if isinstance(admitted, Respond) and not text.startswith("ACK "):
            self._endpoint.respond(rx_data, admitted.code, admitted.reason, admitted.headers)
        return None

    def _count(self, verdict: Drop | Respond, source: Source) -> None:
        if not verdict.why:
            return
        self.counts[verdict.why] += 1
        self._newest[source.host] = None
        self._newest.move_to_end(source.host)
        if len(self._newest) > _NEWEST:
            self._newest.popitem(last=False)


def _key(why: str) -> str:
    return why.lower().replace(" ", "_").replace("-", "_")
