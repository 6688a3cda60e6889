"""
The workers of a fleet as the supervisor sees them: started through the nursery, heard, given orders, and mourned.

Each worker has a slot, its part of the RTP ports, for as long as it lives, and a SIP port that no other worker of the
fleet has. A worker is *in service* from its start until it is told, or decides, to drain.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import structlog

from gateway.condition import WorkerCondition
from gateway.fleet.child import Child, Watch
from gateway.fleet.demand import Seat
from gateway.fleet.handover import MemberState
from gateway.fleet.nursery import Nursery
from gateway.free_port import free_port
from gateway.settings.fleet import FleetSettings
from gateway.worker.worker import worker_name

_log = structlog.get_logger(__name__)

WORKER = "worker"


@dataclass(frozen=True, slots=True)
class CrewWatch:
    """
    Who is told of the workers.

    Attributes:
        on_line: takes each line that a worker writes, and its name.
        on_change: called when a worker's condition has changed.
        on_death: takes a worker that is gone, and how it ended.
    """

    on_line: Callable[[str, str], None]
    on_change: Callable[[], None]
    on_death: Callable[[Member, str], None]


@dataclass(slots=True)
class Member:
    """
    One worker.

    Attributes:
        number: counts the workers that this supervisor started.
        slot: its part of the RTP ports.
        port: its SIP port.
        started_at: monotonic seconds.
        child: its process.
        ready_at: when it was ready, monotonic seconds.
        condition: what it told last; None until it is ready.
        leaving: it was told to drain or to end.
        old: it is to be replaced.
        heard_at: when it last said anything, monotonic seconds.
        pinged_at: when it was last asked to.
    """

    number: int
    slot: int
    port: int
    started_at: float
    child: Child
    ready_at: float | None = None
    condition: WorkerCondition | None = None
    leaving: bool = False
    old: bool = False
    heard_at: float = 0
    pinged_at: float = 0

    @property
    def state(self) -> MemberState:
        """What a supervisor needs that takes it over."""
        condition = None if self.condition is None else asdict(self.condition)
        facts = (self.number, self.slot, self.port, self.started_at, self.ready_at, condition, self.leaving, self.old)
        return MemberState(self.child.state, *facts)

    @property
    def name(self) -> str:
        """Name of the worker."""
        return worker_name(self.child.pid)

    @property
    def in_service(self) -> bool:
        """It takes calls, is about to, or may again: no other is started for one that an operator has drain."""
        now = self.condition
        return not self.leaving and (now is None or now.paused or now.state in ("ready", "overloaded"))

    @property
    def now(self) -> WorkerCondition | None:
        """How it is, as the edge should take it: one that was told to drain does so from then on."""
        condition = self.condition
        if condition is not None and self.leaving and condition.state != "ended":
            return replace(condition, state="draining")
        return condition

    @property
    def live_calls(self) -> int:
        """Its calls."""
        return 0 if self.condition is None else self.condition.live_calls

    @property
    def seat(self) -> Seat:
        """What the demand looks at."""
        return Seat(self.number, self.live_calls, starting=self.condition is None)


class Crew:
    """
    All workers. Thread: loop.

    Args:
        settings: where workers listen.
        slots: parts of the range of RTP ports.
        watch: who is told of them.

    Attributes:
        members: those that live, by number.
        values: what a worker is given, but for slot and port.
    """

    def __init__(self, settings: FleetSettings, slots: int, watch: CrewWatch) -> None:
        self._settings = settings
        self._slots = slots
        self._watch = watch
        self._numbers = 0
        self.members: dict[int, Member] = {}
        self.values: dict[str, Any] = {}

    def __iter__(self) -> Iterator[Member]:
        """Go through all that live, those that were started first at first."""
        return iter([*self.members.values()])

    @property
    def free_slots(self) -> int:
        """How many more workers there is room for."""
        return self._slots - len({member.slot for member in self if member.slot < self._slots})

    async def start(self, nursery: Nursery) -> Member:
        """
        Start a worker; there must be a free slot, and no other start under way.

        Raises:
            NurseryGone: there is no nursery any more.
        """
        started_at = time.monotonic()
        slot = min({*range(self._slots)} - {member.slot for member in self})
        port = self._settings.port + slot if self._settings.port else self._free_port()
        values = {**self.values, "slot": slot, "port": port}
        number = self._numbers = self._numbers + 1
        child = await Child.fork(nursery, WORKER, values, lambda pid: self._watch_of(number, worker_name(pid)))
        member = self.members[number] = Member(number, slot, port, started_at, child)
        _log.debug("worker_started", worker=member.name, port=port)
        return member

    def adopt(self, state: MemberState) -> None:
        """Take over a worker that was started before this process executed itself again."""
        self._numbers = max(self._numbers, state.number)
        child = Child.adopt(state.child, self._watch_of(state.number, worker_name(state.child.pid)))
        member = Member(state.number, state.slot, state.port, state.started_at, child)
        member.ready_at, member.leaving, member.old = state.ready_at, state.leaving, state.old
        member.condition = None if state.condition is None else WorkerCondition(**state.condition)
        self.members[state.number] = member

    def order(self, member: Member, order: str, **words: float) -> None:
        """Give a worker an order."""
        member.child.send({"order": order, **words})

    def drain(self, member: Member, limit_s: float) -> None:
        """Have a worker take no more calls and end when its calls have ended, ``limit_s`` at most."""
        member.leaving = True
        self.order(member, "drain", limit_s=limit_s)

    def end(self, member: Member) -> None:
        """Have a worker end its calls now."""
        member.leaving = True
        self.order(member, "end")

    def _free_port(self) -> int:
        taken = {member.port for member in self}
        while (port := free_port(self._settings.host)) in taken:
            pass
        return port

    def _watch_of(self, number: int, name: str) -> Watch:
        return Watch(
            lambda message: self._heard(self.members[number], message),
            lambda line: self._watch.on_line(line, name),
            lambda how: self._watch.on_death(self.members.pop(number), how),
        )

    def _heard(self, member: Member, message: dict[str, Any]) -> None:
        member.heard_at = time.monotonic()
        if "condition" not in message:
            return
        condition = WorkerCondition(**message["condition"])
        if member.ready_at is None:
            member.ready_at = member.heard_at
            after_ms = round((member.ready_at - member.started_at) * 1000)
            _log.info("worker_ready", worker=condition.worker, sip=condition.sip, after_ms=after_ms)
        member.condition = condition
        self._watch.on_change()
