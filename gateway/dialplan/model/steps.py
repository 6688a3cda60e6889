"""What a route does with a call: steps, told apart by ``action``, one inside the other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from gateway.dialplan.model.agent import KeypadRules
from gateway.dialplan.model.fields import Digit, PlanName, PlanPart, Seconds, Template, check_uri, is_uri
from gateway.dialplan.model.match import HeaderToken, as_list
from gateway.dialplan.model.templates import check_header_template, check_template, check_uri_template

ACTIONS = ("agent", "reject", "redirect", "dial", "menu", "hunt", "announce")

_AsList = BeforeValidator(as_list, json_schema_input_type=str | list[str])
_NUMBER = re.compile(r"\+?[0-9*#]{1,64}")
_OURS = frozenset(
    {
        *("to", "from", "via", "call-id", "cseq", "contact", "route", "record-route", "max-forwards", "content-length"),
        *("content-type", "authorization", "proxy-authorization", "allow", "supported", "require", "rack", "rseq"),
    }
)


def is_template(text: str) -> bool:
    """Return whether a text has something to fill in."""
    return "{{" in text or "{%" in text or "{#" in text


def _uri(text: str) -> str:
    return text if is_template(text) else check_uri(text)


def is_number(text: str) -> bool:
    """Return whether a text is a number that a trunk can be asked for."""
    return _NUMBER.fullmatch(text) is not None


def _target(text: str) -> str:
    if is_template(text) or is_uri(text) or is_number(text):
        return text
    raise ValueError(f"{text!r} is neither a URI nor a number; give sip:user@host, tel:+49..., or digits and a trunk")


def _shown_caller(text: str) -> str:
    if is_template(text) or text in ("caller", "trunk") or is_number(text):
        return text
    raise ValueError(f"{text!r} is no caller id; write caller, trunk, or a number such as +493012345")


def _diverted_from(text: str) -> str:
    if is_template(text) or text in ("called", "nobody") or is_number(text):
        return text
    raise ValueError(f"{text!r} diverts no call; write called, nobody, or a number such as +493012345")


def _header(name: str) -> str:
    if name.lower() in _OURS:
        raise ValueError(f"the header {name} is the SIP stack's own; take another name, such as X-{name}")
    return name


Sound = Annotated[str, Field(min_length=1, max_length=400)]
"""Path of a WAV file (8 kHz, mono, 16 bits), from the dialplan's folder."""
SoundFiles = Annotated[tuple[Sound, ...], _AsList, Field(min_length=1, max_length=20)]
Short = Annotated[str, Field(min_length=1, max_length=500)]
ShortTemplate = Annotated[Short, AfterValidator(check_template)]
UriTemplate = Annotated[Short, AfterValidator(check_uri_template)]
RejectCode = Annotated[int, Field(ge=400, le=699)]
Contacts = Annotated[
    tuple[Annotated[UriTemplate, AfterValidator(_uri)], ...], _AsList, Field(min_length=1, max_length=10)
]
HeaderTemplate = Annotated[Short, AfterValidator(check_header_template)]
HeaderTexts = dict[Annotated[HeaderToken, AfterValidator(_header)], HeaderTemplate]
CallerIdTemplate = Annotated[ShortTemplate, AfterValidator(_shown_caller)]
DivertedTemplate = Annotated[ShortTemplate, AfterValidator(_diverted_from)]


class AgentStep(PlanPart):
    """A voice agent answers."""

    action: Literal["agent"] = Field("agent", description="a voice agent answers; `agent: NAME` alone is enough")
    agent: str = Field(description="name of the agent")
    answer_after_s: Annotated[float, Field(ge=0, le=60, allow_inf_nan=False)] = Field(
        0, description="the caller hears ringing for at least so long"
    )
    keypad: KeypadRules | None = Field(None, description="changes the agent's `keypad`; shortcuts are added to its own")
    on_failure: AnyStep | None = Field(
        None, description="the agent cannot be had, or was lost; none: the next of a hunt, else 503"
    )


class RejectStep(PlanPart):
    """The call is refused."""

    action: Literal["reject"] = Field("reject", description="refuse the call; a code alone (`486`) is enough")
    code: RejectCode = Field(description="SIP status (RFC 3261 section 21)")
    reason: ShortTemplate | None = Field(
        None, description="reason phrase, a template; none takes the usual one of the code"
    )
    announcement: Sound | None = Field(None, description="WAV file played before it as early media (183), not charged")


class RedirectStep(PlanPart):
    """The caller's side is told to call elsewhere: 302 (RFC 3261 section 21.3.3)."""

    action: Literal["redirect"] = Field("redirect", description="302 Moved Temporarily")
    contacts: Contacts = Field(description="URI, a template, or a list of them, the best first")


class DialStep(PlanPart):
    """Somebody else is called, and both are connected."""

    action: Literal["dial"] = Field("dial", description="call somebody and connect them with the caller")
    to: Annotated[UriTemplate, AfterValidator(_target)] = Field(description="SIP or tel URI, or a number; a template")
    trunk: PlanName | None = Field(None, description="trunk the call goes out through; a number needs one")
    ring_limit_s: Annotated[float, Field(gt=0, le=300, allow_inf_nan=False)] = Field(
        30, description="nobody answers by then: it failed"
    )
    caller_id: CallerIdTemplate | None = Field(
        None,
        description="who is shown as calling: `caller`, `trunk`, or a number, a template; none: as the trunk allows",
    )
    diverted_from: DivertedTemplate = Field(
        "called", description="who was called first, told to the trunk: `called`, `nobody`, or a number; a template"
    )
    headers: HeaderTexts = Field(default_factory=dict, description="extra headers of the INVITE, values are templates")
    then: AnyStep | None = Field(None, description="when it failed; none: the next of a hunt, else the far end's code")

    @model_validator(mode="after")
    def _a_number_has_a_trunk(self) -> Self:
        if self.trunk is None and is_number(self.to):
            raise ValueError(f"to: {self.to} is a number; name the trunk it is called through, or give a SIP URI")
        return self


class MenuStep(PlanPart):
    """The caller chooses with the telephone's keys; no model decides."""

    action: Literal["menu"] = Field("menu", description="the caller chooses with the telephone's keys")
    prompt: Sound | None = Field(None, description="WAV file that names the choices")
    say: Template | None = Field(None, description="text that names the choices, read out by the `agent`")
    agent: str | None = Field(None, description="name of the agent that reads `say`")
    keys: Annotated[dict[Digit, AnyStep], Field(min_length=1)] = Field(description="key -> step")
    timeout_s: Seconds = Field(5, description="how long a key is waited for after the prompt")
    retries: int = Field(2, ge=0, le=10, description="how often the prompt is repeated after no key, or a wrong one")
    otherwise: AnyStep | None = Field(None, description="after the last repetition; none hangs up")

    @model_validator(mode="after")
    def _one_prompt(self) -> Self:
        if (self.prompt is None) == (self.say is None):
            raise ValueError("a menu needs a prompt (WAV file) or say (text), one of them")
        if (self.say is None) != (self.agent is None):
            raise ValueError("say and agent go together: the text, and who reads it")
        return self


class HuntStep(PlanPart):
    """Several steps one after the other, until one succeeds."""

    action: Literal["hunt"] = Field("hunt", description="try steps in order, the next when one fails")
    steps: Annotated[tuple[AnyStep, ...], Field(min_length=1, max_length=20)] = Field(description="in order")

    @field_validator("steps")
    @classmethod
    def _each_is_reached(cls, steps: tuple[AnyStep, ...]) -> tuple[AnyStep, ...]:
        for number, step in enumerate(steps[:-1], 1):
            if not can_fail(step):
                raise ValueError(f"step {number} ({step.action}) cannot fail: what follows it is never reached")
        return steps


class AnnounceStep(PlanPart):
    """Something is played."""

    action: Literal["announce"] = Field("announce", description="play, then hang up or go on")
    files: SoundFiles = Field(description="WAV file, or a list of them")
    answer: bool = Field(
        True, description="false plays as early media (183): not charged, but not every network lets it"
    )
    then: AnyStep | None = Field(None, description="what follows; none hangs up")

    @model_validator(mode="after")
    def _unanswered_goes_on(self) -> Self:
        if not self.answer and self.then is None:
            raise ValueError("answer: false without then; use action: reject with an announcement, or add then")
        return self


def _tag(value: Any) -> str | None:
    if isinstance(value, PlanPart):
        return str(getattr(value, "action", ""))
    if not isinstance(value, dict):
        return None
    action = value.get("action", "agent" if "agent" in value else None)
    return action if isinstance(action, str) else None


def _written_short(value: object) -> object:
    """Let ``486`` stand for a rejection, ``sorry.wav`` for an announcement, another word for an agent."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        return value
    if value.isascii() and value.isdigit():
        return {"action": "reject", "code": value}
    if value.lower().endswith(".wav"):
        return {"action": "announce", "files": [value]}
    return {"action": "agent", "agent": value}


PlanStep: TypeAlias = AgentStep | RejectStep | RedirectStep | DialStep | MenuStep | HuntStep | AnnounceStep
AnyStep: TypeAlias = Annotated[
    Annotated[AgentStep, Tag("agent")]
    | Annotated[RejectStep, Tag("reject")]
    | Annotated[RedirectStep, Tag("redirect")]
    | Annotated[DialStep, Tag("dial")]
    | Annotated[MenuStep, Tag("menu")]
    | Annotated[HuntStep, Tag("hunt")]
    | Annotated[AnnounceStep, Tag("announce")],
    Discriminator(_tag),
    BeforeValidator(_written_short),
]
"""Any step. The number of a SIP status, the name of a WAV file, or that of an agent stand for a whole step."""

STEPS: dict[str, type[PlanStep]] = {
    "agent": AgentStep,
    "reject": RejectStep,
    "redirect": RedirectStep,
    "dial": DialStep,
    "menu": MenuStep,
    "hunt": HuntStep,
    "announce": AnnounceStep,
}

for _kind in STEPS.values():
    _kind.model_rebuild()


def can_fail(step: PlanStep) -> bool:
    """Return whether a step can end without having dealt with the call, so that a hunt goes on."""
    if isinstance(step, AgentStep):
        return step.on_failure is None or can_fail(step.on_failure)
    if isinstance(step, DialStep):
        return step.then is None or can_fail(step.then)
    return isinstance(step, HuntStep) and can_fail(step.steps[-1])


def steps_within(step: PlanStep, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], PlanStep]]:
    """Yield a step and all inside it, each with its path from the first."""
    yield path, step
    inner: list[tuple[tuple[str | int, ...], PlanStep | None]] = []
    if isinstance(step, AgentStep):
        inner = [(("on_failure",), step.on_failure)]
    elif isinstance(step, DialStep | AnnounceStep):
        inner = [(("then",), step.then)]
    elif isinstance(step, MenuStep):
        inner = [*((("keys", key), each) for key, each in step.keys.items()), (("otherwise",), step.otherwise)]
    elif isinstance(step, HuntStep):
        inner = [(("steps", index), each) for index, each in enumerate(step.steps)]
    for more, each in inner:
        if each is not None:
            yield from steps_within(each, (*path, *more))
