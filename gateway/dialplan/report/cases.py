"""Cases kept beside a plan: for a given call, the expected result."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, NamedTuple
from xml.etree import ElementTree as ET

from pydantic import AfterValidator, Field, ValidationError

from gateway.dialplan.model.fields import Digit, PlanPart
from gateway.dialplan.model.match import HeaderToken, Names
from gateway.dialplan.model.plan import Dialplan
from gateway.dialplan.model.steps import STEPS, PlanStep, SoundFiles
from gateway.dialplan.model.templates import TemplateFailed, clean
from gateway.dialplan.read.files import compose, read_files
from gateway.dialplan.read.messages import did_you_mean
from gateway.dialplan.read.yaml_tree import YamlTree
from gateway.dialplan.routing.call_facts import RoutingFacts, facts_of_call
from gateway.dialplan.routing.index import RouteIndex
from gateway.dialplan.routing.route import Rejection, find_route
from gateway.errors import DialplanError, Mistake


def parse_moment(text: str, plan: Dialplan) -> datetime:
    """
    Return the moment of ``2026-12-24T10:00``; without an offset it is the plan's own time.

    Raises:
        ValueError: not a date and a time.
    """
    moment = datetime.fromisoformat(_moment(text))
    return moment if moment.tzinfo else moment.replace(tzinfo=plan.calendar.zone)


def _moment(text: str) -> str:
    try:
        year = datetime.fromisoformat(text).year
    except ValueError:
        raise ValueError(f"{text!r} is not a time; give one such as 2026-12-24T10:00") from None
    if not 1970 <= year <= 9000:
        raise ValueError(f"{text!r} is out of range; give a year from 1970 to 9000")
    return text


Moment = Annotated[str, AfterValidator(_moment)]


def _action(text: str) -> str:
    if text not in STEPS:
        raise ValueError(f"unknown action {text!r}; {did_you_mean(text, STEPS)}")
    return text


class CaseCall(PlanPart):
    """The call of a case."""

    to: str = Field("", max_length=256, description="called number, user or URI")
    from_: str = Field("", alias="from", max_length=256, description="caller's number, user or URI")
    at: Moment = Field("2026-01-05T12:00", description="date and time; without an offset in the plan's `timezone`")
    trunk: str = Field("", description="trunk it comes through")
    source: str = Field("", description="address it comes from")
    headers: dict[HeaderToken, str] = Field(default_factory=dict, description="SIP headers")
    load: float = Field(0, ge=0, le=1, description="share of the capacity in use")
    call_id: str = Field("", description="the gateway's id of the call, which `percent` draws by")


class Expected(PlanPart):
    """The expected result; what is left out is not compared."""

    route: str | None = Field(None, description="name of the route; `none` when no route may match")
    action: Annotated[str, AfterValidator(_action)] | None = Field(None, description="action of the step")
    agent: str | None = Field(None, description="name of the agent")
    code: int | None = Field(None, description="SIP status of a refusal")
    contains: SoundFiles | None = Field(
        None, description="texts that what is said, dialled or refused with must contain"
    )
    lacks: SoundFiles | None = Field(None, description="texts that it must not contain")
    metadata: dict[str, str] = Field(default_factory=dict, description="entries of the metadata")


class Case(PlanPart):
    """One case."""

    name: str = Field(min_length=1, max_length=200, description="what it shows")
    call: CaseCall = CaseCall()
    keys: Annotated[tuple[Digit, ...], Field(max_length=50)] = Field(
        (), description="keys pressed in menus; the step they lead to is compared"
    )
    expect: Expected = Field(description="the expected result")


class CaseFile(PlanPart):
    """A file of cases."""

    plan: str | None = Field(None, min_length=1, description="the dialplan, relative to this file's folder")
    trunks: Names | None = Field(None, description="names of the trunks the plan may use; unset: not checked")
    cases: Annotated[tuple[Case, ...], Field(min_length=1)] = Field(description="the cases")


class CaseResult(NamedTuple):
    """A case and what was wrong; nothing is a pass."""

    file: str
    name: str
    problems: tuple[str, ...]


def load_cases(path: Path) -> CaseFile:
    """
    Read a file of cases.

    Raises:
        DialplanError: with its mistakes.
    """
    (file,) = read_files(path)[:1]
    tree = YamlTree(file.name)
    root = compose(file)
    plain = tree.value(root)
    if not tree.mistakes and not isinstance(plain, dict):
        tree.refuse(root, (), "a file of cases is a mapping with the keys plan and cases")
    if tree.mistakes:
        raise DialplanError(*tree.mistakes)
    try:
        return CaseFile.model_validate(plain)
    except ValidationError as error:
        kept = [each for each in error.errors() if not (each["type"] == "too_short" and each["input"])]
        raise DialplanError(*(_mistake(tree, each["loc"], each["msg"]) for each in kept)) from None


def _mistake(tree: YamlTree, loc: tuple[int | str, ...], message: str) -> Mistake:
    return tree.mistake(tuple(part for part in loc if part != "[key]"), message.removeprefix("Value error, "))


def run_case(index: RouteIndex, case: Case, file: str) -> CaseResult:
    """Run a case and return its result."""
    try:
        return CaseResult(file, case.name, tuple(_problems(index, case)))
    except (TemplateFailed, ValueError) as error:
        return CaseResult(file, case.name, (str(error),))


def _facts(plan: Dialplan, call: CaseCall) -> RoutingFacts:
    return facts_of_call(
        to=call.to,
        caller=call.from_,
        at=parse_moment(call.at, plan),
        trunk=call.trunk,
        source=call.source,
        headers=call.headers,
        load=call.load,
        call_id=call.call_id,
    )


def _problems(index: RouteIndex, case: Case) -> list[str]:
    expect = case.expect
    result = find_route(index, _facts(index.plan, case.call))
    if isinstance(result, Rejection):
        found: dict[str, object] = {"route": "none", "action": "reject", "agent": None, "code": result.sip_code}
        texts, metadata = result.detail, {}
    else:
        step = _after_keys(result.step, case.keys)
        found = {"route": result.name, "action": step.action, "agent": step.named_agent, "code": step.refusal_code}
        texts, metadata = "\n".join(step.texts(result)), dict(result.metadata)
    wanted = {"route": expect.route, "action": expect.action, "agent": expect.agent, "code": expect.code}
    problems = [
        f"{key} is {found[key]}, not {value}"
        for key, value in wanted.items()
        if value is not None and value != found[key]
    ]
    problems += [f"{text!r} is not in {texts[:200]!r}" for text in expect.contains or () if text not in texts]
    problems += [f"{text!r} is in {texts[:200]!r}" for text in expect.lacks or () if text in texts]
    return problems + _metadata_problems(expect.metadata, metadata)


def _metadata_problems(wanted: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    return [
        f"metadata {name} is {found.get(name)!r}, not {text!r}"
        for name, text in wanted.items()
        if found.get(name) != text
    ]


def _after_keys(step: PlanStep, keys: tuple[str, ...]) -> PlanStep:
    """Return the step that pressed keys lead to."""
    for key in keys:
        step = step.after_key(key)
    return step


def junit(outcomes: list[CaseResult], plan: str) -> str:
    """Return the outcomes as JUnit XML, which most CI systems read."""
    failed = sum(1 for each in outcomes if each.problems)
    suite = ET.Element("testsuite", name=f"dialplan {plan}", tests=str(len(outcomes)), failures=str(failed), errors="0")
    for each in outcomes:
        case = ET.SubElement(suite, "testcase", classname=clean(each.file), name=clean(each.name), time="0")
        if each.problems:
            text = "; ".join(clean(problem) for problem in each.problems)
            ET.SubElement(case, "failure", message=text).text = text
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"
