"""
Which of a name's servers gets a request, and which is next when it does not answer (RFC 3263 section 4.3).

Whoever sends an INVITE or a REGISTER does so inside ``attempt()``. The library asks for the server while it sends, so
the attempt knows where its request went. A server without any answer within the limit is given up, long before the
transaction's own time-out of 32 s; one that failed comes last for a while. When a request fails and there is
``another`` server that has not had it, it is sent once more, as a new one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import structlog

from gateway.sip.core.message import Message
from gateway.sip.core.registration import retry_after_in
from gateway.sip.location.locator import Locator
from gateway.sip.location.servers import Located, NextHop, Server, Transport
from gateway.threads import runs_on

FAILED_S, MAX_FAILED_S = 60.0, 3600.0
"""How long a server that says nothing comes last; the longest for one whose Retry-After asks for a time."""
_ANSWERED, _UNANSWERED = (503,), (408, 503)  # what leads to the next server; the library's words for silence are both

_log = structlog.get_logger(__name__)


@dataclass(eq=False)
class RequestAttempt:
    """
    A request that begins something, and where it went.

    Attributes:
        tried: servers that failed this request before.
        servers: all of its target's name.
        server: the one it was sent to; None when there was none, or its host is an address.
        problem: why there was none, for people.
        abandoned: it is no longer wanted, and not to be sent when its name is found at last.
    """

    tried: frozenset[Server] = frozenset()
    servers: tuple[Server, ...] = ()
    server: Server | None = None
    problem: str = ""
    abandoned: bool = False

    def untried(self) -> tuple[Server, ...]:
        """Return the servers that this request has not been sent to."""
        return tuple(each for each in self.servers if each != self.server and each not in self.tried)


@dataclass(frozen=True, slots=True)
class _Watched:
    attempt: RequestAttempt
    method: str
    due_at: float


class Failover:
    """
    Chooses servers. No I/O; thread: sip.

    Args:
        locator: knows the servers of names.
        give_up: ends a client transaction, identified by its method and branch, with 408.
        limit_s: how long a server may say nothing.
        defaults: transport of hosts whose URIs name none: those of trunks.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        locator: Locator,
        give_up: Callable[[str, str], None],
        limit_s: float,
        defaults: dict[str, Transport] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._locator = locator
        self._give_up = give_up
        self._limit_s = limit_s
        self._defaults = defaults or {}
        self._clock = clock
        self._current: RequestAttempt | None = None
        self._watched: dict[str, _Watched] = {}
        self._failed_until: dict[Server, float] = {}

    @runs_on("sip")
    @contextmanager
    def attempt(self, after: RequestAttempt | None = None) -> Iterator[RequestAttempt]:
        """Note where the request goes that is sent inside; ``after`` is the one that failed before it, if any did."""
        tried = after.tried | {after.server} if after is not None and after.server is not None else frozenset[Server]()
        attempt = RequestAttempt(tried)
        with self._sending(attempt):
            yield attempt

    @runs_on("sip")
    def choose(self, target: NextHop, answer: Callable[[Server | None], None]) -> None:
        """Give ``answer`` the server for a request to a host name, now or later; None when there is none."""
        attempt = self._current
        if target.transport is None:
            target = replace(target, transport=self._defaults.get(target.host))

        def located(found: Located) -> None:
            if attempt is None:
                answer(self._best(found.servers))
                return
            attempt.servers, attempt.problem = found.servers, found.problem
            attempt.server = None if attempt.abandoned else self._best(attempt.untried() or found.servers)
            with self._sending(attempt):
                answer(attempt.server)

        self._locator.locate(target, located, ours=attempt is not None)

    @runs_on("sip")
    def sent(self, message: Message) -> None:
        """Learn of a message that goes out: its server has not for ever to answer, when there is another."""
        attempt = self._current
        if attempt is None or attempt.server is None or not self._worth_leaving(attempt.server, attempt.untried()):
            return
        if message.method in ("INVITE", "REGISTER"):
            self._watched[message.branch] = _Watched(attempt, message.method, self._clock() + self._limit_s)

    @runs_on("sip")
    def heard(self, response: Message) -> None:
        """Learn of a response: that server is alive."""
        self._watched.pop(response.branch, None)

    @property
    def due_at(self) -> float:
        """When ``tick`` has something to give up, in monotonic seconds; infinite when nothing is waited for."""
        return min((watched.due_at for watched in self._watched.values()), default=math.inf)

    @runs_on("sip")
    def tick(self, now: float) -> None:
        """Give up what has been waited for long enough."""
        for branch, watched in list(self._watched.items()):
            if now >= watched.due_at:
                del self._watched[branch]
                self._give_up(watched.method, branch)

    @runs_on("sip")
    def another(self, attempt: RequestAttempt | None, code: int, response: Message | None) -> bool:
        """
        Return whether a request that failed is to be sent again, because its name has a server that has not had it.

        Args:
            attempt: of that request.
            code: SIP status it ended with.
            response: what the server said; None when it said nothing: no answer in time, no connection.
        """
        if attempt is None or attempt.server is None or code not in (_UNANSWERED if response is None else _ANSWERED):
            return False
        self._watched = {branch: each for branch, each in self._watched.items() if each.attempt is not attempt}
        for_s = FAILED_S if response is None else retry_after_in(response) or 0.0
        if for_s:  # without Retry-After a 503 is about this request alone (RFC 3261 section 21.5.4)
            self._failed_until[attempt.server] = self._clock() + min(for_s, MAX_FAILED_S)
        left, answered = len(attempt.untried()), response is not None
        _log.warning("sip_server_failed", server=str(attempt.server), code=code, answered=answered, left=left)
        return left > 0 and not attempt.abandoned

    @contextmanager
    def _sending(self, attempt: RequestAttempt) -> Iterator[None]:
        before, self._current = self._current, attempt
        try:
            yield
        finally:
            self._current = before

    def _worth_leaving(self, server: Server, others: tuple[Server, ...]) -> bool:
        """Return whether a silent server is to be left early: not for others that are worse by what is known."""
        return any(other not in self._failed_until for other in others) or (
            bool(others) and server in self._failed_until
        )

    def _best(self, servers: tuple[Server, ...]) -> Server | None:
        """Return the first server that did not fail; when all did, the one that failed first."""
        now = self._clock()
        self._failed_until = {server: until for server, until in self._failed_until.items() if until > now}
        waits = [max(0.0, self._failed_until.get(server, 0.0) - now) for server in servers]
        return servers[waits.index(min(waits))] if servers else None
