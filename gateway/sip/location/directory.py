"""
All that finds servers, in one place: names to servers, a server for each request, trunks to their addresses.

Theory of operation (RFC 3263). The library asks for the server of each request that it sends to a name
(``library_names.py``), on the SIP thread, and may be answered later. ``failover.py`` chooses: the first server of the
name that is not known to be silent, and the next one when a transaction brings no answer in time. It takes the name's
servers from ``locator.py``, the cache on the SIP thread. What that does not know is looked up on the loop
(``resolver.py``: the hosts file, NAPTR, SRV and A records, the system), by the rules of ``servers.py``, which are
pure; the result comes back as an order. ``trunk_names.py`` keeps the addresses of trunks fresh, so that their calls
are recognised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import structlog

from gateway.settings.sip import SipSettings, TrunkSettings
from gateway.sip.admission.access_list import AccessList
from gateway.sip.location.failover import Failover
from gateway.sip.location.library_names import LibraryNames, NameGuard
from gateway.sip.location.locator import Locator
from gateway.sip.location.servers import NextHop
from gateway.sip.location.trunk_names import TrunkNames, transports_of
from gateway.threads import runs_on

_log = structlog.get_logger(__name__)


class ServerDirectory:
    """
    What the SIP thread knows of servers.

    Order in the SIP thread: ``install`` after ``libInit``, ``open`` once the accounts exist, ``close`` before they go,
    ``remove`` after ``libDestroy``.

    Args:
        settings: of the user agent.
        trunks: name -> trunk.
        access_list: learns the addresses of trunks.
        ask: begins a lookup on the loop, whose result comes to ``locator.take``.
    """

    def __init__(
        self,
        settings: SipSettings,
        trunks: Mapping[str, TrunkSettings],
        access_list: AccessList,
        ask: Callable[[Locator, NextHop], None],
    ) -> None:
        self.locator = Locator(lambda target: ask(self.locator, target))
        self.failover = Failover(self.locator, self._give_up, settings.failover_s, transports_of(trunks))
        self._trunks = trunks
        self._access_list = access_list
        self._library: LibraryNames | None = None
        self._guard = NameGuard()
        self._names: TrunkNames | None = None

    @runs_on("sip")
    def install(self) -> None:
        """Take names out of the library's hands; where this build does not let us, the log says so."""
        try:
            self._library = LibraryNames(self.failover.choose)
        except AttributeError as error:
            _log.warning(
                "sip_names_by_system", symbol=str(error), detail="SRV is not used, and each lookup stops the SIP thread"
            )
            return
        self._guard.install()

    @runs_on("sip")
    def open(self, told: Callable[[str, str], None]) -> None:
        """Begin to follow the names of trunks; ``told`` takes a trunk and why it has no address (empty: it has)."""
        self._names = TrunkNames(self._trunks, self.locator, self._access_list, told)
        self._names.open()

    @runs_on("sip")
    def tick(self, now: float) -> None:
        """Do what is due, about once a second; ``now`` in monotonic seconds."""
        self.locator.tick(now)
        if self._names is not None:
            self._names.tick(now)

    @runs_on("sip")
    def close(self) -> None:
        """Look nothing up any more."""
        self.locator.close()

    @runs_on("sip")
    def remove(self) -> None:
        """Give the library its imports back."""
        self._guard.remove()

    def _give_up(self, method: str, branch: str) -> None:
        if self._library is not None:
            self._library.give_up(method, branch)
