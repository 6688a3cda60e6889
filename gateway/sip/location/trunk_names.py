"""Trunks that are named by a host name: the addresses their calls come from follow the name servers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial

import structlog

from gateway.settings.sip import TrunkSettings
from gateway.sip.admission.access_list import AccessList
from gateway.sip.location.locator import Locator
from gateway.sip.location.servers import Located, NextHop, Transport, is_address
from gateway.threads import runs_on

GRACE_S = 3600.0
"""How long an address counts as a trunk's when its name no longer has it: calls may be on their way from there."""

_log = structlog.get_logger(__name__)


def next_hop(trunk: TrunkSettings) -> NextHop:
    """Return where a trunk's requests go first: its outbound proxy, or its host."""
    host, _, port = (trunk.outbound_proxy or trunk.host).lower().partition(":")
    return NextHop(host, int(port or 0), trunk.transport)


def transports_of(trunks: Mapping[str, TrunkSettings]) -> dict[str, Transport]:
    """Return the transport of each host that is a trunk's; UDP where it is several's, for URIs name every other."""
    udp_last = sorted(trunks.values(), key=lambda trunk: trunk.transport == "udp")
    return {next_hop(trunk).host: trunk.transport for trunk in udp_last}


class TrunkNames:
    """
    Keeps the source addresses of trunks up to date. Thread: sip.

    Args:
        trunks: name -> trunk.
        locator: knows the servers of host names.
        access_list: learns the addresses.
        told: takes a trunk and why its name has no address, first and after each change; empty when it has one.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        trunks: Mapping[str, TrunkSettings],
        locator: Locator,
        access_list: AccessList,
        told: Callable[[str, str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._locator = locator
        self._access_list = access_list
        self._told = told
        self._clock = clock
        self._seen: dict[tuple[str, str], float] = {}
        self._problems: dict[str, str] = {}
        self._targets = {name: next_hop(trunk) for name, trunk in trunks.items()}

    @runs_on("sip")
    def open(self) -> None:
        """Begin to look the names up."""
        for name, target in self._targets.items():
            if not is_address(target.host):
                self._locator.follow(target, partial(self._take, name))

    @runs_on("sip")
    def tick(self, now: float) -> None:
        """Forget addresses that a name has not had for long."""
        for (trunk, address), seen_at in list(self._seen.items()):
            if now - seen_at > GRACE_S:
                del self._seen[trunk, address]
                self._access_list.forget(trunk, address)

    def _take(self, trunk: str, located: Located) -> None:
        now, host = self._clock(), self._targets[trunk].host
        addresses = list(dict.fromkeys(server.address for server in located.servers))
        if any((trunk, address) not in self._seen for address in addresses):
            _log.info("trunk_located", trunk=trunk, host=host, servers=[str(server) for server in located.servers])
        for address in addresses:
            self._access_list.learn(trunk, address)
        # While nothing is known of the name, nothing is known to have changed.
        kept = addresses or [address for name, address in self._seen if name == trunk]
        self._seen |= {(trunk, address): now for address in kept}
        problem = "" if kept else located.problem
        if problem != self._problems.get(trunk):
            if problem:
                _log.warning("trunk_without_address", trunk=trunk, host=host, detail=f"{problem}; {CONSEQUENCE}")
            self._problems[trunk] = problem
            self._told(trunk, problem)


CONSEQUENCE = "until it has one, its calls get 403 (unless its networks are set), and no call can be placed through it"
