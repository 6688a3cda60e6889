"""The account that takes every call."""

from __future__ import annotations

from typing import Any

from gateway.call.events import IncomingInvite
from gateway.ids import new_call_id
from gateway.sip.binding import pj
from gateway.sip.call import CallTable, PjCall
from gateway.sip.guard import callback
from gateway.sip.message import bare_uri, clean, headers_of, request_uri


class GatewayAccount(pj.Account):
    """
    Turns an INVITE into a fact and a call in the table.

    Args:
        table: the calls of this process.
    """

    def __init__(self, table: CallTable) -> None:
        super().__init__()
        self._table = table

    @callback
    def onIncomingCall(self, prm: Any) -> None:
        """Register the call and tell the loop; until an order comes the caller has our 100 Trying."""
        call = PjCall(self, new_call_id(), self._table, prm.callId)
        message = prm.rdata.wholeMsg
        headers = headers_of(message)
        self._table.emit(
            IncomingInvite(
                call.call_id,
                sip_call_id=clean(call.getInfo().callIdString),
                from_uri=bare_uri(headers.get("from", "")),
                to_uri=bare_uri(request_uri(message)),
                source=prm.rdata.srcAddress,
                headers=headers,
            )
        )

    def failed(self, detail: str) -> None:
        """Nothing to tell: the callback's guard has logged it, and no call exists."""
