"""
Calls in which an answer of the agent's fails, one way each, four at once; and what the caller heard.

``python -m tests.e2e.failing_answers`` from the root of the project prints the table of all ways and occasions.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from gateway.audio.pcm import PHONE
from gateway.audio.wav import read_wav
from gateway.lab.callers.rtp_peer import RtpPeer
from gateway.lab.simulator import Connection, Script, SimulatorOptions
from gateway.lab.speech import caller_wav
from tests.rigs.ear import Ear
from tests.rigs.house import House, open_house
from tests.rigs.telephone import Telephone
from tests.rigs.waiting import until

CALLERS = 4  # the SIP library takes no more calls at once
LIMIT_S = 25.0
_WHOLE_S = 0.9  # words for so long are more than the part that comes before a fault
_ANSWER = {"output": [{"for_s": 1.2}]}
_PARTLY = "@0.6"
_SPEECH_MS = (600, 1600)  # of the shipped caller: in the middle of a sentence
_PATIENCE_S = 8.0  # a greeting that has not come by then will not
_PAUSE_S = 0.5  # a longer silence is none between words
_TOOL = "look_up"


@dataclass(frozen=True)
class Occasion:
    """
    A moment at which the agent owes the caller an answer.

    Attributes:
        name: for the table.
        number: of the answer that fails, counted by the simulator.
        before: faults that bring the call to it.
    """

    name: str
    number: int
    before: tuple[str, ...] = ()


GREETING = Occasion("greeting", 1)
TURN = Occasion("turn", 2)
TOOL = Occasion("tool", 3, (f"calls={_TOOL},answers=2",))
KEYS = Occasion("keys", 2)
OCCASIONS = (GREETING, TURN, TOOL, KEYS)


@dataclass(frozen=True)
class Way:
    """
    A way in which an answer fails.

    Attributes:
        name: for the table.
        faults: the simulator's.
        always: all answers from that one on fail so, in every session; else that one, in the first session.
        is_partial: some speech comes before it.
        has_moment: its faults have a moment of their own and are no answer's.
        occasions: at which it may come.
    """

    name: str
    faults: tuple[str, ...]
    always: bool = False
    is_partial: bool = False
    has_moment: bool = False
    occasions: tuple[Occasion, ...] = OCCASIONS

    def at(self, occasion: Occasion) -> tuple[str, ...]:
        """Return the faults of a call in which it happens then."""
        limit = f"answers={occasion.number}-" if self.always else f"answers={occasion.number},first=1"
        limit = "first=1" if self.has_moment else limit
        return (*occasion.before, *(f"{fault},{limit}" for fault in self.faults))


WAYS = (
    Way("failed, server_error", ("fail=server_error",)),
    Way("failed, null code", ("fail=null",)),
    Way("failed, null error", ("fail=no_error",)),
    Way("failed, null status_details", ("fail=no_details",)),
    Way("failed, rate limit of 1 s", ("try_again=1",)),
    Way("failed after some speech", (f"fail=server_error{_PARTLY}",), is_partial=True),
    Way("failed, every time", ("fail=server_error",), always=True),
    Way("content_filter, before any speech", ("incomplete=content_filter@0",)),
    Way("content_filter, after some speech", (f"incomplete=content_filter{_PARTLY}",), is_partial=True),
    Way("max_output_tokens, before any speech", ("incomplete=max_output_tokens@0",)),
    Way("max_output_tokens, after some speech", (f"incomplete=max_output_tokens{_PARTLY}",), is_partial=True),
    Way("empty", ("empty",)),
    Way("empty, every time", ("empty",), always=True),
    Way("text in place of speech", ("comes_as=text",)),
    Way("text in place of speech, every time", ("comes_as=text",), always=True),
    Way("a transcript without sound", ("comes_as=transcript",)),
    Way("cancelled without a reason", ("cancelled",)),
    Way("cancelled after some speech", ("cancelled=0.6",), is_partial=True),
    Way("refused by an error, null code", ("deny=null",)),
    Way("refused by an error without event_id", ("deny=server_error:nameless",)),
    Way("refused, rate limit of 1 s", ("deny=rate_limit_exceeded@1",)),
    Way("refused, every time", ("deny=server_error",), always=True),
    Way("nothing comes", ("unanswered",)),
    Way("nothing comes, every time", ("unanswered",), always=True),
    Way("begun and never gone on with", ("stall",)),
    Way("the same, and deaf to a cancel", ("stall=0:deaf",)),
    Way("stopped after some speech, never ended", ("stall=0.6",), is_partial=True),
    Way("begun by the service, refused late", ("crossed=0.3",)),
    Way("the same, behind response.done, no event_id", ("crossed=done+0.3:nameless",)),
    Way("a tool's call cut off", (f"calls={_TOOL}", "cut_calls=incomplete"), occasions=(TURN, TOOL, KEYS)),
    Way("an MCP call, completed", ("mcp=completed",), occasions=(TURN, KEYS)),
    Way("an MCP call, failed", ("mcp=failed",), occasions=(TURN, KEYS)),
    Way("an MCP call that never ends", ("mcp=never",), occasions=(TURN, KEYS)),
    Way(
        "half-open from the end of the turn on",
        ("freeze=input_audio_buffer.committed",),
        has_moment=True,
        occasions=(TURN,),
    ),
    Way("the turn is never over", ("open_turns=1",), has_moment=True, occasions=(TURN,)),
    Way(
        "response.created without an id",
        ("odd=response.created:response.id:null,events=2",),
        has_moment=True,
        occasions=(TURN, KEYS),
    ),
    Way("tools without end", (f"calls={_TOOL}",), always=True, occasions=(TURN, KEYS)),
)


@dataclass(frozen=True)
class Heard:
    """
    What a caller heard of an answer that failed; seconds from when it was due, or from where its speech broke off.

    Attributes:
        way: what went wrong.
        sound_s: until any sound, the filler's tone too; None where there was none.
        words_s: until words; None where there were none.
        hung_up_s: until the gateway hung up; None where the caller did.
        connections: upstream sessions it took.
        violations: what the gateway did against the protocol.
    """

    way: Way
    sound_s: float | None
    words_s: float | None
    hung_up_s: float | None
    connections: int
    violations: tuple[str, ...]

    def cell(self) -> str:
        """Return it for the table."""
        words = "no words" if self.words_s is None else f"{self.words_s:.1f}"
        first = "" if self.sound_s is None or self.sound_s == self.words_s else f" (tone {self.sound_s:.1f})"
        end = "" if self.hung_up_s is None else f", BYE {self.hung_up_s:.1f}"
        return words + first + end


def broken_off(words: Sequence[float]) -> float:
    """Return when the first stretch of words ended."""
    for before, after in itertools.pairwise(words):
        if after - before > _PAUSE_S:
            return before
    return words[-1]


async def heard_at(occasion: Occasion, ways: Sequence[Way], folder: Path) -> list[Heard]:
    """Make one call for each way."""
    models = [f"gpt-realtime-{2001 + number // 12}-{1 + number % 12:02}-01" for number in range(len(ways))]
    faults = [f"{fault},model={model}" for way, model in zip(ways, models, strict=True) for fault in way.at(occasion)]
    script = Script.model_validate({"answers": [_ANSWER], "then": "repeat"})
    options = SimulatorOptions(faults=tuple(faults), script=script, keep_audio_s=0)
    async with _webhook() as hook, open_house(folder, dialplan=_plan(models, hook), simulator=options) as house:
        left = iter(zip(ways, models, strict=True))
        made = await asyncio.gather(*(_calls(house, occasion, left) for _ in range(CALLERS)))
        return [each for several in made for each in several]


def _plan(models: Sequence[str], hook: str) -> str:
    tool = f"{{name: {_TOOL}, description: Looks it up, url: '{hook}'}}"
    server = "{server_label: manuals, server_url: 'https://mcp.example.com/', timeout_s: 2}"
    agents = "".join(
        f"  a{number}: {{instructions: Answer shortly., greeting: Say hello., model: {model}, audio_format: pcmu, "
        f"tools: {{webhooks: [{tool}], mcp: [{server}]}}}}\n"
        for number, model in enumerate(models)
    )
    routes = "".join(
        f"  - {{name: r{number}, match: {{to: '{model}'}}, agent: a{number}}}\n" for number, model in enumerate(models)
    )
    return f"agents:\n{agents}routes:\n{routes}"


@asynccontextmanager
async def _webhook() -> AsyncIterator[str]:
    async def found(_: web.Request) -> web.Response:
        return web.json_response({"found": 42})

    app = web.Application()
    app.router.add_post("/", found)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


async def _calls(house: House, occasion: Occasion, left: Iterator[tuple[Way, str]]) -> list[Heard]:
    """Make calls one after the other as long as there are any."""
    made = []
    async with Telephone.towards(house.port) as telephone:
        for way, model in left:
            async with RtpPeer() as phone, telephone.call(phone.port, model) as status:
                assert status == "200", f"{way.name}: {status}"
                ear = Ear(phone)
                await until(ear.frames, what="the gateway's first packet")
                phone.talk()
                due_at = await _bring_about(occasion, phone, ear)
                await _wait_for_words(way, ear, due_at, telephone)
                seen = [each for each in house.simulator.connections if each.model == model]
                made.append(_judge(way, ear, due_at, telephone.hung_up_at, seen))
    return made


async def _wait_for_words(way: Way, ear: Ear, due_at: float, telephone: Telephone) -> None:
    """Wait until the caller heard the agent (again, where it broke off), the gateway hung up, or it takes too long."""
    while _now() < due_at + LIMIT_S and telephone.hung_up_at is None:
        await asyncio.sleep(0.05)
        words = ear.words(due_at)
        if words and not (way.is_partial and broken_off(words) == words[-1] and words[-1] - words[0] < _WHOLE_S):
            return


async def _bring_about(occasion: Occasion, phone: RtpPeer, ear: Ear) -> float:
    """Bring the call to the occasion; return when the answer was due."""
    began = ear.frames()[0][0]
    if occasion is GREETING:
        return began
    await until(lambda: ear.words(began) and _now() - ear.words(began)[-1] > _PAUSE_S, _PATIENCE_S, "the greeting")
    if occasion is KEYS:
        phone.press("12#", for_ms=60)
        await asyncio.sleep(3 * 0.15)
    else:
        start, end = (PHONE.bytes_of(ms) for ms in _SPEECH_MS)
        _, speech = read_wav(caller_wav())
        phone.say(speech[start:end])
        await asyncio.sleep((_SPEECH_MS[1] - _SPEECH_MS[0]) / 1000)
    return _now()


def _now() -> float:
    return asyncio.get_running_loop().time()


def _judge(way: Way, ear: Ear, due_at: float, hung_up_at: float | None, seen: Sequence[Connection]) -> Heard:
    words = ear.words(due_at)
    since, sound = due_at, ear.first_sound(due_at)
    if way.is_partial and words:
        since = broken_off(words)
        words = [at for at in words if at > since] or ([since] if since - words[0] >= _WHOLE_S else [])
        sound = words[0] if words else ear.first_sound(since + _PAUSE_S)
    return Heard(
        way,
        None if sound is None else sound - since,
        None if not words else words[0] - since,
        None if hung_up_at is None else hung_up_at - since,
        len(seen),
        tuple(what for each in seen for what in each.violations),
    )


async def _print_table() -> None:
    rows: dict[str, list[str]] = {way.name: [] for way in WAYS}
    for occasion in OCCASIONS:
        ways = [way for way in WAYS if occasion in way.occasions]
        with tempfile.TemporaryDirectory() as folder:
            cells = {each.way.name: each for each in await heard_at(occasion, ways, Path(folder))}
        for name, row in rows.items():
            row.append(cells[name].cell() if name in cells else "")
        for each in cells.values():
            if each.violations:
                sys.stderr.write(f"{occasion.name}, {each.way.name}: {each.violations}\n")
    sys.stdout.write(f"| answer | {' | '.join(each.name for each in OCCASIONS)} |\n|{'---|' * (1 + len(OCCASIONS))}\n")
    sys.stdout.writelines(f"| {name} | {' | '.join(row)} |\n" for name, row in rows.items())


if __name__ == "__main__":
    asyncio.run(_print_table())
