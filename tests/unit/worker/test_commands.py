"""What commands do on a worker whose calls have fakes on all sides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.call.events import LegClosed
from gateway.ids import CallId
from gateway.store.commands import Command, CommandAnswer
from gateway.worker.commands import Control, WorkerCommands
from gateway.worker.live_plan import Reloaded
from tests.fakes.switchboard import INVITE, House, until

pytestmark = pytest.mark.unit

CALL = INVITE.call_id


class Worker:
    """A worker that remembers what was done with it."""

    def __init__(self) -> None:
        self.house = House()
        self.house.switchboard.capacity = 2
        self.leaves = False
        self.reloaded = Reloaded("v2", True)
        self.probed: dict[str, tuple[int, str]] = {"main": (200, "OK")}
        self.listened: list[tuple[CallId, float]] = []
        control = Control(
            pause=lambda paused: setattr(self.house.switchboard, "paused", paused),
            leaves=lambda: self.leaves,
            reload=self.reload,
            probe_trunk=self.probe,
            listen=self.listen,
        )
        self.commands = WorkerCommands(self.house.switchboard, self.house.store, control)

    async def reload(self) -> Reloaded:
        return self.reloaded

    async def probe(self, trunk: str, limit_s: float) -> tuple[int, str]:
        return self.probed.get(trunk, (0, f"there is no trunk {trunk!r}"))

    def listen(self, call_id: CallId, seconds: float) -> bool:
        self.listened.append((call_id, seconds))
        return self.house.switchboard.knows(call_id)

    async def give(self, kind: str, call_id: str = "", **fields: str) -> CommandAnswer:
        return await self.commands.carry_out(Command("c1", kind, call_id, fields, "ann"))

    def names(self, call_id: CallId = CALL) -> list[str]:
        return self.house.store.events(call_id)


@asynccontextmanager
async def worker(*, with_call: bool = False) -> AsyncIterator[Worker]:
    made = Worker()
    if with_call:
        made.house.switchboard.on_event(INVITE)
        await until(lambda: made.house.store.record(CALL).get("state") == "active")
    yield made
    await made.house.switchboard.stop("the test is over")


async def test_a_command_goes_to_its_call_and_the_answer_comes_back() -> None:
    async with worker(with_call=True) as here:
        answer = await here.give("whisper", CALL, text="Be brief.")
        assert (answer.state, answer.command_id) == ("done", "c1")
        assert here.house.agents[CALL].told[0][0].endswith("Be brief.")
        answer = await here.give("give_back", CALL)
        assert (answer.state, answer.detail) == ("refused", "nobody has taken the call over")


async def test_a_call_that_is_not_here_takes_no_command() -> None:
    async with worker() as here:
        answer = await here.give("hang_up", "another")
        assert (answer.state, answer.detail) == ("refused", "there is no such call here: it has ended")


async def test_a_call_that_waits_for_the_limits_takes_none_yet() -> None:
    async with worker() as here:
        here.house.gate.open.clear()
        here.house.switchboard.on_event(INVITE)
        answer = await here.give("hang_up", CALL)
        assert (answer.state, answer.detail) == ("refused", "the call is only beginning")
        here.house.gate.open.set()
        await until(lambda: here.house.switchboard.live_calls == 1)


async def test_a_command_that_makes_no_sense_is_refused_and_written_down() -> None:
    async with worker(with_call=True) as here:
        answer = await here.give("send_digits", CALL, digits="nonsense")
        assert answer.state == "refused"
        assert here.names()[-2:] == ["command", "command_refused"]
        assert here.house.store.fields_of("command")["by"] == "ann"
        assert (await here.give("send_digits", "another", digits="nonsense")).state == "refused"
        assert here.names(CallId("another")) == []


async def test_what_a_call_left_unanswered_is_refused_at_its_end() -> None:
    async with worker(with_call=True) as here:
        giving = asyncio.ensure_future(here.give("transfer", CALL, target="sip:desk@192.0.2.7"))
        await until(lambda: "command" in here.names())
        assert not giving.done()
        here.house.switchboard.on_event(LegClosed(CALL, by_caller=True, code=200, reason="OK"))
        answer = await giving
        assert (answer.state, answer.detail) == ("refused", "the call ended before")


async def test_a_command_is_answered_even_if_the_session_breaks() -> None:
    async with worker(with_call=True) as here:
        here.house.store.raises = RuntimeError("the store broke")
        answer = await here.give("trace", CALL)
        here.house.store.raises = None
        assert answer.state in ("done", "refused")


async def test_a_call_is_placed_with_the_id_that_was_asked_for_and_only_once() -> None:
    async with worker() as here:
        answer = await here.give("dial", "call-1", target="sip:ann@192.0.2.1", agent="desk")
        assert (answer.state, answer.fields) == ("done", {"call_id": "call-1"})
        again = await here.give("dial", "call-1", target="sip:ann@192.0.2.1", agent="desk")
        assert (again.state, again.fields) == ("done", {"call_id": "call-1"})
        assert len(here.house.cast_as) == 1
        await until(lambda: here.house.store.record(CallId("call-1")).get("state") == "dialing")
        record = here.house.store.record(CallId("call-1"))
        assert (record["direction"], record["to_uri"], record["by"]) == ("outbound", "sip:ann@192.0.2.1", "ann")
        assert ("dial",) in here.house.legs[CallId("call-1")].orders


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"target": "sip:a@192.0.2.1", "agent": "nobody"}, "there is no agent 'nobody'"),
        ({"target": "sip:a@192.0.2.1\r\nX: y", "agent": "desk"}, "target: give a number"),
        ({"agent": "desk"}, "target: give a number"),
        ({"target": "1", "agent": "desk", "caller_id": "a\r\nb"}, "caller_id: give a number"),
        ({"target": "1", "agent": "desk", "call_id": "a b"}, "call_id: give at most 64"),
    ],
)
async def test_a_call_that_cannot_be_placed_is_refused_with_the_cure(fields: dict[str, str], words: str) -> None:
    async with worker() as here:
        answer = await here.give("dial", **fields)
        assert answer.state == "refused"
        assert words in answer.detail
        assert not here.house.switchboard.is_busy


async def test_a_number_is_dialled_without_its_spaces() -> None:
    async with worker() as here:
        answer = await here.give("dial", target="+49 30 1234", agent="desk", trunk="main")
        call_id = CallId(answer.fields["call_id"])
        await until(lambda: here.house.store.record(call_id).get("to_uri") == "+49301234")


async def test_a_worker_that_is_full_places_no_call() -> None:
    async with worker() as here:
        for call_id in ("a", "b"):
            assert (await here.give("dial", call_id, target="sip:a@192.0.2.1", agent="desk")).state == "done"
        answer = await here.give("dial", "c", target="sip:a@192.0.2.1", agent="desk")
        assert (answer.state, answer.detail) == ("refused", "all 2 lines of the worker are in use")


async def test_a_worker_that_drains_takes_no_calls_until_it_is_told_otherwise() -> None:
    async with worker() as here:
        assert (await here.give("drain")).state == "done"
        here.house.switchboard.on_event(INVITE)
        assert here.house.refused[0][1:] == (503, "the worker takes no calls at the moment")
        answer = await here.give("dial", target="sip:a@192.0.2.1", agent="desk")
        assert (answer.state, answer.detail) == ("refused", "the worker takes no new calls")
        assert (await here.give("undrain")).state == "done"
        here.house.switchboard.on_event(INVITE)
        await until(lambda: here.house.switchboard.live_calls == 1)


async def test_a_worker_that_ends_takes_no_calls_again() -> None:
    async with worker() as here:
        here.leaves = True
        answer = await here.give("undrain")
        assert answer.state == "refused"
        assert "is ending" in answer.detail


async def test_a_reload_tells_the_version_or_the_mistakes() -> None:
    async with worker() as here:
        assert (await here.give("reload")).fields == {"version": "v2", "changed": "true"}
        here.reloaded = Reloaded("v2", False, ("plan.yaml:1: agents: missing",))
        answer = await here.give("reload")
        assert (answer.state, answer.detail) == ("refused", "plan.yaml:1: agents: missing")


async def test_a_trunk_is_probed() -> None:
    async with worker() as here:
        answer = await here.give("probe_trunk", trunk="main")
        assert (answer.state, answer.detail, answer.fields["code"]) == ("done", "200 OK", "200")
        assert (await here.give("probe_trunk", trunk="other")).detail == "there is no trunk 'other'"


async def test_a_call_is_listened_to_for_a_time_and_that_is_written_down() -> None:
    async with worker(with_call=True) as here:
        assert (await here.give("listen", CALL, seconds="30")).state == "done"
        assert here.listened == [(CALL, 30.0)]
        assert here.house.store.fields_of("command")["command"] == "listen"
        for odd in ("nan", "-1", "inf", "soon", "99999"):
            assert (await here.give("listen", CALL, seconds=odd)).state == "refused"
        assert (await here.give("listen", "another")).state == "refused"


async def test_a_command_that_nobody_knows_is_refused() -> None:
    async with worker() as here:
        answer = await here.give("dance")
        assert (answer.state, "knows no command 'dance'" in answer.detail) == ("refused", True)
