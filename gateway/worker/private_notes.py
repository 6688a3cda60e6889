"""What of the people in a call its notes keep, as the settings' ``privacy`` says for its route."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gateway.call.events import Scalar
from gateway.dialplan.model.plan import Dialplan
from gateway.dialplan.read.messages import Finding, did_you_mean
from gateway.ids import CallId
from gateway.privacy import PrivacyMode, Shortener, parties_in
from gateway.settings.privacy import PrivacySettings

REMEMBERED = 1024
"""Calls whose mode is known; a late note of an older one is treated as the strictest mode says."""

_TELLING = frozenset(
    {
        *("sip_call_id", "from_uri", "to_uri", "caller", "called", "source", "tls_name", "metadata", "end_detail"),
        *("upstream_session_id", "recording", "sip_trace", "announcement", "answer_missing_why"),
    }
)
"""Fields of a record that a call has not even while it lasts, where nothing but counts is kept."""


def route_findings(dialplan: Dialplan, privacy: PrivacySettings, *, is_remark: bool) -> Iterator[Finding]:
    """
    Yield each route of the settings that the plan does not have: its calls would be written down as all others.

    Args:
        dialplan: the plan.
        privacy: the settings.
        is_remark: the plan can be used all the same.
    """
    names = [rule.name for rule in dialplan.routes]
    for route in privacy.routes:
        if route not in names:
            problem = (
                f"privacy.routes names the route {route!r}, which the plan does not have: {did_you_mean(route, names)}"
            )
            yield Finding(("routes",), problem, is_remark)


@dataclass(slots=True)
class _Known:
    mode: PrivacyMode
    parties: frozenset[str] = frozenset()


class PrivateNotes:
    """
    Takes people out of notes. Thread: loop.

    Args:
        privacy: how much is kept, by route.
    """

    def __init__(self, privacy: PrivacySettings) -> None:
        self._privacy = privacy
        self._strictest = privacy.strictest
        self._calls: OrderedDict[CallId, _Known] = OrderedDict()
        self._shortener = Shortener(keep=True)

    def mode(self, call_id: CallId, fields: Mapping[str, Scalar]) -> PrivacyMode:
        """
        Return the mode of a call.

        Args:
            call_id: whose note it is.
            fields: of the note; a call's first one has ``created_at`` and its route, if it has one.
        """
        if self._strictest == "full":
            return "full"
        if "created_at" in fields and call_id not in self._calls:
            self._calls[call_id] = _Known(self._privacy.of_route(str(fields.get("route", ""))))
            if len(self._calls) > REMEMBERED:
                self._calls.popitem(last=False)
        known = self._calls.get(call_id)
        return self._strictest if known is None else known.mode

    def shortened(self, call_id: CallId, fields: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """Return a note with numbers and users shortened, wherever they are repeated."""
        known = self._calls.get(call_id, _Known("shortened"))
        known.parties |= parties_in(fields)
        return self._shortener.fields(fields, known.parties)

    @staticmethod
    def counts(fields: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """Return what stands in the record of a live call of which nothing but counts is kept."""
        return {name: value for name, value in fields.items() if name not in _TELLING}
