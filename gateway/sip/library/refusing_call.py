"""A call of the library that no far end can turn into another one."""

from __future__ import annotations

from gateway.sip.library.pj import pj
from gateway.sip.native.guard import callback


class RefusingCall(pj.Call):
    """What every call of ours is: the library itself does what a REFER or Replaces says. Thread: sip."""

    @callback
    def onCallTransferRequest(self, prm: pj.OnCallTransferRequestParam) -> None:
        """Refuse REFER: by default the library obeys it, and a stranger could dial on our account."""
        prm.statusCode = pj.PJSIP_SC_DECLINE

    @callback
    def onCallReplaceRequest(self, prm: pj.OnCallReplaceRequestParam) -> None:
        """Refuse an INVITE with Replaces (RFC 3891), which by default takes a running call over."""
        prm.statusCode = pj.PJSIP_SC_BUSY_HERE
