from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from gateway.condition import WorkerCondition
from gateway.errors import StoreError
from gateway.store.commands import (
    MOST_CHARACTERS,
    Command,
    CommandAnswer,
    CommandInbox,
    CommandSender,
    done,
    refused,
    sign_key,
    stream_key,
)
from gateway.store.registry import RegistryWriter
from tests.rigs.redis_server import RedisServer
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration

WAIT_S = 15.0


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    server = RedisServer(tcp=True)
    yield server
    server.close()


class Hands:
    """Carries commands out, when it is let."""

    def __init__(self) -> None:
        self.got: list[Command] = []
        self.free = asyncio.Event()
        self.free.set()

    async def __call__(self, command: Command) -> CommandAnswer:
        self.got.append(command)
        await self.free.wait()
        if command.kind == "say":
            raise ValueError("a secret")
        if command.kind == "transfer":
            return refused(command, "the caller is on hold")
        return done(command, "as asked", seen=command.fields.get("text", ""))


@asynccontextmanager
async def reading(redis: RedisServer, hands: Hands, worker: str = "w1") -> AsyncIterator[CommandInbox]:
    async with CommandInbox(redis.settings(), worker, hands) as inbox:
        await until_read(redis, worker)
        yield inbox


async def until_read(redis: RedisServer, worker: str = "w1") -> None:
    with redis.client() as client:
        await until(lambda: client.exists(sign_key("gateway", worker)) == 1, what="the inbox's sign of life")


def waiting(redis: RedisServer, worker: str = "w1") -> int:
    with redis.client() as client:
        return int(client.xlen(stream_key("gateway", worker)))


async def test_a_command_is_carried_out_and_answered(redis: RedisServer) -> None:
    hands = Hands()
    async with reading(redis, hands), CommandSender(redis.settings()) as sender:
        answer = await sender.send("w1", "whisper", call_id="c1", fields={"text": "né\n:1"}, by="ann", wait_s=WAIT_S)
        assert (answer.state, answer.detail, answer.fields) == ("done", "as asked", {"seen": "né\n:1"})
        command = hands.got[0]
        assert (command.kind, command.call_id, command.by) == ("whisper", "c1", "ann")
        answer = await sender.send("w1", "transfer", call_id="c1", by="ann", wait_s=WAIT_S)
        assert (answer.state, answer.detail) == ("refused", "the caller is on hold")
        await until(lambda: waiting(redis) == 0, what="an empty stream")


async def test_a_fault_is_told_without_its_text_and_ends_no_other_command(redis: RedisServer) -> None:
    async with reading(redis, Hands()), CommandSender(redis.settings()) as sender:
        answer = await sender.send("w1", "say", by="ann", wait_s=WAIT_S)
        assert (answer.state, answer.detail) == ("refused", "a fault of the gateway: ValueError")
        assert (await sender.send("w1", "drain", by="ann", wait_s=WAIT_S)).state == "done"


async def test_commands_of_one_worker_are_begun_in_order_and_end_as_they_end(redis: RedisServer) -> None:
    hands = Hands()
    hands.free.clear()
    async with reading(redis, hands), CommandSender(redis.settings()) as sender:

        async def send(n: int) -> CommandAnswer:
            return await sender.send("w1", "whisper", fields={"text": str(n)}, by="ann", wait_s=WAIT_S)

        sent = []
        for n in range(20):
            sent.append(asyncio.ensure_future(send(n)))
            await until(lambda n=n: len(hands.got) == n + 1, what="the next command")  # type: ignore[misc]
        hands.free.set()
        assert [each.fields["seen"] for each in await asyncio.gather(*sent)] == [str(n) for n in range(20)]
        assert len(hands.got) == 20


@pytest.mark.parametrize("ended", [False, True], ids=["unknown", "ended"])
async def test_a_worker_that_is_not_there_gets_no_command(redis: RedisServer, ended: bool) -> None:
    settings, hands = redis.settings(worker_expiry_s=30), Hands()
    async with CommandSender(settings) as sender, CommandInbox(settings, "w1", hands), RegistryWriter(settings) as told:
        await until_read(redis)
        if ended:
            told.set_workers([WorkerCondition("w1", "ended", 0, 4, "")])
            with redis.client() as client:
                await until(lambda: client.exists("{gateway}:worker:w1") == 1, what="the worker's entry")
        answer = await sender.send("w1" if ended else "w2", "drain", by="ann", wait_s=WAIT_S)
        assert answer.state == "refused"
        assert "is not there" in answer.detail
        assert waiting(redis) == waiting(redis, "w2") == 0
        assert not hands.got


async def test_a_worker_that_stopped_reading_leaves_no_sign(redis: RedisServer) -> None:
    async with CommandSender(redis.settings()) as sender:
        async with reading(redis, Hands()):
            pass
        answer = await sender.send("w1", "drain", by="ann", wait_s=WAIT_S)
        assert answer.state == "refused"


async def test_a_worker_that_was_away_does_not_carry_out_an_old_command(redis: RedisServer) -> None:
    hands = Hands()
    with redis.client() as client:
        client.set(sign_key("gateway", "w1"), "of one that hangs")
    async with CommandSender(redis.settings()) as sender:
        answer = await sender.send("w1", "hang_up", call_id="c1", by="ann", wait_s=0.2)
        assert answer.state == "expired"
        assert "it will not be done" in answer.detail
        assert waiting(redis) == 1
        async with reading(redis, hands):
            await until(lambda: waiting(redis) == 0, what="the old command gone")
            assert (await sender.send("w1", "drain", by="ann", wait_s=WAIT_S)).state == "done"
            assert [each.kind for each in hands.got] == ["drain"]


async def test_a_command_expires_by_the_clock_of_redis_even_if_its_sender_died(redis: RedisServer) -> None:
    hands = Hands()
    with redis.client() as client:
        client.set(sign_key("gateway", "w1"), "of one that hangs")
        sender = CommandSender(redis.settings())
        sending = asyncio.ensure_future(sender.send("w1", "hang_up", call_id="c1", by="ann", wait_s=2))
        await until(lambda: waiting(redis) == 1, what="the command")
        sending.cancel()
        await asyncio.wait({sending})
        await sender.close()
        key = client.keys("{gateway}:command:*")[0]
        await asyncio.sleep(2.1)
        async with reading(redis, hands):
            await until(lambda: waiting(redis) == 0, what="the old command gone")
        assert [entry["state"] for _, entry in client.xrange(key)] == ["asked", "expired"]
        assert not hands.got


async def test_a_command_that_was_taken_and_not_answered_is_no_certainty(redis: RedisServer) -> None:
    hands = Hands()
    hands.free.clear()
    async with reading(redis, hands), CommandSender(redis.settings()) as sender:
        answer = await sender.send("w1", "whisper", by="ann", wait_s=0.4)
        assert (answer.state, "may still be done" in answer.detail) == ("expired", True)
    assert len(hands.got) == 1


async def test_a_worker_that_ends_answers_what_is_under_way(redis: RedisServer) -> None:
    hands = Hands()
    hands.free.clear()
    async with CommandSender(redis.settings()) as sender:
        async with reading(redis, hands):
            sending = asyncio.ensure_future(sender.send("w1", "whisper", by="ann", wait_s=WAIT_S))
            await until(lambda: bool(hands.got), what="the command")
        answer = await sending
        assert (answer.state, answer.detail) == ("refused", "the worker ended")


async def test_the_same_call_is_dialled_once_whichever_worker_is_asked(redis: RedisServer) -> None:
    one, other = Hands(), Hands()
    async with (
        reading(redis, one, "w1"),
        reading(redis, other, "w2"),
        CommandSender(redis.settings()) as sender,
    ):
        first = await sender.send("w1", "dial", call_id="c1", fields={"text": "a"}, by="ann", wait_s=WAIT_S)
        again = await sender.send("w2", "dial", call_id="c1", fields={"text": "a"}, by="ann", wait_s=WAIT_S)
        assert first == again
        assert (len(one.got), len(other.got)) == (1, 0)


async def test_a_call_whose_worker_was_not_there_may_be_asked_of_another(redis: RedisServer) -> None:
    hands = Hands()
    async with reading(redis, hands, "w2"), CommandSender(redis.settings()) as sender:
        assert (await sender.send("w1", "dial", call_id="c1", by="ann")).state == "refused"
        assert (await sender.send("w2", "dial", call_id="c1", by="ann", wait_s=WAIT_S)).state == "done"


async def test_sending_while_redis_is_away_is_an_error_and_the_worker_reads_again_when_it_is_back(
    redis: RedisServer,
) -> None:
    hands = Hands()
    async with reading(redis, hands), CommandSender(redis.settings()) as sender:
        assert (await sender.send("w1", "drain", by="ann", wait_s=WAIT_S)).state == "done"
        redis.stop()
        with pytest.raises(StoreError, match="does not answer"):
            await sender.send("w1", "drain", by="ann", wait_s=1)
        redis.start()
        await until_read(redis)
        assert (await sender.send("w1", "undrain", by="ann", wait_s=WAIT_S)).state == "done"
        assert [each.kind for each in hands.got] == ["drain", "undrain"]


async def test_an_answer_that_redis_could_not_take_is_given_when_it_is_back(redis: RedisServer) -> None:
    hands = Hands()
    hands.free.clear()
    async with reading(redis, hands), CommandSender(redis.settings()) as sender:
        sending = asyncio.ensure_future(sender.send("w1", "whisper", fields={"text": "x"}, by="ann", wait_s=30))
        await until(lambda: bool(hands.got), what="the command")
        redis.pause()
        hands.free.set()
        await asyncio.sleep(2.5)
        redis.resume()
        answer = await sending
        assert (answer.state, answer.fields) == ("done", {"seen": "x"})
        assert len(hands.got) == 1


async def test_a_flood_of_commands_is_refused_and_an_endless_one_too(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.store.commands.MOST_WAITING", 3)
    hands = Hands()
    hands.free.clear()
    async with reading(redis, hands), CommandSender(redis.settings()) as sender:
        sent = [asyncio.ensure_future(sender.send("w1", "whisper", by="ann", wait_s=WAIT_S)) for _ in range(5)]
        await until(lambda: len(hands.got) == 3 and sum(each.done() for each in sent) == 2, what="two refusals")
        hands.free.set()
        answers = await asyncio.gather(*sent)
        assert sorted(each.state for each in answers) == ["done", "done", "done", "refused", "refused"]
        long = await sender.send("w1", "whisper", fields={"text": "x" * MOST_CHARACTERS}, by="ann")
        assert long.state == "refused"


async def test_answers_and_streams_expire(redis: RedisServer) -> None:
    async with reading(redis, Hands()), CommandSender(redis.settings()) as sender:
        answer = await sender.send("w1", "whisper", by="ann", wait_s=WAIT_S)
        assert 0 < redis.ttl_s(f"{{gateway}}:command:{answer.command_id}") <= 600
        assert 0 < redis.ttl_s(sign_key("gateway", "w1")) <= 12
        await until(lambda: waiting(redis) == 0, what="an empty stream")
        assert 0 < redis.ttl_s(stream_key("gateway", "w1")) <= 600


async def test_what_others_write_into_the_stream_harms_nobody(redis: RedisServer) -> None:
    hands = Hands()
    async with reading(redis, hands), CommandSender(redis.settings()) as sender:
        with redis.client() as client:
            client.xadd(stream_key("gateway", "w1"), {"until": "never", "id": "x"})
            client.xadd(stream_key("gateway", "w1"), {"odd": "1"})
        await until(lambda: waiting(redis) == 0, what="an empty stream")
        assert (await sender.send("w1", "drain", by="ann", wait_s=WAIT_S)).state == "done"
        assert [each.kind for each in hands.got] == ["drain"]


def test_a_sender_needs_a_url(redis: RedisServer) -> None:
    with pytest.raises(ValueError, match="url is None"):
        CommandSender(redis.settings(url=None))
