"""``gateway edge run`` as a child process, on a free port."""

from __future__ import annotations

import sys
from typing import Self

from gateway.child_process import ChildProcess
from gateway.settings.sections import RedisSettings
from gateway.settings.sources import environment_for_child

START_LIMIT_S = 60.0
KEY = "the same on all edges"


class EdgeProcess(ChildProcess):
    """
    An edge, ready inside the block, ended with SIGTERM behind it; with ``--control``, what tells another Kamailio.

    Attributes:
        host, port: where callers reach it.
    """

    def __init__(self, redis: RedisSettings, *flags: str, host: str = "127.0.0.1", port: int = 0, **more: str) -> None:
        times = {
            "GATEWAY_REDIS__WORKER_HEARTBEAT_S": str(redis.worker_heartbeat_s),
            "GATEWAY_REDIS__WORKER_EXPIRY_S": str(redis.worker_expiry_s),
        }
        given = {
            "GATEWAY_REDIS__URL": str(redis.url),
            "GATEWAY_SIP__HOST": host,
            "GATEWAY_SIP__PORT": str(port),
            "GATEWAY_EDGE__KEY": KEY,
            **times,
            **more,
        }
        super().__init__(
            *(sys.executable, "-X", "dev", "-m", "gateway", "edge", "run", *flags),
            name="the edge",
            environment=environment_for_child(given),
            kept_lines=None,
            stop_limit_s=40,
        )
        self.host, self.port = host, port

    @property
    def public(self) -> tuple[str, int]:
        """Where a caller sends its INVITE."""
        return self.host, self.port

    async def __aenter__(self) -> Self:
        """Start it and wait until it answers."""
        await super().__aenter__()
        found = await self.find(r"ready: (?:sip:[^ ]*:(\d+)|Kamailio at)", START_LIMIT_S)
        self.port = int(found[1] or self.port)
        return self
