"""The servers of host names as the SIP thread knows them: cached, waited for, kept fresh for trunks."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from gateway.sip.location.servers import RETRY_S, Located, NextHop
from gateway.threads import runs_on

OnLocated = Callable[[Located], None]

STALE_S = 86400.0
"""How long servers are used after their time, when the name servers do not answer (RFC 8767)."""
_AHEAD = 0.2  # the part of its time in which a followed name is looked up again
_MAX_NAMES = 256
_MAX_LOOKUPS = 32  # at once, of names that far ends choose: with them anybody could keep the name servers busy

_log = structlog.get_logger(__name__)


@dataclass
class _Name:
    """What is known of a target, and who wants to hear more."""

    located: Located | None = None
    until: float = 0.0
    stale_until: float = 0.0
    asked: bool = False
    waiting: list[OnLocated] = field(default_factory=list)
    followers: list[OnLocated] = field(default_factory=list)


class Locator:
    """
    Knows the servers of targets, or has them looked up. No I/O; thread: sip.

    Args:
        ask: begins a lookup elsewhere; ``take`` gets its result.
        clock: monotonic seconds.
    """

    def __init__(self, ask: Callable[[NextHop], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask
        self._clock = clock
        self._names: OrderedDict[NextHop, _Name] = OrderedDict()
        self._closed = False

    @runs_on("sip")
    def locate(self, target: NextHop, answer: OnLocated, *, ours: bool) -> None:
        """
        Give ``answer`` the servers of a target: at once when they are known, else when they are.

        Args:
            target: whose servers.
            answer: takes them.
            ours: the name is of our own choice; those that far ends write into their messages are few at a time.
        """
        name = self._names.get(target)
        if name is not None and name.located is not None and self._clock() < name.until:
            self._names.move_to_end(target)
            answer(name.located)
            return
        busy = not ours and name is None and sum(each.asked for each in self._names.values()) >= _MAX_LOOKUPS
        if self._closed or busy:
            why = "too many lookups are running, or the gateway is stopping"
            answer(Located((), 0, f"{target.host} was not looked up: {why}"))
            return
        name = self._name(target)
        name.waiting.append(answer)
        self._look_up(target, name)

    @runs_on("sip")
    def follow(self, target: NextHop, told: OnLocated) -> None:
        """Keep a target's servers fresh as long as the process lives; ``told`` gets each result."""
        name = self._name(target)
        name.followers.append(told)
        self._look_up(target, name)

    @runs_on("sip")
    def take(self, target: NextHop, located: Located) -> None:
        """Take the result of a lookup and hand it to all that wait; servers known before outlast a failed one."""
        name = self._name(target)
        name.asked = False
        now = self._clock()
        if located.failed and name.located is not None and name.located.servers and now < name.stale_until:
            _log.warning(
                "sip_name_kept", host=target.host, detail="no name server answers: the last known servers are used"
            )
            located = name.located
            name.until = now + RETRY_S
        else:
            name.until = now + located.ttl_s
            name.stale_until = now + STALE_S
        name.located = located
        waiting, name.waiting = name.waiting, []
        for told in (*waiting, *name.followers):
            told(located)

    @runs_on("sip")
    def tick(self, now: float) -> None:
        """Look up again what is followed and soon out of date."""
        for target, name in tuple(self._names.items()):
            if name.followers and name.located is not None and now >= name.until - _AHEAD * name.located.ttl_s:
                self._look_up(target, name)

    @runs_on("sip")
    def close(self) -> None:
        """Look nothing up any more, and tell all that wait that nothing will come."""
        self._closed = True
        for target, name in tuple(self._names.items()):
            waiting, name.waiting = name.waiting, []
            for told in waiting:
                told(Located((), 0, f"{target.host} was not looked up: the gateway is stopping"))

    def _name(self, target: NextHop) -> _Name:
        name = self._names.setdefault(target, _Name())
        self._names.move_to_end(target)
        if len(self._names) > _MAX_NAMES:
            idle = (old for old, each in self._names.items() if not (each.asked or each.followers or each is name))
            if (oldest := next(idle, None)) is not None:
                del self._names[oldest]
        return name

    def _look_up(self, target: NextHop, name: _Name) -> None:
        if not name.asked and not self._closed:
            name.asked = True
            self._ask(target)
