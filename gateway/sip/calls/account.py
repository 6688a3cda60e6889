"""One account of the library: calls come in through it, and a trunk's registration lives in it."""

from __future__ import annotations

import time
from collections.abc import Callable

from gateway.call.events import IncomingInvite
from gateway.ids import new_call_id
from gateway.settings.sip import TrunkSettings
from gateway.sip.calls.calls import Calls, PjCall
from gateway.sip.core.addressing import parties_of
from gateway.sip.core.message import Message, clean
from gateway.sip.core.source import SOURCE_HEADER, Source, transport_of
from gateway.sip.library.pj import pj
from gateway.sip.native.guard import callback
from gateway.sip.native.max_forwards import hops_left

RegistrationAnswer = Callable[[int, str, int, Message | None, Source], None]
"""Takes what came of a REGISTER: status code, reason phrase, granted seconds, the response, if any, and its source."""


class GatewayAccount(pj.Account):
    """
    Turns an INVITE into a fact and a call in the table.

    Args:
        table: the calls of this process.
        source_of: says who sent a request, by its text and ``address:port`` it came from.
        trunk: name of the trunk it serves; empty for calls from none.
        settings: of that trunk.
        answered: takes the result of a REGISTER. Thread: sip.
    """

    def __init__(
        self,
        table: Calls,
        source_of: Callable[[str, str], Source],
        trunk: str = "",
        settings: TrunkSettings | None = None,
        answered: RegistrationAnswer | None = None,
    ) -> None:
        super().__init__()
        self._table = table
        self._source_of = source_of
        self._trunk = trunk
        self._settings = settings
        self._answered = answered

    @callback
    def onIncomingCall(self, prm: pj.OnIncomingCallParam) -> None:
        """Register the call and tell the loop; until an order comes the caller has our 100 Trying."""
        # Where it raises, no object is made of the call, and the library ends it.
        message = self._table.reader.read(prm.rdata.wholeMsg)
        parties = parties_of(message, self._settings)
        call = PjCall(self, new_call_id(time.time_ns()), self._table, prm.callId, trunk=self._trunk)
        call.sip_call_id = message.call_id
        if not parties.from_uri:
            call.end(pj.PJSIP_SC_BAD_REQUEST, "Bad From")  # nobody may call as nobody
            return
        call.caller, call.called = parties.caller, parties.called
        source = self._source_of(prm.rdata.wholeMsg, prm.rdata.srcAddress)
        # An edge's word is in ``source`` now, and anybody else's is worth nothing.
        headers = {name: value for name, value in message.joined().items() if name != SOURCE_HEADER}
        call.hops = hops_left(message.first("max-forwards"))
        self._table.emit(
            IncomingInvite(
                call.call_id,
                sip_call_id=message.call_id,
                from_uri=parties.from_uri,
                to_uri=parties.to_uri,
                source=str(source),
                transport=source.transport or transport_of(message),
                tls_name=source.tls_name,
                headers=headers,
                trunk=self._trunk,
                caller=parties.caller.number,
                called=parties.called,
                asserted=parties.caller.vouched,
            )
        )

    @callback
    def onRegState(self, prm: pj.OnRegStateParam) -> None:
        """Pass on the result of a REGISTER."""
        if self._answered is not None:
            received = prm.rdata
            response = self._table.reader.find(received.wholeMsg)
            source = self._source_of(received.wholeMsg, received.srcAddress)
            self._answered(prm.code, clean(prm.reason), prm.expiration, response, source)
