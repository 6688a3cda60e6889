from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from gateway.errors import StoreError
from gateway.ids import new_call_id
from gateway.settings.sections import RedisSettings
from gateway.store import embedded
from gateway.store.calls import RedisCallStore
from gateway.store.embedded import EmbeddedRedis, find_redis_server
from gateway.store.reader import CallReader
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration

PARENT = """
import asyncio
from gateway.store.embedded import EmbeddedRedis

async def live() -> None:
    server = EmbeddedRedis()
    async with server as url:
        print(server.pid, url, flush=True)
        await asyncio.sleep(60)

{run}(live())
"""


@pytest.fixture
def temp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A short directory of its own as the place for temporary files: a socket's path has little room."""
    path = Path(tempfile.mkdtemp(prefix="gt-", dir="/tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    yield path
    shutil.rmtree(path)


def runs(pid: int) -> bool:
    """The process exists and is no zombie (a container may have nobody who collects orphans)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def accepts(url: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(url.removeprefix("unix://")) == 0


async def test_the_store_works_on_a_private_server_that_is_gone_afterwards(temp: Path) -> None:
    server = EmbeddedRedis()
    async with server as url:
        pid, home = server.pid, Path(url.removeprefix("unix://")).parent
        assert runs(pid)
        assert home.parent == temp
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        with Redis.from_url(url, decode_responses=True) as client:
            assert client.config_get("port") == {"port": "0"}
            assert client.config_get("save") == {"save": ""}
            assert client.config_get("maxmemory*")["maxmemory"] == str(1024 * 2**20)
            assert client.config_get("maxmemory*")["maxmemory-policy"] == "noeviction"
        store = RedisCallStore(RedisSettings.model_validate({"url": url}), "w1")
        await store.open()
        call = new_call_id(time.time_ns())
        store.note(call, "routing", state="routing")
        await until(lambda: not store.backlog)
        async with CallReader(RedisSettings.model_validate({"url": url})) as reader:
            assert [record.call_id for record in await reader.live_calls()] == [call]
        await store.close()
    assert server.pid == 0
    assert not runs(pid)
    assert os.listdir(temp) == []


async def test_a_server_that_does_not_react_is_killed(temp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "STOP_LIMIT_S", 0.2)
    server = EmbeddedRedis()
    async with server:
        pid = server.pid
        os.kill(pid, signal.SIGSTOP)
    assert not runs(pid)
    assert os.listdir(temp) == []


async def test_an_error_inside_the_block_stops_the_server_too(temp: Path) -> None:
    server = EmbeddedRedis()
    with contextlib.suppress(ZeroDivisionError):
        async with server:
            pid = server.pid
            raise ZeroDivisionError
    assert not runs(pid)
    assert os.listdir(temp) == []


@pytest.mark.parametrize("run", ["asyncio.run", "__import__('uvloop').run"], ids=["asyncio", "uvloop"])
async def test_the_server_dies_with_a_killed_parent_and_its_remains_are_swept(temp: Path, run: str) -> None:
    parent = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", PARENT.format(run=run)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(temp)},
    )
    with parent:
        assert parent.stdout is not None
        pid, url = parent.stdout.readline().split()
        assert runs(int(pid))
        parent.kill()
        await until(lambda: not runs(int(pid)))
    left = os.listdir(temp)
    assert left == [os.path.basename(os.path.dirname(url))]
    await until(lambda: not accepts(url))  # its threads may still be on their way out
    async with EmbeddedRedis():
        assert set(os.listdir(temp)).isdisjoint(left)


async def test_two_private_servers_do_not_touch_each_other(temp: Path) -> None:
    async with EmbeddedRedis() as one, EmbeddedRedis() as two:
        assert one != two
        with Redis.from_url(one) as client, Redis.from_url(two) as other:
            client.set("a", 1)
            assert other.get("a") is None


async def test_a_long_temporary_directory_is_stepped_around(temp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = temp / ("d" * 90)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    async with EmbeddedRedis() as url:
        home = Path(url.removeprefix("unix://")).parent
        assert home.parent == Path("/tmp")
    assert not home.exists()
    assert os.listdir(deep) == []


def test_without_the_bundled_binary_the_path_is_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "redis-server"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_redis_server() == own
    own.unlink()
    with pytest.raises(StoreError, match=r"set GATEWAY_REDIS__URL .* or install redis-server"):
        find_redis_server()


async def test_a_server_that_ends_at_once_is_an_error_with_its_words(
    temp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "redis-server"
    broken.write_text("#!/bin/sh\necho no luck today >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(embedded, "find_redis_server", lambda: broken)
    with pytest.raises(StoreError, match="ended at once: no luck today"):
        await EmbeddedRedis().__aenter__()
    assert os.listdir(temp) == []


async def test_a_server_that_never_answers_is_an_error_and_stopped(
    temp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mute = tmp_path / "redis-server"
    mute.write_text("#!/bin/sh\nexec sleep 60\n")
    mute.chmod(0o755)
    monkeypatch.setattr(embedded, "find_redis_server", lambda: mute)
    monkeypatch.setattr(embedded, "START_LIMIT_S", 0.3)
    server = EmbeddedRedis()
    with pytest.raises(StoreError, match=r"did not answer within 0\.3 s"):
        await server.__aenter__()
    assert server.pid == 0
    assert os.listdir(temp) == []
