"""What is kept of a person is erased: in a real Redis, and in files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from gateway.errors import StoreError
from gateway.settings.sections import RedisSettings
from gateway.store.erase import Erased, erase_caller
from gateway.store.limits import hashed
from tests.rigs.redis_dump import dump_of
from tests.rigs.redis_server import RedisServer

pytestmark = pytest.mark.integration

NUMBER, OTHER, OURS = "+493012345678", "+4930999888777", "+49305550000"
TEXT = "Alice, on 030 12345678"


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.close()


class Kept:
    """A Redis and folders with calls of two people in them."""

    def __init__(self, server: RedisServer, folder: Path) -> None:
        self.server, self.redis = server, server.client()
        self.redis.flushall()
        self.recordings, self.traces = folder / "recordings", folder / "traces"
        self.recordings.mkdir()
        self.traces.mkdir()

    def call(self, call_id: str, *, record: bool = True, files: bool = True, **facts: str) -> None:
        """Write a call down as a worker does."""
        named = {"recording": f"/elsewhere/20260101-000000-{call_id}.wav", "sip_trace": f"/elsewhere/{call_id}.txt"}
        fields: dict[Any, Any] = {"call_id": call_id, "state": "ended", "direction": "inbound", "called": OURS}
        fields |= {**named, **facts}
        key = f"{{gateway}}:call:{call_id}"
        self.redis.xadd("{gateway}:events", {**fields, "event": "routing"})
        self.redis.xadd("{gateway}:events", {"call_id": call_id, "event": "caller_spoke", "text": TEXT})
        if record:
            self.redis.hset(key, mapping=fields)
            self.redis.xadd(f"{key}:events", {"event": "caller_spoke", "text": TEXT})
        if fields["state"] == "ended":
            self.redis.xadd("{gateway}:cdrs", fields)
        if files:
            for name in (
                f"recordings/20260101-000000-{call_id}.wav",
                f"traces/{call_id}.txt",
                f"traces/{call_id}.pcap",
            ):
                (self.recordings.parent / name).write_text(fields.get("caller", ""))

    async def erase(self, number: str, *, dry_run: bool = False) -> Erased:
        settings: RedisSettings = self.server.settings()
        return await erase_caller(settings, number, recordings=self.recordings, traces=self.traces, dry_run=dry_run)

    def files(self) -> set[str]:
        return {path.name for folder in (self.recordings, self.traces) for path in folder.iterdir()}

    def dump(self) -> str:
        return dump_of(self.server.url)


@pytest.fixture
def kept(server: RedisServer, tmp_path: Path) -> Iterator[Kept]:
    kept = Kept(server, tmp_path)
    yield kept
    kept.redis.close()


def fill(kept: Kept) -> None:
    """Write down calls of one person in every way, and one of another."""
    kept.call("a1", caller=NUMBER, from_uri="sip:03012345678@192.0.2.7")
    kept.call("a2", record=False, caller=NUMBER)
    kept.call("a3", direction="outbound", caller=OURS, called=NUMBER, to_uri=f"sip:{NUMBER}@192.0.2.9")
    kept.call("b1", caller=OTHER)
    redis: Redis = kept.redis
    for caller in (NUMBER, OTHER):
        redis.hset(f"{{gateway}}:limits:sales:day:2026-01-01:{hashed(caller)}", "calls", 1)
        redis.zadd(f"{{gateway}}:limits:sales:live:{hashed(caller)}", {"x": 1})
    redis.hset("{gateway}:limits:sales:day:2026-01-01", "calls", 2)
    redis.hset("{gateway}:totals:2026-01-01", "calls", 4)
    for name, call_id in (("m1", "a1"), ("m2", "b1")):
        redis.hset(
            f"{{gateway}}:webhooks:delivery:{name}", mapping={"call_id": call_id, "endpoint": "crm", "body": call_id}
        )
        redis.zadd("{gateway}:webhooks:due:crm", {name: 1})
    redis.zadd("{gateway}:webhooks:dead", {"m1": 1})
    redis.xadd("{gateway}:audit", {"action": "dial", "detail": f"to tel:{NUMBER}"})
    redis.xadd("{gateway}:audit", {"action": "listen", "call_id": "a1"})
    redis.xadd("{gateway}:audit", {"action": "listen", "call_id": "b1"})


@pytest.mark.parametrize(
    "number", [NUMBER, "00493012345678", "493012345678", f"sip:{NUMBER}@anywhere", "+49 30 1234-5678"]
)
async def test_everything_of_a_person_goes_and_nothing_of_others(kept: Kept, number: str) -> None:
    fill(kept)
    erased = await kept.erase(number)
    assert (erased.calls, erased.live, erased.dry_run) == (("a1", "a2", "a3"), (), False)
    assert (erased.records, erased.cdrs, erased.deliveries, erased.limits, erased.audit) == (2, 3, 1, 2, 2)
    assert erased.events == 6
    assert len(erased.files) == 9
    dump = kept.dump()
    for gone in (NUMBER, "03012345678", "a1", "a2", "a3", hashed(NUMBER), "m1"):
        assert gone not in dump.replace(OTHER, ""), gone
    for stays in (OTHER, "b1", hashed(OTHER), "m2", "{gateway}:totals:2026-01-01: {'calls': '4'}"):
        assert stays in dump
    assert kept.files() == {"20260101-000000-b1.wav", "b1.txt", "b1.pcap"}
    assert (await kept.erase(number)).calls == ()


async def test_a_number_as_it_was_written_finds_its_call_too(kept: Kept) -> None:
    fill(kept)
    assert (await kept.erase("030 12345678")).calls == ("a1",)


async def test_a_dry_run_says_the_same_and_erases_nothing(kept: Kept) -> None:
    fill(kept)
    before, files = kept.dump(), kept.files()
    tried = await kept.erase(NUMBER, dry_run=True)
    assert (kept.dump(), kept.files()) == (before, files)
    done = await kept.erase(NUMBER)
    assert (tried.calls, tried.records, tried.events, tried.files) == (
        done.calls,
        done.records,
        done.events,
        done.files,
    )
    assert tried.dry_run


async def test_the_gateways_own_number_is_nobodys(kept: Kept) -> None:
    fill(kept)
    assert (await kept.erase(OURS)).calls == ()


async def test_a_live_call_is_left_alone_and_reported(kept: Kept) -> None:
    kept.call("a1", caller=NUMBER, state="active")
    kept.redis.zadd(f"{{gateway}}:limits:sales:live:{hashed(NUMBER)}", {"a1": 1})
    before = kept.dump()
    erased = await kept.erase(NUMBER)
    assert (erased.calls, erased.live, erased.limits) == ((), ("a1",), 0)
    assert kept.dump() == before


async def test_files_that_are_on_another_machine_are_named(kept: Kept) -> None:
    kept.call("a1", caller=NUMBER, files=False)
    erased = await kept.erase(NUMBER)
    assert erased.files == ()
    assert erased.files_elsewhere == ("/elsewhere/20260101-000000-a1.wav", "/elsewhere/a1.txt")


@pytest.mark.parametrize("path", ["/etc/passwd", "../../secret.txt", ".hidden.wav", "", "a/../x.sh"])
async def test_a_record_cannot_have_other_files_deleted(kept: Kept, path: str) -> None:
    secret = kept.recordings.parent.parent / "secret.txt"
    secret.touch()
    (kept.traces / "link.txt").symlink_to(secret)
    kept.call("a1", files=False, caller=NUMBER, recording=path, sip_trace="link.txt")
    erased = await kept.erase(NUMBER)
    assert erased.files == ()
    assert secret.exists()
    assert (kept.traces / "link.txt").is_symlink()


async def test_a_user_that_is_no_number_is_found_whatever_the_case(kept: Kept) -> None:
    kept.call("a1", caller="alice", from_uri="sip:Alice@192.0.2.7")
    assert (await kept.erase("ALICE")).calls == ("a1",)


async def test_many_calls_are_erased_in_parts(kept: Kept) -> None:
    for number in range(1300):
        kept.call(f"a{number}", files=False, caller=NUMBER)
    kept.call("b1", files=False, caller=OTHER)
    erased = await kept.erase(NUMBER)
    assert (len(erased.calls), erased.records, erased.events, erased.cdrs) == (1300, 1300, 2600, 1300)
    assert NUMBER not in kept.dump()
    assert kept.redis.xlen("{gateway}:cdrs") == 1


@pytest.mark.parametrize("number", ["", "  ", "1" * 129])
async def test_no_number_erases_nothing(kept: Kept, number: str) -> None:
    with pytest.raises(ValueError, match="1 to 128 characters"):
        await kept.erase(number)


async def test_a_redis_that_is_away_is_said_to_be(kept: Kept, tmp_path: Path) -> None:
    nobody = RedisSettings.model_validate({"url": f"unix://{tmp_path}/nobody.sock"})
    with pytest.raises(StoreError, match="does not answer"):
        await erase_caller(nobody, NUMBER, recordings=kept.recordings, traces=kept.traces)


async def test_a_file_that_cannot_be_deleted_keeps_what_is_known_of_it(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    kept.call("a1", caller=NUMBER)
    before = kept.dump()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refuse)
        with pytest.raises(PermissionError):
            await kept.erase(NUMBER)
    assert kept.dump() == before
    assert (await kept.erase(NUMBER)).calls == ("a1",)
