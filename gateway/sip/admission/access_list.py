"""Where calls may come from: which trunk a source belongs to, and whether a stranger may call."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace

from gateway.settings.sip import SipSettings, TrunkSettings
from gateway.sip.core.source import Source, source_told
from gateway.threads import runs_on

_REMEMBERED = 4096
_LEARNT_PER_TRUNK = 32


@dataclass(frozen=True, slots=True)
class Access:
    """
    What is known of a source.

    Attributes:
        trunk: whose it is; None for a stranger.
        allowed: whether it may call at all.
    """

    trunk: str | None
    allowed: bool


class AccessList:
    """
    The addresses of the trunks, of everybody else who may call, and of the edges. No I/O; thread: sip.

    Strangers may call from ``allow_from``; where that is not set, from anywhere as long as no trunk is configured, and
    from nowhere once there is one. Loopback is no exception. A trunk with ``tls_name`` is known by that name, too,
    which an edge has verified.

    Args:
        settings: ``allow_from``, ``edges``.
        trunks: name -> trunk.
    """

    def __init__(self, settings: SipSettings, trunks: Mapping[str, TrunkSettings]) -> None:
        self._edges = [ipaddress.ip_network(network) for network in settings.edges]
        self._networks = [
            (ipaddress.ip_network(network), name) for name, trunk in trunks.items() for network in networks_of(trunk)
        ]
        # The narrowest first: a trunk inside another's network is told apart.
        self._networks.sort(key=lambda entry: entry[0].prefixlen, reverse=True)
        self._names = {trunk.tls_name.lower(): name for name, trunk in trunks.items() if trunk.tls_name}
        self._learnt: dict[str, OrderedDict[str, None]] = {name: OrderedDict() for name in trunks}
        allowed = ("0.0.0.0/0", "::/0") if not trunks else ()
        self._allowed = [
            ipaddress.ip_network(network)
            for network in (allowed if settings.allow_from is None else settings.allow_from)
        ]
        self._found: OrderedDict[str, Access] = OrderedDict()

    @property
    def has_edges(self) -> bool:
        """Whether requests come from edges alone."""
        return bool(self._edges)

    @runs_on("sip")
    def near(self, hop: str) -> Source:
        """Return who is at ``address:port``: whoever sends from there without an edge, or an edge itself."""
        source = Source.at(hop)
        return replace(source, edge=True) if self._is_edge(source.host) else source

    @runs_on("sip")
    def source_of(self, text: str, hop: str) -> Source:
        """
        Return who sent a message; an edge need not say it of a response.

        Args:
            text: the message.
            hop: ``address:port`` it came from: the sender's own, or that of an edge.

        Raises:
            ValueError: an edge says it in a way that cannot be read.
        """
        near = self.near(hop)
        return (source_told(text) or near) if near.edge else near

    @runs_on("sip")
    def find(self, source: Source) -> Access:
        """Return what is known of a source."""
        if source.edge:
            return Access(None, allowed=True)
        if source.tls_name and (named := self._names.get(source.tls_name)) is not None:
            return Access(named, allowed=True)
        found = self._found.get(source.host)
        if found is None:
            found = self._found[source.host] = self._look_up(source.host)
            if len(self._found) > _REMEMBERED:
                self._found.popitem(last=False)
        return found

    @runs_on("sip")
    def trunk_of(self, source: Source) -> str | None:
        """Return the name of the trunk that a source belongs to, or None."""
        return self.find(source).trunk

    @runs_on("sip")
    def learn(self, trunk: str, address: str) -> None:
        """
        Count an address as a trunk's from now on: what its host name was resolved to.

        The oldest learnt address of the trunk is forgotten when there are too many; text that is no address, an edge's
        address and a trunk that is not configured are ignored.
        """
        learnt = self._learnt.get(trunk)
        host = Source.at(address).host
        if learnt is None or not _is_address(host):
            return
        if self._is_edge(host):  # who answers for a trunk there may answer for any other
            return
        if host not in learnt:
            learnt[host] = None
            if len(learnt) > _LEARNT_PER_TRUNK:
                learnt.popitem(last=False)
            self._found.clear()

    @runs_on("sip")
    def forget(self, trunk: str, address: str) -> None:
        """Count a learnt address as a stranger's again."""
        learnt = self._learnt.get(trunk)
        if learnt is not None and address in learnt:
            del learnt[address]
            self._found.clear()

    def _is_edge(self, host: str) -> bool:
        return bool(self._edges) and any(_is_in(host, network) for network in self._edges)

    def _look_up(self, host: str) -> Access:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return Access(None, allowed=False)
        trunk = next((name for network, name in self._networks if address in network), None)
        if trunk is None:
            trunk = next((name for name, learnt in self._learnt.items() if host in learnt), None)
        return Access(trunk, allowed=trunk is not None or any(address in network for network in self._allowed))


def networks_of(trunk: TrunkSettings) -> tuple[str, ...]:
    """Return the networks that a trunk's settings say its calls come from; its name's addresses are learnt later."""
    return (*trunk.networks, *_address_in(trunk.host), *_address_in(trunk.outbound_proxy or ""))


def _is_in(host: str, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    try:
        return ipaddress.ip_address(host) in network
    except ValueError:
        return False


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _address_in(host: str) -> tuple[str, ...]:
    """Return the address of ``192.0.2.7:5060`` or ``192.0.2.7``; nothing for a name."""
    bare = host.partition(":")[0]
    try:
        return (str(ipaddress.IPv4Address(bare)),)
    except ValueError:
        return ()
