"""A real redis-server of a test's own, to be stopped, started, paused and looked into."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from gateway.free_port import free_port
from gateway.settings.sections import RedisSettings
from gateway.store.embedded import find_redis_server
from gateway.store.reader import CallReader


class RedisServer:
    """Listens on a Unix socket, or on a free TCP port; keeps its data over a restart when asked to."""

    def __init__(self, *, tcp: bool = False, keep: bool = False, password: str = "") -> None:
        self._home = tempfile.TemporaryDirectory(prefix="redis-test-")
        self._password = password
        self._binary = shutil.which("redis-server") or str(find_redis_server())
        self._keep = keep
        self._port = free_port() if tcp else 0
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        login = f":{self._password}@" if self._password else ""
        if self._port:
            return f"redis://{login}127.0.0.1:{self._port}/0"
        return f"unix://{login}{self._home.name}/redis.sock"

    def settings(self, **changes: Any) -> RedisSettings:
        times = {"heartbeat_s": 0.2, "expiry_s": 1.0, "worker_heartbeat_s": 0.2, "worker_expiry_s": 3.0}
        return RedisSettings.model_validate({"url": self.url, **times, **changes})

    def reader(self) -> CallReader:
        return CallReader(self.settings())

    def client(self) -> Redis:
        return Redis.from_url(self.url, decode_responses=True)

    def start(self) -> None:
        options = {
            "port": str(self._port),
            "bind": "127.0.0.1",
            "unixsocket": f"{self._home.name}/redis.sock",
            "dir": self._home.name,
            "save": "",
            "appendonly": "yes" if self._keep else "no",
            "appendfsync": "always",
            "requirepass": self._password,
        }
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
