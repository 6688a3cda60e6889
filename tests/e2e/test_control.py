"""An operator steers live calls and their worker: real callers, the simulator, Redis in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from gateway.free_port import free_port
from gateway.lab.callers.rtp_peer import RtpPeer
from gateway.lab.simulator import Script, SimulatorOptions
from gateway.settings.sections import RedisSettings
from gateway.store.commands import CommandAnswer, CommandKind, CommandSender, sign_key
from gateway.store.connection import connect
from tests.rigs.house import House, MakeHouse
from tests.rigs.sipp import Sipp, play
from tests.rigs.sipp_steps import (
    ANSWERED,
    BYE,
    CALLEE_BYE,
    EXPECT_BYE,
    EXPECT_CANCEL,
    EXPECT_INVITE,
    OPTIONS,
    RING,
    expect_refer,
    invite,
    pause,
    refuse_call,
    refuse_refer,
    refused,
    respond,
    take_call,
)
from tests.rigs.tones import CALLER_HZ, hears, hears_speech, tone, until_they_hear_each_other
from tests.rigs.waiting import until

pytestmark = pytest.mark.e2e

WAIT_S = 30.0


@dataclass
class Operator:
    """Somebody who gives commands to the worker of a house."""

    house: House
    sender: CommandSender

    async def worker(self) -> str:
        """The name of the house's worker, which takes commands from then on."""
        redis = connect(RedisSettings.model_validate({"url": self.house.redis_url}))
        try:
            async with asyncio.timeout(40):
                while not (found := [each async for each in redis.scan_iter(match=sign_key("gateway", "*"))]):
                    await asyncio.sleep(0.02)
        finally:
            await redis.aclose()
        return str(found[0]).removeprefix(sign_key("gateway", "*").partition("*")[0]).removesuffix(":reader")

    async def give(self, kind: CommandKind, *, call_id: str = "", **fields: str) -> CommandAnswer:
        worker = await self.worker()
        if not call_id and kind in (
            "hang_up",
            "transfer",
            "send_digits",
            "say",
            "whisper",
            "take_over",
            "give_back",
            "trace",
        ):
            call_id = (await self.house.store.live_calls())[-1].call_id
        return await self.sender.send(worker, kind, call_id=call_id, fields=fields, by="ann", wait_s=WAIT_S)


@asynccontextmanager
async def operator(house: House) -> AsyncIterator[Operator]:
    async with CommandSender(RedisSettings.model_validate({"url": house.redis_url})) as sender:
        yield Operator(house, sender)


def sip(port: int) -> str:
    return f"sip:ann@127.0.0.1:{port}"


def talkative(*more: str) -> SimulatorOptions:
    """An agent that greets, and then answers with these words."""
    answers = [{"output": [{"say": words, "for_s": 1.5}]} for words in ("Hello.", *more)]
    return SimulatorOptions(script=Script.model_validate({"answers": answers}))


def system_items(house: House) -> list[str]:
    """What the agent was told by the gateway."""
    items = house.simulator.connections[-1].items()
    return [part["text"] for each in items if each.get("role") == "system" for part in each["content"]]


async def until_active(house: House) -> None:
    await house.happened("active")
    await until(lambda: house.simulator.connections[-1].has_spoken, what="the greeting")


async def command_notes(house: House) -> list[str]:
    return [each["event"] for each in await house.store.events() if each["event"].startswith("command")]


async def test_a_hang_up_ends_the_call_with_a_bye_and_says_who_wanted_it(house: MakeHouse, tmp_path: Path) -> None:
    async with house(simulator=talkative()) as here, operator(here) as ann, RtpPeer() as caller:
        async with Sipp(here.port, (invite(caller.port), ANSWERED, EXPECT_BYE), tmp_path / "caller") as calling:
            caller.talk()
            await until_active(here)
            answer = await ann.give("hang_up")
            assert answer.state == "done"
            assert await calling.finish() == 0, calling.output
        end = await here.ended_record()
        assert (end["end_reason"], end["ended_by"], end["end_detail"]) == ("operator_hung_up", "operator", "by ann")
        assert await command_notes(here) == ["command", "command_done"]
        assert (await here.happened("command"))["by"] == "ann"
        answer = await ann.give("hang_up", call_id=end["call_id"])
        assert (answer.state, answer.detail) == ("refused", "there is no such call here: it has ended")


async def test_a_goodbye_is_said_first_where_the_operator_wants_it(house: MakeHouse, tmp_path: Path) -> None:
    async with house(simulator=talkative("Good bye.")) as here, operator(here) as ann, RtpPeer() as caller:
        async with Sipp(here.port, (invite(caller.port), ANSWERED, EXPECT_BYE), tmp_path / "caller") as calling:
            caller.talk()
            await until_active(here)
            assert (await ann.give("hang_up", goodbye="true")).state == "done"
            assert await calling.finish() == 0, calling.output
        heard = [each["text"] for each in await here.store.events() if each["event"] == "agent_heard"]
        assert heard[-1] == "Good bye."
        assert (await here.ended_record())["end_reason"] == "operator_hung_up"


async def test_a_whisper_reaches_the_agent_and_not_the_caller(house: MakeHouse, tmp_path: Path) -> None:
    async with house(simulator=talkative("One moment.")) as here, operator(here) as ann, RtpPeer() as caller:
        async with Sipp(here.port, (invite(caller.port), ANSWERED, EXPECT_BYE), tmp_path / "caller") as calling:
            caller.talk()
            await here.happened("agent_heard")
            heard_before = len(here.simulator.connections[-1].spoken)
            assert (await ann.give("whisper", text="Offer a discount.")).state == "done"
            await until(lambda: any("Offer a discount." in each for each in system_items(here)), what="the instruction")
            await asyncio.sleep(0.5)
            assert len(here.simulator.connections[-1].spoken) == heard_before, "the agent answered to a whisper"
            assert (await ann.give("say", text="One moment.")).state == "done"
            assert (await here.happened("agent_heard", times=2))["text"] == "One moment."
            await ann.give("hang_up")
            assert await calling.finish() == 0, calling.output
        assert not here.simulator.connections[-1].violations


async def test_a_person_takes_the_call_over_and_gives_it_back(house: MakeHouse, tmp_path: Path) -> None:
    port = free_port()
    simulator = talkative("I am here again.", "Good bye.")
    async with (
        house(simulator=simulator) as here,
        operator(here) as ann,
        RtpPeer(looped=True) as caller,
        RtpPeer(looped=True) as person,
    ):
        called = (take_call(person.port), EXPECT_BYE)
        calling_steps = (invite(caller.port), ANSWERED, EXPECT_BYE)
        async with (
            Sipp(here.port, called, tmp_path / "person", port=port) as answering,
            Sipp(here.port, calling_steps, tmp_path / "caller") as calling,
        ):
            caller.talk()
            person.talk()
            await here.happened("agent_heard")
            assert (await ann.give("take_over", target=sip(port))).state == "done"
            await until_they_hear_each_other(caller, person)
            upstream = here.simulator.connections[-1]
            heard = len(upstream.heard)
            await asyncio.sleep(1)
            assert len(upstream.heard) == heard, "the agent hears what two people talk"
            assert upstream.closed_at is None
            caller.say(b"")
            caller.reception.clear()
            assert (await ann.give("give_back")).state == "done"
            assert await answering.finish() == 0, answering.output
            await until(lambda: hears_speech(caller), what="the agent's voice")
            assert any("You speak with the caller again." in each for each in system_items(here))
            await ann.give("hang_up")
            assert await calling.finish() == 0, calling.output
        names = [each["event"] for each in await here.store.events()]
        assert [name for name in names if name in ("taken_over", "given_back")] == ["taken_over", "given_back"]
        assert not upstream.violations


async def test_the_agent_is_back_when_the_person_hangs_up(house: MakeHouse, tmp_path: Path) -> None:
    port = free_port()
    async with (
        house(simulator=talkative("I am here again.")) as here,
        operator(here) as ann,
        RtpPeer(looped=True) as caller,
        RtpPeer(looped=True) as person,
    ):
        async with (
            Sipp(here.port, (take_call(person.port), pause(1500), CALLEE_BYE), tmp_path / "p", port=port) as answering,
            Sipp(here.port, (invite(caller.port), ANSWERED, EXPECT_BYE), tmp_path / "caller") as calling,
        ):
            caller.talk()
            person.talk()
            await here.happened("agent_heard")
            assert (await ann.give("take_over", target=sip(port))).state == "done"
            caller.say(tone(CALLER_HZ))
            await until(partial(hears, person, CALLER_HZ), what="the caller's voice")
            caller.say(b"")
            caller.reception.clear()
            assert await answering.finish() == 0, answering.output
            assert (await here.happened("given_back"))["detail"] == "they hung up"
            await until(lambda: hears_speech(caller), what="the agent's voice")
            await ann.give("hang_up")
            assert await calling.finish() == 0, calling.output
        assert "operator_hung_up" in await here.end_reasons(1)


async def test_a_person_who_is_busy_leaves_the_call_as_it_was(house: MakeHouse, tmp_path: Path) -> None:
    port = free_port()
    async with house(simulator=talkative()) as here, operator(here) as ann, RtpPeer() as caller:
        async with (
            Sipp(here.port, (refuse_call("486 Busy Here"),), tmp_path / "person", port=port) as answering,
            Sipp(here.port, (invite(caller.port), ANSWERED, EXPECT_BYE), tmp_path / "caller") as calling,
        ):
            caller.talk()
            await here.happened("agent_heard")
            told = len(system_items(here))
            answer = await ann.give("take_over", target=sip(port))
            assert (answer.state, answer.detail) == ("refused", "486 Busy Here")
            assert await answering.finish() == 0, answering.output
            answer = await ann.give("give_back")
            assert (answer.state, answer.detail) == ("refused", "nobody has taken the call over")
            assert len(system_items(here)) == told
            assert (await here.store.live_calls())[0].state == "active"
            await ann.give("hang_up")
            assert await calling.finish() == 0, calling.output
        assert "operator_hung_up" in await here.end_reasons(1)


async def test_a_person_who_does_not_answer_is_called_no_longer(house: MakeHouse, tmp_path: Path) -> None:
    port = free_port()
    options = {"GATEWAY_CALL__RING_LIMIT_S": "1"}
    async with house(simulator=talkative(), **options) as here, operator(here) as ann, RtpPeer() as caller:
        async with (
            Sipp(here.port, (EXPECT_INVITE, RING, EXPECT_CANCEL), tmp_path / "person", port=port) as answering,
            Sipp(here.port, (invite(caller.port), ANSWERED, EXPECT_BYE), tmp_path / "caller") as calling,
        ):
            caller.talk()
            await here.happened("agent_heard")
            answer = await ann.give("take_over", target=sip(port))
            assert (answer.state, answer.detail) == ("refused", "no answer within 1 s")
            assert await answering.finish() == 0, answering.output
            await ann.give("hang_up")
            assert await calling.finish() == 0, calling.output
        assert "operator_hung_up" in await here.end_reasons(1)


async def test_an_operator_transfers_by_refer(house: MakeHouse, tmp_path: Path) -> None:
    async with house(simulator=talkative("I am here again.")) as here, operator(here) as ann, RtpPeer() as caller:
        steps = (invite(caller.port), ANSWERED, expect_refer("200 OK"), EXPECT_BYE)
        async with Sipp(here.port, steps, tmp_path / "caller") as calling:
            caller.talk()
            await here.happened("agent_heard")
            answer = await ann.give("transfer", target="sip:desk@127.0.0.1:9")
            assert (answer.state, answer.detail) == ("done", "")
            assert await calling.finish() == 0, calling.output
        end = await here.ended_record()
        assert (end["end_reason"], end["ended_by"], end["end_detail"]) == (
            *("transferred", "operator"),
            "sip:desk@127.0.0.1:9",
        )


async def test_an_operator_transfers_over_a_second_leg_or_learns_why_not(house: MakeHouse, tmp_path: Path) -> None:
    busy, free = free_port(), free_port()
    no_refer = refuse_refer("405 Method Not Allowed")
    async with house(simulator=talkative("I am here.")) as here, operator(here) as ann, RtpPeer() as caller:
        steps = (invite(caller.port), ANSWERED, no_refer, no_refer, EXPECT_BYE)
        async with (
            Sipp(here.port, (refuse_call("486 Busy Here"),), tmp_path / "busy", port=busy) as first,
            Sipp(here.port, (take_call(), pause(500), CALLEE_BYE), tmp_path / "free", port=free) as second,
            Sipp(here.port, steps, tmp_path / "caller") as calling,
        ):
            caller.talk()
            await here.happened("agent_heard")
            answer = await ann.give("transfer", target=f"sip:desk@127.0.0.1:{busy}")
            assert (answer.state, answer.detail) == ("refused", "486 Busy Here")
            assert await first.finish() == 0, first.output
            answer = await ann.give("transfer", target=f"sip:desk@127.0.0.1:{free}")
            assert answer.state == "done"
            assert await second.finish() == 0, second.output
            assert await calling.finish() == 0, calling.output
        end = await here.ended_record()
        assert (end["end_reason"], end["ended_by"]) == ("transferred", "operator")


async def test_digits_are_heard_at_the_other_end(house: MakeHouse, tmp_path: Path) -> None:
    async with house(simulator=talkative()) as here, operator(here) as ann, RtpPeer() as caller:
        async with Sipp(here.port, (invite(caller.port), ANSWERED, EXPECT_BYE), tmp_path / "caller") as calling:
            caller.talk()
            await here.happened("agent_heard")
            assert (await ann.give("send_digits", digits="12#")).state == "done"
            await until(lambda: digits(caller) == "12#", what="the keys")
            answer = await ann.give("send_digits", digits="12x")
            assert answer.state == "refused"
            await ann.give("hang_up")
            assert await calling.finish() == 0, calling.output
        assert "operator_hung_up" in await here.end_reasons(1)


def digits(peer: RtpPeer) -> str:
    """The keys that came by RFC 4733."""
    events = {}
    for packet in peer.reception.packets:
        if packet.payload_type == 101 and len(packet.payload) >= 4:
            events[packet.timestamp] = "0123456789*#ABCD"[packet.payload[0]]
    return "".join(events[at] for at in sorted(events))


async def test_a_call_is_traced_from_a_command_on_though_tracing_is_off(house: MakeHouse, tmp_path: Path) -> None:
    folder = tmp_path / "traces"
    options = {"GATEWAY_SIP__TRACE": "off", "GATEWAY_SIP__TRACE_FOLDER": str(folder)}
    async with house(simulator=talkative(), **options) as here, operator(here) as ann, RtpPeer() as caller:
        async with Sipp(here.port, (invite(caller.port), ANSWERED, EXPECT_BYE), tmp_path / "caller") as calling:
            caller.talk()
            await until_active(here)
            assert (await ann.give("trace")).state == "done"
            await ann.give("hang_up")
            assert await calling.finish() == 0, calling.output
        await play(here.port, tmp_path / "other", invite(), ANSWERED, BYE)
        end = await here.ended_record()
        path = Path((await here.happened("traced"))["sip_trace"])
        await until(path.exists, what="the ladder")
        text = path.read_text()
        assert "BYE sip:" in text
        assert "INVITE sip:" not in text
        assert len(list(folder.glob("*.txt"))) == 1
        assert end["call_id"]


async def test_a_call_is_placed_once_however_often_it_is_asked_for(house: MakeHouse, tmp_path: Path) -> None:
    port = free_port()
    async with house(simulator=talkative()) as here, operator(here) as ann, RtpPeer() as phone:
        phone.talk()
        async with Sipp(here.port, (take_call(phone.port), EXPECT_BYE), tmp_path / "callee", port=port) as called:
            asked = {"call_id": "call-1", "target": sip(port), "agent": "tester"}
            answers = await asyncio.gather(*(ann.give("dial", **asked) for _ in range(3)))
            assert {(each.state, each.fields["call_id"]) for each in answers} == {("done", "call-1")}
            await here.happened("agent_heard")
            assert [call.call_id for call in await here.store.live_calls()] == ["call-1"]
            assert (await ann.give("hang_up")).state == "done"
            assert await called.finish() == 0, called.output
        again = await ann.give("dial", **asked)
        assert (again.state, again.fields) == ("done", {"call_id": "call-1"})
        assert (await here.ended_record())["end_reason"] == "operator_hung_up"
        nobody = await ann.give("dial", call_id="call-2", target=sip(port), agent="nobody")
        assert nobody.state == "refused"


async def test_a_drained_worker_refuses_calls_keeps_its_own_and_takes_them_again(
    house: MakeHouse, tmp_path: Path
) -> None:
    async with house(simulator=talkative()) as here, operator(here) as ann, RtpPeer() as caller:
        async with Sipp(here.port, (invite(caller.port), ANSWERED, EXPECT_BYE), tmp_path / "caller") as calling:
            caller.talk()
            await until_active(here)
            answer = await ann.give("drain")
            assert (answer.state, answer.fields) == ("done", {"live_calls": "1"})
            await play(here.port, tmp_path / "other", invite(), refused(503))
            await play(here.port, tmp_path / "options", OPTIONS.replace('response="200"', 'response="503"'))
            assert (await ann.give("undrain")).state == "done"
            await play(here.port, tmp_path / "again", invite(), ANSWERED, BYE)
            await play(here.port, tmp_path / "options again", OPTIONS)
            await ann.give("hang_up")
            assert await calling.finish() == 0, calling.output
        assert "operator_hung_up" in await here.end_reasons(2)


async def test_the_dialplan_is_read_again_on_command(house: MakeHouse, tmp_path: Path) -> None:
    async with house(GATEWAY_DIALPLAN_EVERY_S="0") as here, operator(here) as ann:
        before = await ann.give("reload")
        assert (before.state, before.fields["changed"]) == ("done", "false")
        plan = next(tmp_path.rglob("plan.yaml"))
        plan.write_text(plan.read_text().replace("everyone", "anyone"))
        after = await ann.give("reload")
        assert after.fields["changed"] == "true"
        assert after.fields["version"] != before.fields["version"]
        plan.write_text("routes: [")
        broken = await ann.give("reload")
        assert broken.state == "refused"
        assert broken.fields["version"] == after.fields["version"]


async def test_a_trunk_is_asked_whether_it_is_there(house: MakeHouse, tmp_path: Path) -> None:
    port, silent = free_port(), free_port()
    trunks = f'{{"pbx": {{"host": "127.0.0.1:{port}"}}, "gone": {{"host": "127.0.0.1:{silent}"}}}}'
    expect = f'<recv request="OPTIONS" timeout="30000"/>\n{respond("200 OK", contact="")}'
    async with house(GATEWAY_TRUNKS=trunks) as here, operator(here) as ann:
        async with Sipp(here.port, (expect,), tmp_path / "pbx", port=port) as pbx:
            answer = await ann.give("probe_trunk", trunk="pbx")
            assert (answer.state, answer.detail) == ("done", "200 OK")
            assert await pbx.finish() == 0, pbx.output
        answer = await ann.give("probe_trunk", trunk="gone")
        assert (answer.state, answer.detail) == ("refused", "no answer within 4 s")
        answer = await ann.give("probe_trunk", trunk="nobody")
        assert (answer.state, answer.detail) == ("refused", "there is no trunk 'nobody'")


async def test_a_worker_that_ends_while_a_trunk_is_asked_ends_in_order(house: MakeHouse) -> None:
    trunks = f'{{"gone": {{"host": "127.0.0.1:{free_port()}"}}}}'
    async with house(GATEWAY_TRUNKS=trunks) as here, operator(here) as ann:
        asking = asyncio.ensure_future(ann.give("probe_trunk", trunk="gone"))
        await asyncio.sleep(1)
        await here.gateway.stop()
        answer = await asking
        assert (answer.state, answer.detail) == ("refused", "the worker ended")
        assert here.gateway.exit_code == 0, here.gateway.output
