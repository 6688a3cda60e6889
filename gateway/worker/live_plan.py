"""
The dialplan in force: loaded with all it names, replaced as a whole when its files change.

``load_plan`` is the only way from files to calls: at start, at each reload, and in the commands that check. What one of
them refuses is what all refuse. It gives a ``PreparedPlan``: the agents and routes, the index that decides about calls,
and the sounds and tools that they name, so that no call waits for a disk.

``LivePlan`` keeps the plan in force. It lives on the loop; files are read and checked in a thread of their own, gently,
because audio waits for the interpreter's lock 50 times a second. Every ``every_s`` it compares the stamps of the files
(``dialplan/read/watch.py``) and of the WAV files named in them with those of the last load, and reads the files only
when a stamp changed, or could have changed unseen. SIGHUP (``ask``) and requests in Redis (``newest_request``) reload
at once. A plan with mistakes changes nothing: the old one stays in force, and the mistakes go to the log and, as
``PlanState``, to Redis.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Generic, Self, TypeVar

import structlog

from gateway.audio.filler import load_filler
from gateway.audio.pcm import PcmFormat
from gateway.audio.wav import load_sound
from gateway.call.builtin_tools import OwnTool
from gateway.cost.prices import shipped_prices
from gateway.dialplan.model.plan import Dialplan
from gateway.dialplan.read.files import PlanFile, folder_of, read_files, version_of
from gateway.dialplan.read.loader import LoadedPlan, dialplan_of
from gateway.dialplan.read.messages import Finding
from gateway.dialplan.read.watch import Stamps, are_settled, plan_stamps, sounds_in, stamps
from gateway.errors import ConfigError, DialplanError, StoreError
from gateway.settings.sections import Settings
from gateway.threads import run_in_pool
from gateway.tools.runner import own_definitions
from gateway.worker.cap_check import cap_findings
from gateway.worker.garbage import thaw
from gateway.worker.private_notes import route_findings
from gateway.worker.tool_check import tool_findings

ASKED_EVERY_S = 2.0
"""How often requests to reload are looked for when the files are not watched."""
TOLD_MISTAKES = 20
TOLD_CHARACTERS = 250
"""Of each mistake."""
TOLD_IN_ALL = 8000
"""Characters of their JSON, less than a value in Redis may have."""
GENTLE_SWITCH_S = 0.0005

NewestRequest = Callable[[], Awaitable[str | None]]
P = TypeVar("P", bound=LoadedPlan)
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class PlanState:
    """
    The state of a process's plan, as it is reported.

    Attributes:
        version: of the plan in force, ``LoadedPlan.version``.
        loaded_at: since when it is in force, Unix seconds.
        agents: how many it has.
        routes: how many it has.
        failures: how many loads have been refused since the process began.
        mistakes: why the newest files were refused; empty when they are in force.
    """

    version: str
    loaded_at: float
    agents: int
    routes: int
    failures: int = 0
    mistakes: tuple[str, ...] = ()

    def fields(self) -> dict[str, str | int | float]:
        """Return its form in Redis: ``mistakes`` is a JSON list of the first ones, cut."""
        told = [mistake[:TOLD_CHARACTERS] for mistake in self.mistakes[:TOLD_MISTAKES]]
        while len(mistakes := json.dumps(told, ensure_ascii=False)) > TOLD_IN_ALL:
            told.pop()
        return {
            "state": "refused" if self.mistakes else "current",
            "version": self.version,
            "loaded_at": self.loaded_at,
            "agents": self.agents,
            "routes": self.routes,
            "failures": self.failures,
            "mistakes": mistakes,
            "mistake_count": len(self.mistakes),
        }


@dataclass(frozen=True, slots=True)
class Reloaded:
    """
    The result of a reload.

    Attributes:
        version: of the plan in force now.
        changed: whether the plan or its sounds differ from those before.
        mistakes: why the files were refused; empty when they were not.
    """

    version: str
    changed: bool
    mistakes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Seen:
    """The files as they were when they were last tried; ``content`` is empty when they could not be read."""

    content: str
    files: Stamps
    sounds: Stamps
    settled: bool


@dataclass(frozen=True, slots=True)
class _LoadAttempt(Generic[P]):
    seen: _Seen
    plan: P | None
    mistakes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PreparedPlan(LoadedPlan):
    """
    A plan with all it names loaded, so that no call waits for a disk. A call keeps the one it began with.

    Attributes:
        fillers: agent -> what its callers hear while it is away.
        own_tools: agent -> the tools of its own.
        sounds: file as the plan names it -> its PCM in the leg's format.
    """

    fillers: Mapping[str, bytes]
    own_tools: Mapping[str, tuple[OwnTool, ...]]
    sounds: Mapping[str, bytes]


def load_plan(
    files: list[PlanFile], folder: Path, settings: Settings, phone: PcmFormat, *, is_named_known: bool = True
) -> PreparedPlan:
    """
    Check a dialplan and load what it names. Waits for the disk.

    Args:
        files: all of them, in their order.
        folder: where relative paths of WAV files start from.
        settings: trunks and secrets that a plan may name; prices, for limits in money.
        phone: format of a leg's audio.
        is_named_known: trunks and secrets must be among the settings; False only remarks those that are named.

    Raises:
        DialplanError: with all mistakes, each with its place.
        ConfigError: a file went away meanwhile.
    """
    trunks, secrets = (settings.trunks, settings.secrets) if is_named_known else (None, None)
    prices = shipped_prices().with_own(settings.prices)

    def look(plan: Dialplan) -> Iterator[Finding]:
        yield from tool_findings(plan, secrets)
        yield from cap_findings(plan, prices, settings.cost)
        yield from route_findings(plan, settings.privacy, is_remark=not is_named_known)

    loaded = dialplan_of(files, folder, trunks, look)
    plan = loaded.dialplan
    named = {name for rule in plan.routes for _, step in rule.steps() for _, name in step.sounds()}
    named |= {name for agent in plan.agents.values() for _, name in agent.sounds()}
    return PreparedPlan(
        *(loaded.index, loaded.version, loaded.remarks),
        fillers={name: load_filler(agent.filler, folder, phone) for name, agent in plan.agents.items()},
        own_tools={name: tuple(own_definitions(agent.tools)) for name, agent in plan.agents.items()},
        sounds={name: load_sound(folder / name, phone) for name in named},
    )


class LivePlan(Generic[P]):
    """
    Keeps the plan in force, and watches its files inside the ``async with`` block.

    Thread: loop; files are read and checked in a thread of its own.

    Args:
        path: the YAML file, or the folder of them.
        load: makes a plan of its files and their folder; at start on the loop's thread, later in that other one.
            Raises ``ConfigError`` for what it cannot use.
        every_s: how often the files are checked; 0 reloads only on request.
        inherited: one from before a fork, which then is in force unless the files have changed.

    Raises:
        ConfigError: the plan cannot be used, and none was inherited.

    Attributes:
        plan: what ``load`` made of the plan in force. A call keeps what it began with by holding it.
        state: its state, as it is reported.
    """

    def __init__(
        self,
        path: Path,
        load: Callable[[list[PlanFile], Path], P],
        *,
        every_s: float = 2.0,
        inherited: LivePlan[P] | None = None,
    ) -> None:
        self._path = path
        self._load = load
        self._every_s = every_s
        self._newest_request: NewestRequest | None = None
        self._tell: Callable[[PlanState], None] = lambda state: None
        self._turn = asyncio.Lock()
        self._rung = asyncio.Event()
        self._logged: tuple[str, ...] = ()
        self._watching: asyncio.Task[None] | None = None
        self._closed = False
        if inherited is None:
            self.plan = load(read_files(path), folder_of(path))
            # It was read before we look: not settled, so its content is compared at the first look.
            self._seen = _Seen(self.plan.version, (), (), settled=False)
            self.state = _state_of(self.plan)
            _log_remarks(self.plan)
        else:
            self.plan, self._seen, self.state = inherited.plan, inherited._seen, inherited.state
            self.look()

    async def __aenter__(self) -> Self:
        """Begin to watch."""
        self._watching = asyncio.create_task(self.watch(), name="plan keeper")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Watch no more."""
        self._closed = True  # Python 3.11's wait_for, which redis-py sends with, may swallow the cancellation
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait((self._watching,))

    def report(self, tell: Callable[[PlanState], None], newest_request: NewestRequest | None = None) -> None:
        """
        Connect it with what it reports to, before it watches.

        Args:
            tell: takes each new state.
            newest_request: returns the newest request to reload that was made elsewhere, or None; raises
                ``StoreError`` when that is not known now.
        """
        self._tell, self._newest_request = tell, newest_request

    def ask(self) -> None:
        """Have ``watch`` reload at once; asked again during a reload, once more after it. For SIGHUP."""
        self._rung.set()

    async def watch(self) -> None:
        """Look for changes and requests, and reload, until cancelled."""
        self._tell(self.state)
        known = await self._request(None)
        while not self._closed:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every_s or ASKED_EVERY_S):
                    await self._rung.wait()
            if self._rung.is_set():  # before Redis is asked, which may hang
                self._rung.clear()
                await self.reload()
                continue
            request = await self._request(known)
            if request != known or (self._every_s and await self._is_changed()):
                await self.reload()
            known = request

    def look(self) -> None:
        """Load the files now if they have changed; for a plan that is not watched yet."""
        if self._differs(now := self._look()):
            self._take(self._attempt())
        else:
            self._seen = now

    async def reload(self) -> Reloaded:
        """
        Load the files and put them in force as a whole, or report their mistakes and keep the old plan in force.

        One that comes while another is under way waits for it and then loads again: what was written before the call
        is always seen.
        """
        async with self._turn:
            attempt = await run_in_pool(self._attempt)
            return self._take(attempt)

    def _take(self, attempt: _LoadAttempt[P]) -> Reloaded:
        before, self._seen = self._seen, attempt.seen
        old = self.state
        if attempt.plan is None:
            self.state = replace(old, failures=old.failures + 1, mistakes=attempt.mistakes)
            if attempt.mistakes != self._logged or before.content != attempt.seen.content:
                told = attempt.mistakes[:TOLD_MISTAKES]
                _log.warning("dialplan_refused", in_force=old.version, mistakes=told, count=len(attempt.mistakes))
            self._logged = attempt.mistakes
            self._tell(self.state)
            return Reloaded(old.version, False, attempt.mistakes)
        self.plan = plan = attempt.plan
        new_sounds = bool(before.files) and before.sounds != attempt.seen.sounds
        changed = plan.version != old.version or new_sounds
        self.state = _state_of(plan, failures=old.failures)
        self._logged = ()
        _log.info("dialplan_reloaded", version=plan.version, before=old.version, changed=changed)
        _log_remarks(plan)
        self._tell(self.state)
        return Reloaded(plan.version, changed)

    def _attempt(self) -> _LoadAttempt[P]:
        """Try the files as they are now. What is remembered of them was seen before they were read."""
        began, content = time.time(), ""
        files_seen, sounds_seen = plan_stamps(self._path), stamps(())

        def seen() -> _Seen:
            return _Seen(content, files_seen, sounds_seen, are_settled((*files_seen, *sounds_seen), began))

        try:
            files, folder = read_files(self._path), folder_of(self._path)
            content, sounds_seen = version_of(files), stamps(sounds_in(files, folder))
            with _gently():
                return _LoadAttempt(seen(), self._load(files, folder))
        except ConfigError as error:
            return _LoadAttempt(seen(), None, error.problems)
        except Exception as fault:  # noqa: BLE001 - whatever a file makes of us, the old plan stays and we go on looking
            _log.exception("dialplan_load_failed")
            return _LoadAttempt(
                seen(), None, (f"{self._path}: a fault of the gateway: {type(fault).__name__}: {fault}",)
            )

    async def _is_changed(self) -> bool:
        async with self._turn:
            now = await run_in_pool(self._look)
            if self._differs(now):
                return True
            self._seen = now
            return False

    def _differs(self, now: _Seen) -> bool:
        before = self._seen
        return now.content != before.content or (bool(before.files) and now.sounds != before.sounds)

    def _look(self) -> _Seen:
        """Return the files as they are now; reads them only when something about them is new, or may be."""
        began, before = time.time(), self._seen
        files = plan_stamps(self._path)
        sounds = stamps(Path(stamp.path) for stamp in before.sounds)
        content = before.content
        if files != before.files or not before.settled:
            try:
                read = read_files(self._path)
                content, sounds = version_of(read), stamps(sounds_in(read, folder_of(self._path)))
            except DialplanError:
                content, sounds = "", ()
        return _Seen(content, files, sounds, are_settled((*files, *sounds), began))

    async def _request(self, known: str | None) -> str | None:
        """Return the newest request; the known one when there is none, or Redis cannot be asked."""
        if self._newest_request is None:
            return known
        try:
            return await self._newest_request() or known
        except StoreError as error:
            _log.debug("reload_requests_not_read", detail=str(error))
            return known


def _state_of(plan: LoadedPlan, failures: int = 0) -> PlanState:
    return PlanState(plan.version, time.time(), len(plan.dialplan.agents), len(plan.dialplan.routes), failures)


def _log_remarks(plan: LoadedPlan) -> None:
    if plan.remarks:
        told = [str(remark) for remark in plan.remarks[:TOLD_MISTAKES]]
        _log.warning("dialplan_remarks", version=plan.version, remarks=told, count=len(plan.remarks))


@contextmanager
def _gently() -> Iterator[None]:
    """
    Let the other threads go on while this one works for long: audio waits for the interpreter's lock 50 times a second.

    A plan of 10,000 routes makes a million objects. The garbage collector, which finds nothing among them, would stop
    every thread for a seventh of a second several times; so it rests meanwhile, and the new objects go straight to its
    oldest generation. For the same reason threads take turns ten times as often.
    """
    collecting, switch_s = gc.isenabled(), sys.getswitchinterval()
    gc.disable()
    sys.setswitchinterval(min(switch_s, GENTLE_SWITCH_S))
    try:
        yield
    finally:
        sys.setswitchinterval(switch_s)
        if collecting:
            gc.freeze()
            thaw()
            gc.enable()
