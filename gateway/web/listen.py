"""``/v1/calls/{call_id}/listen``: the sound of a live call over a WebSocket, from whichever worker has it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Annotated

from fastapi import APIRouter
from starlette.websockets import WebSocket, WebSocketDisconnect

from gateway.store.audio import listen_to
from gateway.store.connection import end_task
from gateway.store.record import CallRecord
from gateway.web.auth import allowed
from gateway.web.calls import ENDED, KnownCall
from gateway.web.control import command
from gateway.web.errors import ApiError
from gateway.web.follow import LONGEST_S
from gateway.web.services import Served, Services
from gateway.web.tokens import Client

SEND_LIMIT_S = 5.0
"""A listener that takes nothing for so long is given up."""
GOING_AWAY = 1001

router = APIRouter()


@router.websocket("/v1/calls/{call_id}/listen")
async def listen(
    socket: WebSocket, services: Served, client: Annotated[Client, allowed("control")], record: KnownCall
) -> None:
    """
    Pass on a call's sound as its worker publishes it, block by block (``store/audio.py``), until the call ends.

    Raises:
        ApiError: before the handshake: 409, the call has ended or its worker refused; 429; 504.
    """
    if record.state == ENDED or record.worker is None:
        raise ApiError(409, "call_ended", "the call has ended")
    with services.streams.taken_by(client.name):
        begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def begin() -> None:
            await _begin(socket, services, client, record)
            if not begun.done():
                begun.set_result(None)

        async with aclosing(listen_to(services.redis, record.call_id, begin)) as blocks:
            passing = asyncio.create_task(_pass_on(socket, blocks, begun), name="listening")
            try:
                await asyncio.wait((passing, begun), return_when=asyncio.FIRST_COMPLETED)
                if not begun.done():
                    passing.result()  # raises why it did not begin
                await socket.accept()
                await _until_over(socket, services, passing)
            finally:
                await end_task(passing)


async def _begin(socket: WebSocket, services: Services, client: Client, record: CallRecord) -> None:
    assert record.worker is not None
    await command(services, socket, client, record.worker, "listen", call_id=record.call_id, seconds=f"{LONGEST_S:g}")


async def _pass_on(socket: WebSocket, blocks: AsyncGenerator[bytes], begun: asyncio.Future[None]) -> None:
    async for block in blocks:
        await begun
        async with asyncio.timeout(SEND_LIMIT_S):
            await socket.send_bytes(block)


async def _until_over(socket: WebSocket, services: Services, passing: asyncio.Task[None]) -> None:
    """Wait until the call ends, the listener goes, or the server stops; then close."""
    gone = asyncio.create_task(_until_gone(socket), name="listener")
    stop = asyncio.create_task(services.stopping.wait(), name="stop")
    try:
        await asyncio.wait((passing, gone, stop), timeout=LONGEST_S, return_when=asyncio.FIRST_COMPLETED)
        if passing.done() and not passing.cancelled():
            passing.exception()  # the log has it, or the listener is slow
        if not gone.done():
            with suppress(RuntimeError, WebSocketDisconnect):
                await socket.close(1000 if passing.done() else GOING_AWAY)
    finally:
        for task in (gone, stop):
            task.cancel()
        await asyncio.wait((gone, stop))


async def _until_gone(socket: WebSocket) -> None:
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass  # a listener has nothing to say
