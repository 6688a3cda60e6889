"""How often a client may ask, and how often an address may be wrong; counted in this process."""

from __future__ import annotations

import ipaddress
import time

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter

from gateway.web.errors import too_many

ADDRESSES = 10_000
"""Addresses with wrong tokens that are remembered; guessing 256 random bits is hopeless from any number of them."""
IPV6_SITE = 64
"""Bits of an IPv6 address that belong to one network: RFC 4291 section 2.5.4."""


class Rates:
    """
    Counts in fixed windows of a minute. Thread: loop.

    Args:
        requests: requests per client and minute.
        refusals: wrong tokens per address and minute.
        mints: client secrets per client and minute.
    """

    def __init__(self, *, requests: int, refusals: int, mints: int) -> None:
        self._storage = MemoryStorage()
        self._limiter = FixedWindowRateLimiter(self._storage)
        self._requests = RateLimitItemPerMinute(requests, namespace="requests")
        self._refusals = RateLimitItemPerMinute(refusals, namespace="refusals")
        self._mints = RateLimitItemPerMinute(mints, namespace="mints")

    async def count_request(self, client: str) -> None:
        """Count a request of a client. Raises ``ApiError``, 429."""
        await self._count(self._requests, client, "too many requests with this token")

    async def count_mint(self, client: str) -> None:
        """Count a client secret. Raises ``ApiError``, 429."""
        await self._count(self._mints, client, "too many client secrets with this token")

    async def _count(self, limit: RateLimitItem, key: str, detail: str) -> None:
        if not await self._limiter.hit(limit, key):
            raise too_many(detail, await self._wait_s(limit, key))

    async def check_address(self, address: str) -> None:
        """Refuse an address that sent too many wrong tokens. Raises ``ApiError``, 429."""
        key = network_of(address)
        if not await self._limiter.test(self._refusals, key):
            raise too_many("too many wrong tokens from this address", await self._wait_s(self._refusals, key))

    async def count_refusal(self, address: str) -> None:
        """Count a wrong token of an address."""
        if len(self._storage.storage) < ADDRESSES:
            await self._limiter.hit(self._refusals, network_of(address))

    async def _wait_s(self, limit: RateLimitItem, key: str) -> float:
        stats = await self._limiter.get_window_stats(limit, key)
        return stats.reset_time - time.time()


def network_of(address: str) -> str:
    """Return what counts as one address: an IPv4 address, or the network of an IPv6 one."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if found.version == 4:
        return address
    return str(ipaddress.ip_network((found, IPV6_SITE), strict=False))
