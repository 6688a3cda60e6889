"""
The table of calls: every call of the process whose dialog is not over, and what they all share.

It knows calls by four members alone (``StandingCall``): what a call does with an order is the caller's business. First
legs and second legs have a dictionary each, both by our id of the call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from gateway.audio.pcm import PHONE, PcmFormat
from gateway.call.events import CallEvent
from gateway.ids import CallId
from gateway.settings.sip import SipSettings, TrunkSettings
from gateway.sip.calls.media_port import AgentMediaPort
from gateway.sip.core.message import MessageReader
from gateway.sip.library.pj import pj
from gateway.sip.location.failover import Failover
from gateway.sip.native.guard import describe
from gateway.sip.native.jitter_buffer import JitterBuffers
from gateway.sip.screen.trace import Tracer
from gateway.threads import runs_on


class StandingCall(Protocol):
    """What the table wants of a call."""

    trunk: str
    """Name of the trunk it goes through; empty for none."""

    def failed(self, detail: str) -> None:
        """Report that the stack could not do what was asked."""

    def watch(self, now: float) -> None:
        """Look after the call, once a second; ``now`` on the scale of ``time.monotonic``."""

    def end(self, code: int, reason: str) -> None:
        """Refuse, cancel or hang up."""


First = TypeVar("First", bound=StandingCall)
Second = TypeVar("Second", bound=StandingCall)
Each = TypeVar("Each", bound=StandingCall)


@dataclass
class CallTable(Generic[First, Second]):
    """
    The calls of this process and what they share. Thread: sip, all of it.

    Attributes:
        emit: carries a fact to the loop.
        make_port: makes one more media port.
        settings: of the user agent.
        failover: chooses servers for requests, and says whether there is another.
        later: runs something when the library's callback that is running is over.
        account_of: gives the ``pj.Account`` of a trunk by its name; of an empty one the account that takes every call.
        trunks: the settings of each trunk.
        pcm: what the bridge carries.
        tracer: keeps the messages of calls, if anything does.
        jitter: sees the jitter buffers; None leaves them alone.
        reader: says what a message says that a callback hands over.
        calls: the first leg of each call.
        second_legs: the second leg of a call that has one.
        idle_ports: media ports that no call uses.
    """

    emit: Callable[[CallEvent], None]
    make_port: Callable[[], AgentMediaPort]
    settings: SipSettings
    failover: Failover
    later: Callable[[Callable[[], None]], None]
    account_of: Callable[[str], pj.Account]
    trunks: Mapping[str, TrunkSettings] = field(default_factory=dict)
    pcm: PcmFormat = PHONE
    tracer: Tracer | None = None
    jitter: JitterBuffers | None = None
    reader: MessageReader = field(default_factory=MessageReader)
    calls: dict[CallId, First] = field(default_factory=dict)
    second_legs: dict[CallId, Second] = field(default_factory=dict)
    idle_ports: list[AgentMediaPort] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.calls) + len(self.second_legs)

    @runs_on("sip")
    def order(self, call_id: CallId, order: Callable[[First], None]) -> None:
        """Carry out an order on a call; on one that is over it means nothing any more."""
        call = self.calls.get(call_id)
        if call is not None:
            _carry_out(call, order)

    @runs_on("sip")
    def order_second(self, call_id: CallId, order: Callable[[Second], None]) -> None:
        """Carry out an order on the second leg of a call; without one nothing happens."""
        second = self.second_legs.get(call_id)
        if second is not None:
            _carry_out(second, order)

    @runs_on("sip")
    def watch(self, now: float) -> None:
        """Look after every call, once a second; ``now`` on the scale of ``time.monotonic``."""
        for call in self._all():
            _carry_out(call, lambda each: each.watch(now))

    @runs_on("sip")
    def end_all(self, code: int, reason: str) -> None:
        """End every call."""
        for call in self._all():
            _carry_out(call, lambda each: each.end(code, reason))

    @runs_on("sip")
    def clear(self) -> None:
        """Let go of every call and port."""
        self.idle_ports.clear()
        self.calls.clear()
        self.second_legs.clear()

    @runs_on("sip")
    def is_full(self, trunk: str) -> bool:
        """Return whether a trunk has as many calls as its settings allow."""
        settings = self.trunks.get(trunk)
        return settings is not None and settings.max_calls is not None and self.calls_of(trunk) >= settings.max_calls

    @runs_on("sip")
    def calls_of(self, trunk: str) -> int:
        """Return how many calls a trunk has now, in both directions."""
        return sum(call.trunk == trunk for call in self._all())

    @runs_on("sip")
    def borrow_port(self) -> AgentMediaPort:
        """Return a media port that is not in use."""
        return self.idle_ports.pop() if self.idle_ports else self.make_port()

    def _all(self) -> tuple[StandingCall, ...]:
        return (*self.calls.values(), *self.second_legs.values())


def _carry_out(call: Each, order: Callable[[Each], None]) -> None:
    try:
        order(call)
    except (pj.Error, TypeError, ValueError) as error:  # the last two: text that the binding does not take
        call.failed(describe(error))
