"""The screen: our module in front of the SIP library's own, which sees every message first."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import structlog

from gateway.sip.binding import pj
from gateway.sip.door import Door
from gateway.sip.dropped import Dropped
from gateway.sip.failover import Failover
from gateway.sip.guard import answering
from gateway.sip.native import RX_PRIORITY, Endpoint, OnMessage, PjString, SipModule
from gateway.sip.screening import NOT_ALLOWED, Drop, Pass, Respond, Screening, Verdict
from gateway.sip.trace import Tracer
from gateway.threads import runs_on

_log = structlog.get_logger(__name__)
_NEWS_EVERY_S = 10.0
_GOES_ON, _ENDS_HERE = 0, 1


class Screen:
    """
    Lets messages through to the library, drops or answers them. Thread: sip.

    Order in the SIP thread: ``install`` after ``libInit`` and before the first ``transportCreate``; ``tick`` about once
    a second; ``remove`` before ``libDestroy``; ``Tracer.close`` after it.

    Args:
        rules: decides.
        tracer: sees what passes, and what is sent.
        door: guards the listeners of TCP and TLS.
        failover: hears of requests that go out, and of the responses to them.
    """

    def __init__(self, rules: Screening, tracer: Tracer, door: Door, failover: Failover | None = None) -> None:
        self._rules = rules
        self._tracer = tracer
        self._door = door
        self._failover = failover
        self._endpoint: Endpoint | None = None
        self._dropped: Dropped | None = None
        self._received: Any = None
        self._sent: Any = None
        self._module = SipModule()
        self._name = PjString.of("gateway-screen")
        self._news_at = 0.0
        self.counts: Counter[str] = Counter()
        """How many messages were dropped or answered here, by reason, since the start."""
        self._told: Counter[str] = Counter()

    @runs_on("sip")
    def install(self) -> bool:
        """Register with the library; False (and one line in the log) when this build cannot have a screen."""
        try:
            endpoint, dropped = Endpoint(), Dropped(self._rules.allows)
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
        self._endpoint, self._dropped = endpoint, dropped
        self._door.install()
        return True

    @runs_on("sip")
    def tick(self, now: float) -> None:
        """Do what is due: idle connections, the line in the log. ``now``: monotonic seconds."""
        self._door.tick(now)
        self.counts.update(self._door.refused)
        self._door.refused.clear()
        if now >= self._news_at and self.counts != self._told:
            self._news_at = now + _NEWS_EVERY_S
            news = self.counts - self._told
            self._told = Counter(self.counts)
            _log.warning("sip_screened", total=sum(news.values()), **{_key(why): n for why, n in news.most_common()})

    @runs_on("sip")
    def remove(self) -> None:
        """Leave the library."""
        if self._endpoint is not None:
            self._endpoint.unregister(self._module)
            self._endpoint = None
            self._door.remove()
        if self._dropped is not None:
            self._dropped.remove()
            self._dropped = None
        self._received = self._sent = None

    # --- callbacks of the library; what they return is for it ---

    @answering(_ENDS_HERE)
    def _on_request(self, rx_data: int) -> int:
        return self._screen(rx_data, self._rules.request)

    @answering(_ENDS_HERE)
    def _on_response(self, rx_data: int) -> int:
        return self._screen(rx_data, self._judge_response)

    @answering(_GOES_ON)
    def _on_sent(self, tx_data: int) -> int:
        if self._endpoint is not None:
            self._endpoint.read_sent(tx_data, self._sent)
            text = self._sent.wholeMsg
            self._rules.sent(text, time.monotonic())
            if self._failover is not None:
                self._failover.sent(text)
            if self._tracer.wanted:
                self._tracer.saw(time.time(), True, self._sent.dstAddress, text)
        return _GOES_ON

    def _judge_response(self, text: str, source: str, now: float) -> Verdict:
        verdict = self._rules.response(text, source, now)
        if self._failover is not None and isinstance(verdict, Pass):
            self._failover.heard(text)
        return verdict

    def _screen(self, rx_data: int, judge: Callable[[str, str, float], Verdict]) -> int:
        if self._endpoint is None:
            return _GOES_ON
        self._endpoint.read_received(rx_data, self._received)
        text, source = self._received.wholeMsg, self._received.srcAddress
        self._door.heard(source)
        verdict = judge(text, source, time.monotonic())
        if isinstance(verdict, Drop):
            self.counts[verdict.why] += 1
            return _ENDS_HERE
        if self._tracer.wanted:
            self._tracer.saw(time.time(), False, source, text)
        if isinstance(verdict, Pass):
            return _GOES_ON
        self._answer(rx_data, verdict, text)
        return _ENDS_HERE

    def _answer(self, rx_data: int, verdict: Respond, text: str) -> None:
        assert self._endpoint is not None
        self.counts[verdict.why] += 1
        self._endpoint.respond(rx_data, verdict.code, verdict.reason, verdict.headers)
        if self._tracer.wanted and verdict.code >= 300 and verdict.code != 401 and verdict.why != NOT_ALLOWED:
            self._tracer.refused(text)


def _key(why: str) -> str:
    return why.lower().replace(" ", "_").replace("-", "_")
