"""A second leg: somebody called for a caller, for the agent to speak with or for the caller to be joined with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gateway.call.events import Noted, SecondDigit, SecondRinging, SecondUp
from gateway.ids import CallId
from gateway.sip.calls.bridge import Bridge
from gateway.sip.calls.dialog import Dialog
from gateway.sip.core.ending import DialogEnding
from gateway.sip.library.pj import pj

if TYPE_CHECKING:
    from gateway.sip.calls.calls import CallTable


class SecondLeg(Dialog):
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
        account: Any,
        call_id: CallId,
        table: CallTable,
        bridge: Bridge,
        over: Callable[[DialogEnding], None],
        *,
        trunk: str = "",
    ) -> None:
        super().__init__(account, self.key_for(call_id), table, trunk=trunk)
        self._call_id = call_id
        self._bridge = bridge
        self._tell_over = over
        self._up = False

    @staticmethod
    def key_for(call_id: CallId) -> CallId:
        """Return where the second leg of a call stands in the table."""
        return CallId(f"{call_id}/second")

    def failed(self, detail: str) -> None:
        """End the leg: whatever went wrong with it, it is of no use any more."""
        if self._ended_by_us:
            return
        try:
            self.end(pj.PJSIP_SC_INTERNAL_SERVER_ERROR, detail)
        except pj.Error:  # it cannot even be ended: nothing more of it can be told
            self._end(DialogEnding(pj.PJSIP_SC_INTERNAL_SERVER_ERROR, detail))

    def _ringing(self, code: int) -> None:
        self._table.emit(SecondRinging(self._call_id, code))

    def _pressed(self, key: str) -> None:
        self._table.emit(SecondDigit(self._call_id, key))

    def _stream_gone(self) -> None:
        self._bridge.stream_gone("second")

    def _media_changed(self, info: Any) -> None:
        if info.state != pj.PJSIP_INV_STATE_CONFIRMED:
            return
        if self._index >= 0:
            self._bridge.stream_up("second", self._stream(info))
        if not self._up and (self._index >= 0 or self._on_hold):
            self._up = True
            self._table.emit(SecondUp(self._call_id, self._codec))

    def _successor(self) -> SecondLeg:
        account = self._table.account_of(self.trunk)
        return SecondLeg(account, self._call_id, self._table, self._bridge, self._tell_over, trunk=self.trunk)

    def _over(self, ending: DialogEnding) -> None:
        try:
            self._bridge.stream_gone("second")
            path = self._finish_trace(ending.code)
            if path is not None:
                self._table.emit(Noted(self._call_id, "second_traced", {"path": path}))
        finally:
            self._tell_over(ending)
