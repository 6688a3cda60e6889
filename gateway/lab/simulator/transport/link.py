"""
The way out of a connection: events in one order, past the faults, onto the socket.

How this folder works. ``websocket`` is the server's side of one TCP connection, a WebSocket that can misbehave on
purpose. A ``Link`` stands before it: the session emits events from anywhere on the loop without waiting, ``pump`` sends
them one after the other, and each fault in force is asked about each event: it may change, delay, double or drop it.
``connection`` is the record of what was sent, received and wrong, which tests and people read.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NamedTuple

from websockets.exceptions import ConnectionClosed

from gateway.lab.simulator.faults.fault import Fault
from gateway.lab.simulator.transport.connection import Connection
from gateway.lab.simulator.transport.websocket import Socket

NO_STATUS = 1005
STRAY = "(stray)"
_ESTABLISHED = 1  # tcp_info.tcpi_state in linux/tcp.h
_FROZEN_LOOK_S = 0.1
_FROZEN_LOOKS = 6000
RESET = 1006


class _Waiting(NamedTuple):
    event_type: str
    text: str | bytes
    since: float


class Link:
    """
    Sends events, each with an id of its own.

    ``emit`` may be called from anywhere on the loop and never waits; ``pump`` does the sending.

    Args:
        web_socket: an open WebSocket.
        connection: where the events sent are recorded.
        faults: asked about every event.

    Attributes:
        faults: those in force; ``add_fault`` brings more.
    """

    def __init__(self, web_socket: Socket, connection: Connection, faults: Iterable[Fault] = ()) -> None:
        self.connection = connection
        self.faults = list(faults)
        self._socket = web_socket
        self._waiting: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._token = secrets.token_hex(6)
        self._count = 0
        self._reached: dict[str, asyncio.Event] = {}
        self._timers: set[asyncio.TimerHandle] = set()
        self._running: set[asyncio.Task[None]] = set()
        self._now = asyncio.get_running_loop().time

    def emit(self, event: dict[str, Any], *, late_s: float = 0.0) -> None:
        """
        Send an event; it is put into text now, so what it shows may change afterwards.

        Args:
            event: without its id.
            late_s: it waits so long, and what is behind passes it.
        """
        self._count += 1
        event = {"event_id": f"event_{self._token}{self._count:06d}", **event}
        if not self.faults:
            self._put(event)
            return
        events = [event]
        for fault in self.faults:
            events = [sent for each in events for sent in fault.sent_as(each)]
        for each in events:
            each_late_s = late_s + sum(fault.late_s(event["type"]) for fault in self.faults)
            if each_late_s:
                self._put_later(each, each_late_s)
            else:
                self._put(each)

    def emit_text(self, event_type: str, fields: str) -> None:
        """Send an event whose fields are JSON text already, without the braces."""
        if self.faults:
            self.emit({"type": event_type, **json.loads(f"{{{fields}}}")})
            return
        self._count += 1
        head = f'"type":"{event_type}","event_id":"event_{self._token}{self._count:06d}"'
        self._waiting.put_nowait(_Waiting(event_type, f"{{{head},{fields}}}", 0.0))

    def start(self) -> None:
        """Let the faults begin."""
        for fault in self.faults:
            self._run(fault)

    def add_fault(self, fault: Fault) -> None:
        """Let one more fault begin now."""
        self.faults.append(fault)
        self._run(fault)

    def _run(self, fault: Fault) -> None:
        """Run a fault until ``stop``."""
        if self._socket.close_reply == "answer":
            self._socket.close_reply = fault.close_reply()
        task = asyncio.create_task(fault.run(self))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def stop(self) -> None:
        """End the faults that run, and what was to be sent late."""
        for timer in self._timers:
            timer.cancel()
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def pump(self) -> None:
        """Send what waits and what comes, until the socket closes."""
        while True:
            event_type, text, since = await self._waiting.get()
            try:
                if not self.faults or await self._passes(event_type, since):
                    self.connection.note_sent(event_type)
                    await self._socket.send(text)
                    self.note_reached(event_type)
            except ConnectionClosed:
                return
            finally:
                self._waiting.task_done()

    async def close(self, code: int, reason: str) -> None:
        """
        Send what waits, then CLOSE, and wait for the other side's within the socket's limit.

        Args:
            code: 1005 sends a CLOSE without a status, 1006 resets TCP instead.
            reason: text beside the code.
        """
        await self._waiting.join()
        if code == RESET:
            self.abort()
            return
        self._mark()
        if code == NO_STATUS:
            await self._socket.close_bare()
        else:
            await self._socket.close(code, reason)

    def abort(self) -> None:
        """Drop the TCP connection without a word."""
        self._mark()
        self._socket.transport.abort()

    def abort_if_silent(self) -> None:
        """Drop the TCP connection if its closing handshake would never end."""
        if self._socket.frozen or self._socket.close_reply != "answer":
            self._socket.transport.abort()

    def send_raw(self, message: str | bytes) -> None:
        """Send a text or a binary message as it is, behind those already waiting."""
        self._waiting.put_nowait(_Waiting(STRAY, message, self._now()))

    async def freeze(self) -> None:
        """Neither read nor write any more; returns when the client has given up TCP, and drops it then."""
        self._mark()
        self._socket.frozen = True
        transport = self._socket.transport
        transport.pause_reading()
        tcp = transport.get_extra_info("socket")
        # Without reading, asyncio does not hear of the other side's FIN, so the kernel is asked, again and again; a FIN
        # behind data that finds no room never shows, so there is an end to it.
        for _ in range(_FROZEN_LOOKS):
            if transport.is_closing() or tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != _ESTABLISHED:
                break
            await asyncio.sleep(_FROZEN_LOOK_S)
        transport.abort()

    async def ping(self) -> None:
        """Send a PING without waiting for its PONG."""
        with suppress(ConnectionClosed):
            await self._socket.ping()

    async def reached(self, event_type: str) -> None:
        """Wait for the next event of that type, sent by either side."""
        await self._reached.setdefault(event_type, asyncio.Event()).wait()

    def note_reached(self, event_type: str) -> bool:
        """Wake what waits for an event of that type; return whether anything did."""
        event = self._reached.pop(event_type, None) if self._reached else None
        if event is None:
            return False
        event.set()
        return True

    def _put(self, event: dict[str, Any]) -> None:
        text = json.dumps(event, separators=(",", ":"))
        self._waiting.put_nowait(_Waiting(_name_of(event), text, self._now() if self.faults else 0.0))

    def _put_later(self, event: dict[str, Any], late_s: float) -> None:
        text = json.dumps(event, separators=(",", ":"))

        def put() -> None:
            self._timers.discard(timer)
            self._waiting.put_nowait(_Waiting(_name_of(event), text, self._now()))

        timer = asyncio.get_running_loop().call_later(late_s, put)
        self._timers.add(timer)

    def _mark(self) -> None:
        if self.connection.closed_by is None:
            self.connection.closed_by = "simulator"

    async def _passes(self, event_type: str, since: float) -> bool:
        latency_s = sum(fault.latency_s() for fault in self.faults)
        if latency_s:
            await asyncio.sleep(since + latency_s - self._now())
        for fault in self.faults:
            delay_s = fault.delay_s(event_type)
            if delay_s is None:
                return False
            if delay_s:
                await asyncio.sleep(delay_s)
        return True


def _name_of(event: dict[str, Any]) -> str:
    """Return an event's type, for those who wait for it; a fault may have left it without."""
    return str(event.get("type"))
