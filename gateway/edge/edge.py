"""
The edge: Kamailio on the public port, in front of all workers.

How it works. Phones and trunks send SIP to Kamailio; it sends each call to one worker, over UDP, from a second socket
that only workers reach (``inner``). Sound does not pass here: it goes straight between callers and workers.

A new call goes to the first worker with room, in the order of ``workers.order_of``. Kamailio counts the calls it sends
and those that end; what workers report of themselves replaces its counts. A worker that refuses for want of room, or
does not answer, is followed by the next one before the caller hears of it.

A request inside a call needs no memory. To callers, the Contact of a worker reads as the edge's own address with a
token in it (``;w=``), a keyed hash of the worker's address. To place a request with a token, Kamailio needs the list of
workers and nothing else: it can be killed and started again in the middle of calls, and another edge with the same key
can take over. To workers, the edge is one Record-Route entry. Callers never see that entry, nor a worker's address in
Via or Contact. Route headers from outside are not followed, so that nobody can reach anything but workers through it.

Requests from workers (calls out, registrations) arrive at the inner socket and leave by the public ones, to where DNS
says (RFC 3263); what comes back in their dialogs carries the token.

``config.py`` writes Kamailio's configuration from the settings (``kamailio.cfg.jinja`` has the logic), ``process.py``
runs it, ``rpc.py`` gives it orders, ``feed.py`` those that follow from a list of workers (``workers.py``). Each order
is in force at once; nothing is reloaded, so no count is lost.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import structlog

from gateway.child_process import ChildFailed, ChildProcess
from gateway.edge.config import OLDEST, EdgePlace, kamailio_config, tls_config
from gateway.edge.feed import WorkerFeed
from gateway.edge.process import KamailioProcess
from gateway.edge.rpc import EdgeError
from gateway.edge.workers import EdgeWorker, tables
from gateway.errors import ConfigError, GatewayError
from gateway.free_port import free_port
from gateway.settings.sections import Settings
from gateway.settings.sip import SipSettings
from gateway.sip.location.resolver import Resolver
from gateway.sip.location.servers import is_address
from gateway.sip.location.trunk_names import GRACE_S, next_hop

START_LIMIT_S = 20.0
INSTALL = "apt-get install kamailio kamailio-tls-modules"
_PREFIX = "gateway-edge-"
_LONGEST_SOCKET_PATH = 100
_PORT_LOOKS = 300
_FIRST_LOOK_S, _LAST_LOOK_S = 5.0, 600.0
_FIRST_DELAY_S, _LAST_DELAY_S = 0.2, 5.0
_SOON_S = 10.0  # one that ends before that had hardly started
_TAKEN = re.compile(r"Address already in use|Cannot assign requested address|Permission denied")

_log = structlog.get_logger(__name__)


class Edge:
    """
    One Kamailio as our child, from ``async with`` to its end.

    Entering raises ``ConfigError`` when Kamailio is not installed or too old, or a port is taken.

    Args:
        settings: of the gateway; ``sip`` says what the public side is.
        adopted: what ``hand_over`` of the process before us returned.

    Attributes:
        place: where it runs.
        ended: gets Kamailio's exit code when it has ended without being asked; a new future after each start.

    Thread: loop, which must be the main thread.
    """

    def __init__(self, settings: Settings, *, adopted: str | None = None) -> None:
        self._settings = settings
        self._adopted: dict[str, Any] | None = None if adopted is None else json.loads(adopted)
        self._workers: tuple[EdgeWorker, ...] = ()
        self._growing = False
        self._process: KamailioProcess | None = None
        self._names: asyncio.Task[None] | None = None
        self._feed: WorkerFeed
        self._folder: Path
        self.place: EdgePlace
        self.ended: asyncio.Future[int]

    @property
    def inner(self) -> str:
        """``host:port`` where workers reach it: their ``sip.edge``."""
        return self.place.inner

    @property
    def pid(self) -> int:
        """Process id of Kamailio; 0 when it does not run."""
        return 0 if self._process is None or self._process.ended.done() else self._process.pid

    async def __aenter__(self) -> Self:
        """Start Kamailio, or take over the one that runs; it answers when this returns."""
        try:
            if self._adopted is None:
                await self._begin()
            else:
                await self._adopt(self._adopted)
        except BaseException:
            await self._end()
            raise
        self._names = asyncio.create_task(self._follow_names())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop Kamailio and remove its files."""
        await self._end()

    async def set_workers(self, workers: Sequence[EdgeWorker], *, growing: bool = False) -> None:
        """
        Replace the list of workers; in force when this returns.

        Calls to a worker that is still in the list go on, whatever its state.

        Args:
            workers: all of them.
            growing: more are about to come: an INVITE that finds no room waits for them, up to a second.

        Raises:
            EdgeError: Kamailio does not answer; the list is kept for ``restart``.
        """
        self._workers, self._growing = tuple(workers), growing
        await self._feed.set_workers(workers, growing=growing)

    async def restart(self) -> None:
        """Start Kamailio again after it has ended, at the same addresses and with the same workers: calls go on."""
        if self._process is not None:
            await self._process.stop()
        for _ in range(_PORT_LOOKS):  # killed processes let go of them a moment later
            if not self._ports_taken():
                break
            await asyncio.sleep(0.01)
        await self._start()

    async def keep(self) -> None:
        """Start Kamailio again whenever it ends; later, if it had hardly started or does not start. Never returns."""
        loop, delay_s = asyncio.get_running_loop(), 0.0
        while True:
            started = loop.time()
            code = await asyncio.shield(self.ended)  # to be cancelled is not to end it
            delay_s = _next_delay_s(delay_s) if loop.time() - started < _SOON_S else 0.0
            _log.error("edge_died", exit_code=code, again_in_s=delay_s)
            while True:
                await asyncio.sleep(delay_s)
                try:
                    await self.restart()
                    break
                except GatewayError as error:
                    delay_s = _next_delay_s(delay_s)
                    _log.error("edge_does_not_start", detail=str(error), again_in_s=delay_s)
            _log.warning("edge_is_back", pid=self.pid)

    async def reload_certificates(self) -> None:
        """Let new TLS connections use what is in the certificate files now."""
        if self._settings.sip.tls:
            await self._feed.rpc.call("tls.reload")

    def hand_over(self) -> str:
        """
        Leave Kamailio running for the program that this process becomes by ``exec``; nothing else may follow.

        Returns:
            Text for ``Edge(adopted=...)`` there.
        """
        assert self._process is not None
        if self._names is not None:
            self._names.cancel()
        self._process.let_go()
        place = {name: _plain(value) for name, value in dataclasses.asdict(self.place).items()}
        workers = [dataclasses.asdict(worker) for worker in self._workers]
        return json.dumps(
            {"pid": self._process.pid, "log": self._process.log_fd, "place": place, "workers": workers}
            | {"growing": self._growing, "folder": str(self._folder), "mark": self._feed.mark}
        )

    # --- start and end ---

    async def _begin(self) -> None:
        _sweep(Path(tempfile.gettempdir()))
        self._folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        if len(os.fsencode(self._folder / "rpc.sock")) > _LONGEST_SOCKET_PATH:
            self._folder.rmdir()
            self._folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir="/tmp"))
        self._program = await _find_kamailio(self._settings.edge.kamailio)
        sip, edge = self._settings.sip, self._settings.edge
        port = sip.port or free_port(sip.host)
        self.place = EdgePlace(
            port=port,
            tls_port=(sip.tls_port or free_port(sip.host)) if sip.tls else 0,
            inner=f"{edge.inner_host}:{edge.inner_port or free_port(edge.inner_host)}",
            control=self._folder / "rpc.sock",
            tls_config=self._folder / "tls.cfg",
            public=public_address(sip),
            key=key_of(self._settings),
            children=max(2, min(8, os.cpu_count() or 2)),
        )
        await self._start()

    async def _start(self) -> None:
        if problems := self._ports_taken():
            raise ConfigError(*problems)
        place = self.place
        (self._folder / "tls.cfg").write_text(tls_config(self._settings.sip), encoding="utf-8")
        config = self._folder / "kamailio.cfg"
        told = tables(place.key, self._workers, growing=self._growing)
        self._feed = WorkerFeed(place.control, place.key, told)
        config.touch(mode=0o600)
        config.write_text(kamailio_config(self._settings, place, held=self._feed.held), encoding="utf-8")
        place.control.unlink(missing_ok=True)
        folder = str(self._folder)
        self._process = KamailioProcess.start(
            *(str(self._program), "-f", str(config), "-DD", "-E", "-m", "256", "-M", "16"),
            *("-w", folder, "-Y", folder, "-P", f"{folder}/pid"),
        )
        await self._ready(self._process)

    async def _ready(self, process: KamailioProcess) -> None:
        self.ended = process.ended
        try:
            async with asyncio.timeout(START_LIMIT_S):
                while not process.ended.done():
                    with suppress(EdgeError):
                        await self._feed.rpc.call("core.echo", "ready")
                        return
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise ConfigError(f"edge: Kamailio did not answer within {START_LIMIT_S:g} s") from None
        raise ConfigError(await self._why(process))

    async def _why(self, process: KamailioProcess) -> str:
        await process.stop()
        lines = [line for line in process.lines if re.search(r"(ERROR|CRITICAL|ALERT):", line)]
        if any("could not find module <tls" in line for line in lines):
            return "edge: Kamailio has no TLS; install it: apt-get install kamailio-tls-modules"
        if taken := next((line for line in lines if _TAKEN.search(line)), None):
            return f"edge: Kamailio cannot listen: {taken.partition(': ')[2]}; set sip.host or sip.port to others"
        shown = "\n".join(lines[:5] or [*process.lines][-5:])
        return f"edge: Kamailio ended at once with exit code {process.ended.result()}; it wrote:\n{shown}"

    async def _adopt(self, state: dict[str, Any]) -> None:
        place = dict(state["place"])
        place |= {name: Path(place[name]) for name in ("control", "tls_config")}
        self.place = EdgePlace(**place)
        self._folder = Path(state["folder"])
        self._program = await _find_kamailio(self._settings.edge.kamailio)
        self._workers = tuple(EdgeWorker(**worker) for worker in state["workers"])
        self._growing = state["growing"]
        told = tables(self.place.key, self._workers, growing=self._growing)
        self._feed = WorkerFeed(self.place.control, self.place.key, told, state["mark"])
        self._process = KamailioProcess.adopt(state["pid"], state["log"])
        await self._ready(self._process)

    async def _end(self) -> None:
        if self._names is not None:
            self._names.cancel()
            with suppress(asyncio.CancelledError):
                await self._names
        if self._process is not None:
            await self._process.stop()
        if hasattr(self, "_folder"):
            shutil.rmtree(self._folder, ignore_errors=True)

    def _ports_taken(self) -> list[str]:
        """Say which ports are taken: Kamailio itself would share a UDP port with another process without a word."""
        sip, place = self._settings.sip, self.place
        inner_host, _, inner_port = place.inner.rpartition(":")
        hosts = [sip.host, *([self._settings.edge.host_ipv6] if self._settings.edge.host_ipv6 else [])]
        wanted = [("udp", inner_host, int(inner_port), "edge.inner_host and edge.inner_port")]
        for host in hosts:
            where = "sip.host and sip.port" if host == sip.host else "edge.host_ipv6 and sip.port"
            wanted += [("udp", host, place.port, where)] if sip.udp else []
            wanted += [("tcp", host, place.port, where)] if sip.tcp else []
            wanted += [("tcp", host, place.tls_port, "sip.tls_port")] if sip.tls else []
        return [problem for each in wanted for problem in _taken(*each)]

    # --- trunks that are names ---

    async def _follow_names(self) -> None:
        """Tell Kamailio the addresses of trunks that are named, for as long as we run."""
        named = [trunk for trunk in self._settings.trunks.values() if not is_address(next_hop(trunk).host)]
        if not named:
            return
        resolver = Resolver(self._settings.sip, self._settings.trunks)
        while True:
            located = await asyncio.gather(*(resolver.locate(next_hop(trunk)) for trunk in named))
            found = {server.address for each in located for server in each.servers}
            try:
                await self._feed.allow(found, int(GRACE_S))
                wait_s = min((each.ttl_s for each in located), default=_FIRST_LOOK_S)
            except EdgeError as error:
                _log.warning("edge_not_told", detail=str(error))
                wait_s = _FIRST_LOOK_S
            await asyncio.sleep(max(_FIRST_LOOK_S, min(wait_s, _LAST_LOOK_S)))


def _next_delay_s(delay_s: float) -> float:
    return min(max(_FIRST_DELAY_S, 2 * delay_s), _LAST_DELAY_S)


def public_address(sip: SipSettings) -> str:
    """Return the IPv4 address that callers reach us at, as far as this machine knows."""
    if sip.public_address is not None:
        return sip.public_address
    if sip.host != "0.0.0.0":
        return sip.host
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing: asks the kernel which address would be used
        return str(probe.getsockname()[0])
    return "127.0.0.1"


def key_of(settings: Settings) -> str:
    """Return what hides workers: the setting's digest, so that it is fit for a configuration; else a new random one."""
    if settings.edge.key is None:
        return secrets.token_hex(16)
    return hashlib.sha256(settings.edge.key.get_secret_value().encode()).hexdigest()[:32]


async def _find_kamailio(program: Path) -> Path:
    found = shutil.which(program)
    if found is None and not program.is_absolute():
        found = shutil.which(program, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise ConfigError(f"edge: there is no {program} here; install it ({INSTALL}), or set edge.start to false")
    try:
        async with ChildProcess(found, "-v") as process:
            await process.wait(START_LIMIT_S)
            text = await process.find(r"version: \S+ (\d+)\.(\d+)", START_LIMIT_S)
    except (OSError, ChildFailed) as error:
        raise ConfigError(f"edge: {found} cannot be run: {error}") from None
    version = int(text[1]), int(text[2])
    if version < OLDEST:
        needed, has = (".".join(map(str, each)) for each in (OLDEST, version))
        raise ConfigError(f"edge: {found} is version {has}, but {needed} or newer is needed; install it: {INSTALL}")
    return Path(found)


def _taken(transport: str, host: str, port: int, where: str) -> Iterator[str]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
    with socket.socket(family, kind) as probe:
        if transport == "tcp":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            yield f"edge: cannot listen on {transport} {host} port {port}: {error.strerror}; change {where}"


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


def _sweep(parent: Path) -> None:
    """Remove what killed gateways left behind: our own folders whose Kamailio is gone."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError, ValueError):
            status = folder.stat()
            if status.st_uid != os.getuid():
                continue
            pid = folder / "pid"  # Kamailio writes it at its start and removes it at its end
            starting = not pid.exists() and time.time() - status.st_mtime < START_LIMIT_S
            running = pid.exists() and Path(f"/proc/{int(pid.read_text(encoding='ascii'))}").exists()
            if not starting and not running:
                shutil.rmtree(folder, ignore_errors=True)
