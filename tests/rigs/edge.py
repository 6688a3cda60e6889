"""A real Kamailio as the edge of bare SIP peers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from gateway.edge.edge import Edge
from gateway.edge.workers import EdgeWorker
from gateway.settings.sections import Settings
from tests.rigs.sip_peer import SDP, Dialog, SipPeer


def settings(sip: Mapping[str, object] | None = None, **sections: object) -> Settings:
    """Return settings for an edge on free ports of 127.0.0.1."""
    return Settings.model_validate({"sip": {"host": "127.0.0.1", "port": 0, **(sip or {})}, **sections})


@dataclass
class Stage:
    """
    An edge, a caller, and workers that are told to it.

    Attributes:
        public: where callers reach the edge.
    """

    edge: Edge
    caller: SipPeer
    workers: list[SipPeer]

    @property
    def public(self) -> tuple[str, int]:
        return ("127.0.0.1", self.edge.place.port)

    @property
    def inner(self) -> tuple[str, int]:
        host, _, port = self.edge.inner.rpartition(":")
        return (host, int(port))

    async def tell(self, *workers: EdgeWorker, growing: bool = False) -> None:
        await self.edge.set_workers(workers, growing=growing)

    async def talk(self, worker: SipPeer | None = None, caller: SipPeer | None = None) -> tuple[Dialog, Dialog]:
        """Have a call from the caller to a worker; return both sides of the dialog, the caller's first."""
        worker, caller = worker or self.workers[0], caller or self.caller
        call = caller.invite(self.public)
        far = worker.answer(await worker.take("INVITE"), 200, body=SDP)
        near = call.dialog(await call.answered())
        near.request("ACK", cseq=1)
        await worker.take("ACK")
        return near, far


@asynccontextmanager
async def stage(
    given: Settings | None = None,
    *,
    workers: int = 1,
    capacity: int = 4,
    caller_at: str = "127.0.0.1",
    workers_at: str = "127.0.0.1",
) -> AsyncIterator[Stage]:
    """Start an edge with so many workers."""
    async with AsyncExitStack() as stack:
        edge = await stack.enter_async_context(Edge(given or settings()))
        caller = await stack.enter_async_context(SipPeer.udp(caller_at))
        peers = [await stack.enter_async_context(SipPeer.udp(workers_at)) for _ in range(workers)]
        peers.sort(key=lambda peer: (len(peer.address), peer.address))  # as the edge goes through them
        made = Stage(edge, caller, peers)
        await made.tell(*(EdgeWorker(peer.address, capacity) for peer in peers))
        yield made
