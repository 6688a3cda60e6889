"""What only the whole plan can show: names that do not exist, files that are missing, routes that are never reached."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterator
from pathlib import Path

from gateway.audio.filler import NONE, TONE, load_filler
from gateway.audio.wav import read_wav
from gateway.dialplan.model.agent import AgentProfile
from gateway.dialplan.model.fields import PlanPath
from gateway.dialplan.model.match import LoadMatch, Match
from gateway.dialplan.model.patterns import Pattern, parse_pattern
from gateway.dialplan.model.plan import Dialplan
from gateway.dialplan.model.rule import Rule
from gateway.dialplan.model.steps import PlanStep, expand_short
from gateway.dialplan.model.templates import TIME_PARTS, Lookup, Use, parse_template
from gateway.dialplan.read.messages import did_you_mean, keys_with_steps
from gateway.dialplan.read.parameters import parameter_mistakes, parameter_remarks
from gateway.dialplan.read.source import PlanSource
from gateway.dialplan.routing.index import CompiledRoute, RouteIndex
from gateway.errors import ConfigError, Mistake

SOUND_RATE_HZ = 8000
MAX_SOUND_BYTES = 32 << 20
NO_SETTINGS = "no settings are given"
_INNER_STEPS = keys_with_steps()
_RECORDING_TOOLS = frozenset({"start_recording", "pause_recording"})


def names_unknown(written: PlanSource) -> Iterator[Mistake]:
    """Yield unknown agents that routes name, and route names used twice; on what was written, before the model."""
    agents, routes = written.plain.get("agents"), written.plain.get("routes")
    if not isinstance(routes, list):
        return
    first: dict[str, int] = {}
    for index, rule in enumerate(routes):
        name = rule.get("name") if isinstance(rule, dict) else None
        if isinstance(name, str) and first.setdefault(name, index) != index:
            where = written.line_of(("routes", first[name]))
            yield written.mistake(("routes", index, "name"), f"a route {name!r} exists already ({where}); rename one")
        if isinstance(rule, dict) and isinstance(agents, dict) and agents:
            limits = rule.get("limits")
            named = [*_agents(rule, ("routes", index))]
            if isinstance(limits, dict) and "over" in limits:
                named += _agents(limits["over"], ("routes", index, "limits", "over"))
            for path, agent in named:
                if agent not in agents:
                    yield written.mistake(path, f"there is no agent {agent!r}; {did_you_mean(agent, agents)}")


def _agents(step: object, path: PlanPath) -> Iterator[tuple[PlanPath, str]]:
    """Yield the agents a step names as it was written, and those of the steps inside it."""
    full = expand_short(step)
    if not isinstance(full, dict):
        return
    if isinstance(full.get("agent"), str):
        yield (path if isinstance(step, str) else (*path, "agent")), full["agent"]
    for key, value in full.items():
        if key not in _INNER_STEPS:
            continue
        if isinstance(value, list):
            inner: list[tuple[PlanPath, object]] = [((number,), each) for number, each in enumerate(value)]
        elif _INNER_STEPS[key] and isinstance(value, dict):
            inner = [((name,), each) for name, each in value.items()]
        else:
            inner = [((), value)]
        for more, each in inner:
            yield from _agents(each, (*path, key, *more))


def plan_mistakes(
    index: RouteIndex, written: PlanSource, folder: Path, trunks: Collection[str] | None
) -> Iterator[Mistake]:
    """
    Yield the mistakes of a plan whose parts are right each by itself.

    Args:
        index: the plan, its routes made ready.
        written: the places of everything.
        folder: where relative paths of WAV files start.
        trunks: names of the trunks in the settings; None does not check them.
    """
    plan, sounds = index.plan, _SoundChecks(folder)
    known = None if trunks is None else {name.lower() for name in trunks}
    for name, agent in plan.agents.items():
        yield from _agent_mistakes(name, agent, written, folder, sounds)
        yield from _agent_lookups(name, agent, plan, written)
    for number, rule in enumerate(plan.routes):
        path: PlanPath = ("routes", number)
        yield from _names_of_match(rule, path, plan, written, known)
        for within, step in rule.steps():
            yield from _step_mistakes(step, (*path, *within), rule, written, sounds, known)
        yield from _metadata_lookups(rule, path, written)
    for hidden, earlier in shadowed(index):
        name, where = plan.routes[earlier].name, written.line_of(("routes", earlier))
        problem = f"never reached: the route {name!r} ({where}) takes every such call first; reorder them or remove one"
        yield written.mistake(("routes", hidden), problem)


def _agent_mistakes(
    name: str, agent: AgentProfile, written: PlanSource, folder: Path, sounds: _SoundChecks
) -> Iterator[Mistake]:
    if agent.filler not in (TONE, NONE) and (problem := sounds.problem(agent.filler) or _silence(folder, agent)):
        yield written.mistake(("agents", name, "filler"), problem)
    for place, sound in agent.sounds():
        if problem := sounds.problem(sound):
            yield written.mistake(("agents", name, *place), problem)
    if agent.recording.mode == "off" and (useless := _RECORDING_TOOLS.intersection(agent.tools.builtin)):
        problem = f"{', '.join(sorted(useless))}: this agent never records; write `recording: {{mode: by_tool}}`"
        yield written.mistake(("agents", name, "tools", "builtin"), problem)
    for number, webhook in enumerate(agent.tools.webhooks):
        place = ("agents", name, "tools", "webhooks", number, "parameters")
        for found in parameter_mistakes(webhook.parameters):
            yield written.mistake((*place, *found.path), found.problem)


def plan_remarks(plan: Dialplan, written: PlanSource, trunks: Collection[str] | None) -> Iterator[Mistake]:
    """Yield what is odd about a usable plan, or could not be checked; otherwise as ``plan_mistakes``."""
    for name, agent in plan.agents.items():
        for number, webhook in enumerate(agent.tools.webhooks):
            place = ("agents", name, "tools", "webhooks", number, "parameters")
            for found in parameter_remarks(webhook.parameters):
                yield written.mistake((*place, *found.path), found.problem)
    if trunks is not None:
        return
    remarked: dict[str, Mistake] = {}
    for index, rule in enumerate(plan.routes):
        named: list[tuple[PlanPath, str]] = [(("match", "trunk"), name) for name in rule.match.trunk or ()]
        named += [((*path, "trunk"), step.named_trunk) for path, step in rule.steps() if step.named_trunk]
        for path, name in named:
            if name not in remarked:
                remarked[name] = written.mistake(
                    ("routes", index, *path), f"not checked: the trunk {name!r}; {NO_SETTINGS}"
                )
    yield from remarked.values()


def _names_of_match(
    rule: Rule, path: PlanPath, plan: Dialplan, written: PlanSource, trunks: Collection[str] | None
) -> Iterator[Mistake]:
    for number, span in enumerate(rule.match.time or ()):
        for key, names in (("holidays", span.holidays), ("not_holidays", span.not_holidays)):
            for name in names or ():
                if name not in plan.holidays:
                    problem = f"there are no holidays {name!r}; {did_you_mean(name, plan.holidays)}"
                    yield written.mistake((*path, "match", "time", *written.index_at(path, number), key), problem)
    for name in rule.match.trunk or ():
        if trunks is not None and name.lower() not in trunks:
            yield written.mistake((*path, "match", "trunk"), _no_trunk(name, trunks))


def _no_trunk(name: str, trunks: Collection[str]) -> str:
    return f"the settings have no trunk {name!r}; {did_you_mean(name.lower(), sorted(trunks))}"


def _step_mistakes(
    step: PlanStep,
    path: PlanPath,
    rule: Rule,
    written: PlanSource,
    sounds: _SoundChecks,
    trunks: Collection[str] | None,
) -> Iterator[Mistake]:
    trunk = step.named_trunk
    if trunk and trunks is not None and trunk.lower() not in trunks:
        yield written.mistake((*path, "trunk"), _no_trunk(trunk, trunks))
    for inner, name in step.sounds():
        if problem := sounds.problem(name):
            yield written.mistake((*path, *inner), problem)
    for inner, text, use in step.templates():
        yield from (written.mistake((*path, *inner), words) for words in _lookups(text, use, rule))


def _metadata_lookups(rule: Rule, path: PlanPath, written: PlanSource) -> Iterator[Mistake]:
    for name, text in rule.metadata.items():
        problems = list(_lookups(text, "text", rule))
        if "{" in text and any(each.variable == "metadata" for each in parse_template(text).lookups):
            problems = ["metadata cannot refer to metadata"]
        yield from (written.mistake((*path, "metadata", name), words) for words in problems)


def _lookups(text: str, use: Use, rule: Rule) -> Iterator[str]:
    """Yield the parts of variables that a template of this route names and that are never there."""
    for lookup in parse_template(text, use).lookups if "{" in text else ():
        known = _known_parts(lookup, rule)
        if known is not None and lookup.part not in known:
            yield f"{lookup.variable}.{lookup.part}: {_what(lookup, rule)}; {did_you_mean(lookup.part, sorted(known))}"


def _what(lookup: Lookup, rule: Rule) -> str:
    if lookup.variable == "groups":
        return f"no such named group in the match of the route {rule.name!r}"
    return f"no such metadata in the route {rule.name!r}" if lookup.variable == "metadata" else "no such part"


def _known_parts(lookup: Lookup, rule: Rule) -> Collection[str] | None:
    if lookup.variable == "headers":
        return None  # what a call brings is not known before; a header that is not there is empty
    parts: dict[str, Collection[str]] = {
        "groups": rule.match.group_names,
        "metadata": rule.metadata,
        "time": TIME_PARTS,
    }
    return parts.get(lookup.variable, ())


def _agent_lookups(name: str, agent: AgentProfile, plan: Dialplan, written: PlanSource) -> Iterator[Mistake]:
    """Yield what an agent's texts ask for and a route that names the agent does not give."""
    templates = {path: text for path, text in agent.templates() if "{" in text and parse_template(text).lookups}
    if not templates:
        return
    users = [rule for rule in plan.routes if any(step.named_agent == name for _, step in rule.steps())]
    for key, text in templates.items():
        for rule in users:
            if words := next(_lookups(text, "text", rule), None):
                yield written.mistake(("agents", name, *key), words)
                break


def _silence(folder: Path, agent: AgentProfile) -> str | None:
    """Return what is wrong with a filler that is a WAV file; None when it can be heard."""
    try:
        load_filler(agent.filler, folder)
    except ConfigError as error:
        return str(error)
    return None


class _SoundChecks:
    """WAV files, each looked at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._problems: dict[str, str | None] = {}

    def problem(self, name: str) -> str | None:
        """Return what is wrong with a file; None when it can be played."""
        if name not in self._problems:
            self._problems[name] = self._look(self._folder / name)
        return self._problems[name]

    @staticmethod
    def _look(path: Path) -> str | None:
        try:
            if not path.is_file():
                return f"there is no WAV file {path}"
            if path.stat().st_size > MAX_SOUND_BYTES:
                return f"{path} is larger than {MAX_SOUND_BYTES >> 20} MiB"
            rate_hz, _ = read_wav(path)
        except ConfigError as error:
            return str(error)
        except (OSError, ValueError) as error:
            return f"{path} cannot be read: {error}"
        if rate_hz != SOUND_RATE_HZ:
            return f"{path} has {rate_hz} samples per second; convert it: sox {path} -r {SOUND_RATE_HZ} out.wav"
        return None


MAX_COMPARISONS = 1_000_000
"""Pairs of routes that are compared; in a very large plan the rest is not looked at."""


def shadowed(index: RouteIndex) -> Iterator[tuple[int, int]]:
    """
    Yield the numbers of routes that are never reached, each with that of the first route that takes all their calls.

    Sure of what it says, but does not see everything: several earlier routes that only together take all, regular
    expressions that are written differently and mean the same.
    """
    left = MAX_COMPARISONS
    for route in index.routes:
        for number in _candidates(index, route):
            left -= 1
            if number >= route.number or left < 0:
                break
            if covers(index.routes[number].rule.match, route.rule.match):
                yield route.number, number
                break


def _candidates(index: RouteIndex, route: CompiledRoute) -> list[int]:
    """Return the routes that may take what this one takes, in order: filed under the beginning of its own values."""
    match = route.rule.match
    called = [parse_pattern(match.to[0]).head] if match.to else []
    callers = [parse_pattern(match.from_[0]).head] if match.from_ else []
    headers = [(name.lower(), parse_pattern(texts[0]).head) for name, texts in (match.headers or {}).items()]
    return index.candidates(called, callers, headers)


def covers(wide: Match, narrow: Match) -> bool:
    """Return whether every call that fulfils ``narrow`` fulfils ``wide`` too; False where that is not known."""
    return (
        _texts_cover(wide.to, narrow.to)
        and _texts_cover(wide.from_, narrow.from_)
        and _names_cover(wide.trunk, narrow.trunk)
        and _networks_cover(wide.source, narrow.source)
        and _headers_cover(wide, narrow)
        and (wide.time is None or wide.time == narrow.time)
        and _load_covers(wide.load, narrow.load)
        and (wide.percent is None or wide.percent == 100)
    )


def _texts_cover(wide: tuple[str, ...] | None, narrow: tuple[str, ...] | None) -> bool:
    if wide is None or narrow is None:
        return wide is None
    patterns: list[Pattern] = [parse_pattern(text) for text in wide]
    return all(any(each.covers(parse_pattern(text)) for each in patterns) for text in narrow)


def _names_cover(wide: tuple[str, ...] | None, narrow: tuple[str, ...] | None) -> bool:
    if wide is None or narrow is None:
        return wide is None
    return {name.lower() for name in narrow} <= {name.lower() for name in wide}


def _networks_cover(wide: tuple[str, ...] | None, narrow: tuple[str, ...] | None) -> bool:
    if wide is None or narrow is None:
        return wide is None
    ours = [ipaddress.ip_network(text) for text in wide]
    theirs = [ipaddress.ip_network(text) for text in narrow]
    return all(any(a.version == b.version and b.subnet_of(a) for a in ours) for b in theirs)  # type: ignore[arg-type]


def _headers_cover(wide: Match, narrow: Match) -> bool:
    theirs = {name.lower(): texts for name, texts in (narrow.headers or {}).items()}
    return all(
        name.lower() in theirs and _texts_cover(texts, theirs[name.lower()])
        for name, texts in (wide.headers or {}).items()
    )


def _load_covers(wide: LoadMatch | None, narrow: LoadMatch | None) -> bool:
    if wide is None or narrow is None:
        return wide is None
    low = wide.above is None or (narrow.above is not None and narrow.above >= wide.above)
    return low and (wide.below is None or (narrow.below is not None and narrow.below <= wide.below))
