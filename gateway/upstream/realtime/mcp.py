"""
Calls of MCP servers' tools, which the service makes by itself: what runs, who may, and who speaks afterwards.

The service says nothing by itself once such a call is over: the client has to ask for a response. Some services go on
nevertheless, so the gateway waits ``FOLLOW_S`` before it asks. A tool that needs an approval is announced by an item
``mcp_approval_request``; the service runs it when it was answered, also after the response that asked is over.

Events may lack ids, come twice, or come before or behind the end of their response. No clock: events ask for one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import structlog

from gateway.call.events import CallEvent, McpCallBegan, McpCallEnded, Noted
from gateway.ids import CallId
from gateway.upstream.core.dialect import DialectTimer
from gateway.upstream.realtime.wire import server
from gateway.upstream.realtime.wire.client import McpApprovalResponse
from gateway.upstream.realtime.wire.objects import CUT_OFF, ServerItem, ServerResponse

FOLLOW_S = 0.5
"""How long the service is given to go on by itself after a call."""

HELD_S = 1.0
"""How long a request for approval waits for the end of its response: whether that was cut off decides with it."""

GRANTED_S = 3.0
"""How long a call that was approved may take to begin."""

DEFAULT_LIMIT_S = 30.0

MAX_CALLS = 64
MAX_PAST = 256

_log = structlog.get_logger(__name__)

McpEvent = CallEvent | DialectTimer | McpApprovalResponse
"""What is to be reported or sent."""


@dataclass(frozen=True, slots=True)
class McpRule:
    """
    How calls to one server are treated.

    Attributes:
        limit_s: a call that is not over by then is waited for no longer.
        allowed: tools that may be used; None: all.
        approved: tools whose requests for approval are granted; None: all.
        denied: tools whose requests are denied in any case.
    """

    limit_s: float = DEFAULT_LIMIT_S
    allowed: frozenset[str] | None = None
    approved: frozenset[str] | None = None
    denied: frozenset[str] = frozenset()

    def objection(self, name: str) -> str:
        """Return why a tool must not run; empty when it may."""
        if self.allowed is not None and name not in self.allowed:
            return "this tool is not allowed"
        if name in self.denied or (self.approved is not None and name not in self.approved):
            return "this tool is not approved"
        return ""


@dataclass(slots=True, eq=False)
class _McpCall:
    """A call, or a request that was answered and whose call has not begun (``is_grant``)."""

    key: str
    response_id: str | None
    item_id: str | None = None
    output_index: int | None = None
    label: str = ""
    name: str = ""
    is_grant: bool = False
    over: bool = False
    heard_before: frozenset[str] = field(default_factory=frozenset)  # items of speech that had begun when it was over


@dataclass(frozen=True, slots=True)
class _ApprovalRequest:
    request_id: str
    response_id: str | None
    label: str
    name: str


class McpCalls:
    """
    The MCP calls of one call. Those of a session that ends are waited for no longer.

    Args:
        call_id: goes into every event.
        rules: how servers are treated, by label.
    """

    def __init__(self, call_id: CallId, rules: Mapping[str, McpRule] | None = None) -> None:
        self._call_id = call_id
        self._rules = rules or {}
        self._calls: dict[str, _McpCall] = {}  # that run, or are over and not spoken about yet
        self._requests: dict[str, _ApprovalRequest] = {}  # that wait for the end of their response
        self._past: dict[str, None] = {}  # ids of calls and requests that are done with
        self._heard: dict[str, None] = {}  # the newest items of speech
        self._ready = False  # what is over may be spoken about
        self._count = 0
        self._follow_count = 0

    def __len__(self) -> int:
        return len(self._calls) + len(self._requests) + len(self._past) + len(self._heard)

    @property
    def pending(self) -> bool:
        """Whether a call runs, or the agent has not spoken yet about one that is over."""
        return bool(self._calls or self._requests)

    @property
    def running(self) -> bool:
        """Whether a call runs; none does for longer than its server's limit."""
        return any(not call.over and not call.is_grant for call in self._calls.values())

    def runs_in(self, response_id: str) -> bool:
        """Whether a call of this response runs, or may begin."""
        running = any(call.response_id == response_id and not call.over for call in self._calls.values())
        return running or any(request.response_id == response_id for request in self._requests.values())

    def used_in(self, response_id: str) -> bool:
        """Whether a response made calls, or asked for an approval, that the agent has not spoken about yet."""
        waiting: tuple[_McpCall | _ApprovalRequest, ...] = (*self._calls.values(), *self._requests.values())
        return any(each.response_id in (None, response_id) for each in waiting)

    # What the service tells

    def take_item(
        self, item: ServerItem | None, response_id: str | None, index: int | None = None, *, begins: bool = False
    ) -> list[McpEvent]:
        """
        Take an item from any event that contains it; items without an MCP server are ignored.

        Args:
            item: as received.
            response_id: the response that is active, or that the event names.
            index: its place in the response's output.
            begins: the item was only announced.
        """
        if item is None:
            return []
        if item.type == "mcp_approval_request":
            return [] if begins else self._asked(item, response_id)
        if item.type != "mcp_call":
            return []
        told = item.output is not None or item.error is not None or item.status in (*CUT_OFF, "completed")
        over = told and not begins
        events = self._begin(item.id, response_id, index, item, over=over)
        if over and (call := self._find(item.id, index)) is not None:
            events += self._end(call, failed=item.error is not None or item.status in CUT_OFF)
        return events

    def take_progress(self, event: server.McpCallProgress, response_id: str | None) -> list[McpEvent]:
        """Take how far a call is; ``response_id`` as for ``take_item``."""
        over = event.type != "response.mcp_call.in_progress"
        events = self._begin(event.item_id, event.response_id or response_id, event.output_index, None, over=over)
        if over and (call := self._find(event.item_id, event.output_index)) is not None:
            events += self._end(call, failed=event.type == "response.mcp_call.failed")
        return events

    def response_began(self) -> None:
        """Take note that the agent answers: it knows what the calls brought that are over."""
        self._settle(call for call in self._calls.values() if call.over or call.is_grant)

    def response_ended(self, response: ServerResponse, *, stale: bool) -> list[McpEvent]:
        """Take ``response.done``; ``stale``: it was given up before."""
        events: list[McpEvent] = []
        for index, item in enumerate(response.output or ()):
            events += self.take_item(item, response.id, index)
        cut = stale or response.status in CUT_OFF
        for request in list(self._requests.values()):
            if request.response_id in (None, response.id):
                events += self._answer(request, cut=cut)
        if response.status == "failed":  # it is asked for again, with all that it was to bring
            mine = [call for call in self._calls.values() if call.response_id == response.id and not call.over]
            events += [self._ended(call, failed=True) for call in mine]
            self._settle(mine)
        return events if events else self._follow()

    def heard(self, item_id: str, response_id: str | None) -> None:
        """Take note of speech: a response that goes on to speak after its calls needs no other."""
        if item_id not in self._heard:
            _remember(self._heard, item_id, MAX_CALLS)
        if self._calls:
            self._settle(
                call
                for call in self._calls.values()
                if call.over and call.response_id in (None, response_id) and item_id not in call.heard_before
            )

    def take_timer(self, key: str, *, stale: bool) -> list[McpEvent]:
        """Take the end of an ``DialectTimer``; ``stale`` as for ``response_ended``, of the response that is active."""
        if key == self._follow_key:
            self._ready = self._is_complete
            return []
        if (request := self._requests.get(key)) is not None:
            return self._answer(request, cut=stale)
        call = self._calls.get(key)
        if call is None or call.over:
            return []
        events = self._end(call, failed=True)
        if not call.is_grant:
            fields = {"item_id": call.key, "server_label": call.label, "name": call.name}
            _log.warning("mcp_call_given_up", call_id=self._call_id, **fields)
            events.append(Noted(self._call_id, "mcp_call_given_up", fields))
        self._ready = self._is_complete
        return events

    def take_due(self, besides: Collection[str] = ()) -> bool:
        """Return, once, whether the agent is to speak about calls; not while functions of those responses run."""
        if not self._ready or any(call.response_id in besides for call in self._calls.values()):
            return False
        self._settle(self._calls.values())
        return True

    def end_session(self) -> list[CallEvent]:
        """Wait for nothing of this session any more."""
        ended: list[CallEvent] = [self._ended(call, failed=True) for call in self._calls.values() if not call.over]
        self._settle(self._calls.values())
        self._requests.clear()
        return ended

    # Calls

    @property
    def _is_complete(self) -> bool:
        return bool(self._calls) and not self._requests and all(call.over for call in self._calls.values())

    def _begin(
        self, item_id: str | None, response_id: str | None, index: int | None, item: ServerItem | None, *, over: bool
    ) -> list[McpEvent]:
        """Note a call, unless it is known; ``over``: it has ended, perhaps reported for the second time."""
        known = self._find(item_id, index)
        if known is not None:
            known.item_id = known.item_id or item_id
            known.label = known.label or _label(item)
            known.name = known.name or _name(item)
            return []
        told_before = over and not item_id and any(call.over for call in self._calls.values())
        if item_id in self._past or told_before or len(self._calls) >= MAX_CALLS:
            return []
        self._count += 1
        key = item_id or f"mcp-{self._count}"
        call = _McpCall(key, response_id, item_id, index, _label(item), _name(item))
        self._drop_grant(item.approval_request_id if item is not None else None)
        self._calls[key] = call
        self._ready = False
        began = McpCallBegan(self._call_id, key, call.label, call.name)
        return [began, DialectTimer(self._rule(call.label).limit_s, key)]

    def _find(self, item_id: str | None, index: int | None) -> _McpCall | None:
        """Return the call that an event is about, by the surest thing it says."""
        same = (call for call in self._calls.values() if item_id and call.item_id == item_id)
        if (found := next(same, None)) is not None or item_id in self._past:
            return found
        calls = [call for call in self._calls.values() if not call.is_grant]
        running = [call for call in calls if not call.over]
        if item_id:  # the call itself may have come without an id
            return next((call for call in (*running, *calls) if call.item_id is None), None)
        by_index = (call for call in running if index is not None and call.output_index == index)
        return next(by_index, running[0] if running else None)

    def _end(self, call: _McpCall, *, failed: bool) -> list[McpEvent]:
        if call.over:
            return []
        call.over, call.heard_before = True, frozenset(self._heard)
        ended: list[McpEvent] = [] if call.is_grant else [self._ended(call, failed=failed)]
        return [*ended, *self._follow()]

    def _ended(self, call: _McpCall, *, failed: bool) -> McpCallEnded:
        return McpCallEnded(self._call_id, call.key, call.label, call.name, failed)

    def _follow(self) -> list[McpEvent]:
        """Restart the measurement of the service's silence, if all calls are over."""
        if not self._is_complete:
            return []
        self._ready = False
        self._follow_count += 1
        return [DialectTimer(FOLLOW_S, self._follow_key)]

    @property
    def _follow_key(self) -> str:
        return f"follow-{self._follow_count}"

    def _settle(self, calls: Iterable[_McpCall]) -> None:
        for call in list(calls):
            del self._calls[call.key]
            _remember(self._past, call.item_id or call.key, MAX_PAST)
        self._ready = self._ready and bool(self._calls)

    def _rule(self, label: str) -> McpRule:
        return self._rules.get(label, McpRule())

    # Approvals

    def _asked(self, item: ServerItem, response_id: str | None) -> list[McpEvent]:
        """Take a request for approval; one of a response that is still active waits for its end."""
        request_id = item.id or ""
        known = request_id in self._requests or request_id in self._past
        if not request_id or known or len(self._requests) >= MAX_CALLS:
            return []
        request = _ApprovalRequest(request_id, response_id, _label(item), _name(item))
        self._requests[request_id] = request
        return [DialectTimer(HELD_S, request_id)]

    def _answer(self, request: _ApprovalRequest, *, cut: bool) -> list[McpEvent]:
        del self._requests[request.request_id]
        _remember(self._past, request.request_id, MAX_PAST)
        rule = self._rules.get(request.label)
        objection = "there is no such server" if rule is None else rule.objection(request.name)
        objection = "the request was cut off" if cut else objection
        approve = not objection
        fields: dict[str, str | int | float] = {
            "server_label": request.label,
            "tool": request.name,
            "approved": approve,
            **({"detail": objection} if objection else {}),
        }
        _log.info("mcp_approval", call_id=self._call_id, **fields)
        self._count += 1
        answer = McpApprovalResponse(
            id=f"approval_response_{self._count}", approval_request_id=request.request_id, approve=approve
        )
        if objection:
            answer = answer.model_copy(update={"reason": objection})
        noted: list[McpEvent] = [Noted(self._call_id, "mcp_approval", fields), answer]
        return noted + (self._grant(request) if approve else self._deny(request))

    def _grant(self, request: _ApprovalRequest) -> list[McpEvent]:
        """Wait for the call that was approved, unless it was announced already."""
        if self._of(request):
            return []
        key = f"granted {request.request_id}"
        self._calls[key] = _McpCall(key, request.response_id, label=request.label, name=request.name, is_grant=True)
        return [DialectTimer(GRANTED_S, key)]

    def _deny(self, request: _ApprovalRequest) -> list[McpEvent]:
        """Wait for nothing: the agent is to say that it cannot be done."""
        key = f"denied {request.request_id}"
        self._calls[key] = _McpCall(key, request.response_id, is_grant=True)
        events = [each for call in (*self._of(request), self._calls[key]) for each in self._end(call, failed=True)]
        return [*events]

    def _of(self, request: _ApprovalRequest) -> list[_McpCall]:
        """Return the running calls that a request may be about."""
        asked = (request.label, request.name)
        running = (call for call in self._calls.values() if not call.over and not call.is_grant)
        return [call for call in running if (call.label, call.name) == asked]

    def _drop_grant(self, request_id: str | None) -> None:
        """Forget that a call was approved: it has begun."""
        grants = [call for call in self._calls.values() if call.is_grant and not call.over]
        named = [call for call in grants if call.key == f"granted {request_id}"]
        self._settle((named or grants)[:1])


def _label(item: ServerItem | None) -> str:
    return ((item.server_label if item is not None else None) or "")[:64]


def _name(item: ServerItem | None) -> str:
    return ((item.name if item is not None else None) or "")[:64]


def _remember(known: dict[str, None], key: str, most: int) -> None:
    known[key] = None
    if len(known) > most:
        del known[next(iter(known))]
