"""Orders to a running Kamailio: JSON-RPC over its Unix datagram socket."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from gateway.errors import GatewayError

LIMIT_S = 5.0
"""How long Kamailio may take for an answer; it takes a fraction of a millisecond."""
_MAX_BYTES = 65_536


class EdgeError(GatewayError):
    """Kamailio did not answer, or refused an order."""


class Rpc:
    """
    Kamailio's JSON-RPC. One order at a time.

    Args:
        path: the socket that Kamailio listens on.

    Thread: loop.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ids = itertools.count(1)
        self._turn = asyncio.Lock()

    async def call(self, method: str, *parameters: str | int) -> Any:
        """
        Give one order and return its result.

        Raises:
            EdgeError: Kamailio is not there, does not answer, or refuses.
        """
        return (await self.calls([(method, *parameters)]))[0]

    async def calls(self, orders: Sequence[tuple[str | int, ...]]) -> list[Any]:
        """Give several orders, one after the other, and return their results; raises as ``call`` does."""
        async with self._turn:
            # Its own address each time: an answer that comes too late reaches nobody.
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
                own.setblocking(False)
                own.bind("")  # Linux finds a name (unix(7), autobind)
                try:
                    own.connect(str(self._path))
                    return [await self._one(own, *order) for order in orders]
                except (OSError, TimeoutError) as error:
                    raise EdgeError(f"Kamailio does not answer at {self._path}: {error or 'too late'}") from None

    async def _one(self, own: socket.socket, method: str | int, *parameters: str | int) -> Any:
        number = next(self._ids)
        order = {"jsonrpc": "2.0", "method": method, "params": parameters, "id": number}
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(LIMIT_S):
            await loop.sock_sendall(own, json.dumps(order).encode())
            while True:
                text = await loop.sock_recv(own, _MAX_BYTES)
                with suppress(ValueError):
                    answer = json.loads(text)
                    if answer.get("id") == number:
                        break
        if "error" in answer:
            raise EdgeError(f"Kamailio refused {method} {' '.join(map(str, parameters))}: {answer['error']}")
        return answer.get("result")
