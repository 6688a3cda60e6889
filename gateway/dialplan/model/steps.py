"""
What a route does with a call: steps, distinguished by ``action``, one inside the other.

A kind of step is one class below and one entry in ``AnyStep``. Whatever the rest of the gateway asks about a step, the
class answers itself: which steps are inside it, which WAV files, agents and trunks it names, which of its texts are
templates, whether it can fail, and how it reads once its templates are filled in for a call (by a ``Filling``, which is
``routing/route.py``). So the loader, the linter, the explanations and the cases know no kinds of steps. What carries a
step out in a call is made of it in ``worker/compile.py``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple, Protocol, Self, TypeAlias, get_args

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from gateway.dialplan.model.agent import AgentProfile, KeypadRules
from gateway.dialplan.model.fields import (
    Digit,
    PlanName,
    PlanPart,
    PlanPath,
    Seconds,
    Template,
    check_uri,
    is_uri,
)
from gateway.dialplan.model.match import HeaderToken, as_list
from gateway.dialplan.model.templates import (
    TemplateFailed,
    Use,
    check_header_template,
    check_template,
    check_uri_template,
    clean,
)

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
    raise ValueError(f"{text!r} is not a caller id; write caller, trunk, or a number such as +493012345")


def _diverted_from(text: str) -> str:
    if is_template(text) or text in ("called", "nobody") or is_number(text):
        return text
    raise ValueError(
        f"{text!r} is not a number the call can be diverted from; write called, nobody, or a number such as +493012345"
    )


def _header(name: str) -> str:
    if name.lower() in _OURS:
        raise ValueError(f"the header {name} belongs to the SIP stack; use another name, such as X-{name}")
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


class Filling(Protocol):
    """Fills in the templates of a step for one call. Each method raises ``TemplateFailed`` when it cannot."""

    def text(self, source: str, use: Use = "text", *, whole: bool = False) -> str:
        """Return a text filled in; ``whole``: values of the call are not shortened."""

    def header(self, name: str, source: str) -> str:
        """Return the value of a SIP header filled in; values of the call are not shortened."""

    def agent(self, name: str) -> AgentProfile:
        """Return the profile of an agent, its texts filled in."""


class Branch(NamedTuple):
    """
    A step inside another.

    Attributes:
        path: from the outer step to it.
        when: under which circumstances it is taken, for explanations.
        step: the inner step.
    """

    path: PlanPath
    when: str
    step: PlanStep


@dataclass(frozen=True, slots=True)
class DialTarget:
    """
    Whom a ``dial`` step calls in this call: a SIP or tel URI, or a number for ``trunk``; headers are filled in.

    Attributes:
        caller_id: ``caller``, ``trunk`` or a number; empty leaves it to the trunk's settings.
        diverted_from: ``called``, ``nobody`` or a number.
    """

    target: str
    trunk: str | None
    headers: Mapping[str, str]
    caller_id: str = ""
    diverted_from: str = "called"


class PlanStep(PlanPart):
    """
    One thing to do with a call. A kind of step overrides what it has an answer to.

    What is named here by one word is a property; what takes a ``Filling`` raises ``TemplateFailed`` when a template
    cannot be filled in for the call.
    """

    action: str

    @property
    def can_fail(self) -> bool:
        """Whether it can end without having dealt with the call, so that a hunt goes on."""
        return False

    @property
    def named_agent(self) -> str | None:
        """The agent it names, under the key ``agent``."""
        return None

    @property
    def named_trunk(self) -> str | None:
        """The trunk it names, under the key ``trunk``."""
        return None

    @property
    def refusal_code(self) -> int | None:
        """The SIP status it refuses the call with."""
        return None

    def inner(self) -> tuple[Branch, ...]:
        """Return the steps right inside it."""
        return ()

    def sounds(self) -> tuple[tuple[PlanPath, str], ...]:
        """Return the WAV files it names, each with its path in the step."""
        return ()

    def templates(self) -> tuple[tuple[PlanPath, str, Use], ...]:
        """Return its templates, each with its path in the step and its use."""
        return ()

    def summary(self) -> str:
        """Return it in a few words, without the steps inside it and with its templates as they are."""
        return self.action

    def headline(self, call: Filling) -> str:
        """Return what it does in this call, without the steps inside it."""
        return self.action

    def texts(self, call: Filling) -> list[str]:
        """Return what it says, plays, dials or refuses with in this call."""
        return []

    def profile(self, call: Filling) -> AgentProfile | None:
        """Return how the agent it names behaves in this call; None when it names none."""
        return None if self.named_agent is None else call.agent(self.named_agent)

    def after_key(self, key: str) -> PlanStep:
        """
        Return the step that a pressed key leads to.

        Raises:
            ValueError: none; says why.
        """
        raise ValueError(f"key {key}: this is not a menu, but {self.action}")

    def within(self, path: PlanPath = ()) -> Iterator[tuple[PlanPath, PlanStep]]:
        """Yield this step and all inside it, each with its path from the outermost."""
        yield path, self
        for branch in self.inner():
            yield from branch.step.within((*path, *branch.path))


def _branch(key: str, when: str, step: PlanStep | None) -> tuple[Branch, ...]:
    return () if step is None else (Branch((key,), when, step),)


class AgentStep(PlanStep):
    """A voice agent answers."""

    action: Literal["agent"] = Field("agent", description="a voice agent answers; `agent: NAME` alone is enough")
    agent: str = Field(description="name of the agent")
    answer_after_s: Annotated[float, Field(ge=0, le=60, allow_inf_nan=False)] = Field(
        0, description="ring for at least this long before answering"
    )
    keypad: KeypadRules | None = Field(None, description="changes the agent's `keypad`; shortcuts are added to its own")
    on_failure: AnyStep | None = Field(
        None, description="step when the agent is unavailable or lost; unset: the next one of a hunt, else 503"
    )

    @property
    def can_fail(self) -> bool:
        """See ``PlanStep``."""
        return self.on_failure is None or self.on_failure.can_fail

    @property
    def named_agent(self) -> str:
        """See ``PlanStep``."""
        return self.agent

    def inner(self) -> tuple[Branch, ...]:
        """See ``PlanStep``."""
        return _branch("on_failure", "if the agent fails:", self.on_failure)

    def summary(self) -> str:
        """See ``PlanStep``."""
        return f"agent {self.agent}"

    def headline(self, call: Filling) -> str:
        """See ``PlanStep``."""
        return self.summary() + (f", answers after {self.answer_after_s:g} s" if self.answer_after_s else "")

    def texts(self, call: Filling) -> list[str]:
        """See ``PlanStep``."""
        profile = self.profile(call)
        return [profile.instructions, profile.greeting or "", profile.voice, profile.language or ""]

    def profile(self, call: Filling) -> AgentProfile:
        """Return the agent's profile with its texts filled in and the step's keypad merged."""
        profile = call.agent(self.agent)
        return profile if self.keypad is None else profile.with_keypad(self.keypad)


class RejectStep(PlanStep):
    """The call is refused."""

    action: Literal["reject"] = Field("reject", description="refuse the call; a code alone (`486`) is enough")
    code: RejectCode = Field(description="SIP status (RFC 3261 section 21)")
    reason: ShortTemplate | None = Field(None, description="reason phrase (template); unset: the usual one of the code")
    announcement: Sound | None = Field(None, description="WAV file to play first as early media (183), not charged")

    @property
    def refusal_code(self) -> int:
        """See ``PlanStep``."""
        return self.code

    def sounds(self) -> tuple[tuple[PlanPath, str], ...]:
        """See ``PlanStep``."""
        return () if self.announcement is None else ((("announcement",), self.announcement),)

    def templates(self) -> tuple[tuple[PlanPath, str, Use], ...]:
        """See ``PlanStep``."""
        return () if self.reason is None else ((("reason",), self.reason, "text"),)

    def summary(self) -> str:
        """See ``PlanStep``."""
        return f"reject {self.code}"

    def headline(self, call: Filling) -> str:
        """See ``PlanStep``."""
        first = f"play {self.announcement} as early media, then " if self.announcement else ""
        return f"{first}reject with {self.code} {self.phrase(call) or ''}".rstrip()

    def texts(self, call: Filling) -> list[str]:
        """See ``PlanStep``."""
        return [self.phrase(call) or "", self.announcement or ""]

    def phrase(self, call: Filling) -> str | None:
        """Return the reason phrase on one line; None for the usual one."""
        return None if self.reason is None else clean(call.text(self.reason))


class RedirectStep(PlanStep):
    """The caller is sent elsewhere with 302 (RFC 3261 section 21.3.3)."""

    action: Literal["redirect"] = Field("redirect", description="302 Moved Temporarily")
    contacts: Contacts = Field(description="URI (template), or a list of them, the best first")

    def templates(self) -> tuple[tuple[PlanPath, str, Use], ...]:
        """See ``PlanStep``."""
        return tuple((("contacts",), text, "uri") for text in self.contacts)

    def headline(self, call: Filling) -> str:
        """See ``PlanStep``."""
        return f"redirect with 302 to {', '.join(self.uris(call))}"

    def texts(self, call: Filling) -> list[str]:
        """See ``PlanStep``."""
        return list(self.uris(call))

    def uris(self, call: Filling) -> tuple[str, ...]:
        """Return the URIs the caller is sent to."""
        contacts = tuple(call.text(text, "uri").strip() for text in self.contacts)
        for contact in contacts:
            if not is_uri(contact):
                raise TemplateFailed(f"the contact {contact[:80]!r} is not a URI in this call")
        return contacts


class DialStep(PlanStep):
    """Another party is called and connected with the caller."""

    action: Literal["dial"] = Field("dial", description="call another party and connect it with the caller")
    to: Annotated[UriTemplate, AfterValidator(_target)] = Field(description="SIP or tel URI, or a number (template)")
    trunk: PlanName | None = Field(None, description="trunk to call through; a number needs one")
    ring_limit_s: Annotated[float, Field(gt=0, le=300, allow_inf_nan=False)] = Field(
        30, description="without an answer within this time the step fails"
    )
    caller_id: CallerIdTemplate | None = Field(
        None,
        description="number shown as the caller: `caller`, `trunk`, or a number (template); unset: as the trunk allows",
    )
    diverted_from: DivertedTemplate = Field(
        "called", description="number first called, reported to the trunk: `called`, `nobody`, or a number (template)"
    )
    headers: HeaderTexts = Field(default_factory=dict, description="extra headers of the INVITE; values are templates")
    then: AnyStep | None = Field(
        None, description="step when it fails; unset: the next one of a hunt, else the far end's code"
    )

    @model_validator(mode="after")
    def _a_number_has_a_trunk(self) -> Self:
        if self.trunk is None and is_number(self.to):
            raise ValueError(f"to: {self.to} is a number; name the trunk it is called through, or give a SIP URI")
        return self

    @property
    def can_fail(self) -> bool:
        """See ``PlanStep``."""
        return self.then is None or self.then.can_fail

    @property
    def named_trunk(self) -> str | None:
        """See ``PlanStep``."""
        return self.trunk

    def inner(self) -> tuple[Branch, ...]:
        """See ``PlanStep``."""
        return _branch("then", "if that fails:", self.then)

    def templates(self) -> tuple[tuple[PlanPath, str, Use], ...]:
        """See ``PlanStep``."""
        return (
            (("to",), self.to, "uri"),
            (("caller_id",), self.caller_id or "", "text"),
            (("diverted_from",), self.diverted_from, "text"),
            *((("headers", name), text, "header") for name, text in self.headers.items()),
        )

    def summary(self) -> str:
        """See ``PlanStep``."""
        return f"dial {self.to}"

    def headline(self, call: Filling) -> str:
        """See ``PlanStep``."""
        found = self.target(call)
        through = f" through the trunk {found.trunk}" if found.trunk else ""
        through += f" as {found.caller_id}" if found.caller_id else ""
        headers = "".join(f", {name}: {value}" for name, value in found.headers.items())
        return f"dial {found.target}{through}, {self.ring_limit_s:g} s{headers}"

    def texts(self, call: Filling) -> list[str]:
        """See ``PlanStep``."""
        found = self.target(call)
        return [found.target, found.trunk or "", *found.headers.values()]

    def target(self, call: Filling) -> DialTarget:
        """Return whom it calls, and how."""
        headers = {name: call.header(name, text) for name, text in self.headers.items()}
        target = call.text(self.to, "uri", whole=True).strip()
        if not (is_uri(target) or (self.trunk is not None and is_number(target))):
            raise TemplateFailed(f"{target[:80]!r} cannot be dialled: not a URI, or no trunk for a number")
        caller_id = call.text(self.caller_id or "", whole=True)
        diverted_from = call.text(self.diverted_from, whole=True)
        return DialTarget(
            *(target, self.trunk, headers),
            caller_id=_one_of(caller_id, "caller_id", ("", "caller", "trunk")),
            diverted_from=_one_of(diverted_from, "diverted_from", ("called", "nobody")),
        )


class MenuStep(PlanStep):
    """The caller chooses with the phone's keys (IVR); no model decides."""

    action: Literal["menu"] = Field("menu", description="the caller chooses with the phone's keys")
    prompt: Sound | None = Field(None, description="WAV file that names the choices")
    say: Template | None = Field(None, description="text that names the choices, read out by the `agent`")
    agent: str | None = Field(None, description="name of the agent that reads `say`")
    keys: Annotated[dict[Digit, AnyStep], Field(min_length=1)] = Field(description="key -> step")
    timeout_s: Seconds = Field(5, description="how long to wait for a key after the prompt")
    retries: int = Field(2, ge=0, le=10, description="how often the prompt is repeated after no key, or a wrong one")
    otherwise: AnyStep | None = Field(None, description="step after the last repetition; unset: hang up")

    @model_validator(mode="after")
    def _one_prompt(self) -> Self:
        if (self.prompt is None) == (self.say is None):
            raise ValueError("a menu needs either a prompt (WAV file) or say (text)")
        if (self.say is None) != (self.agent is None):
            raise ValueError("say and agent go together: the text, and who reads it")
        return self

    @property
    def named_agent(self) -> str | None:
        """See ``PlanStep``."""
        return self.agent

    def inner(self) -> tuple[Branch, ...]:
        """See ``PlanStep``."""
        keys = (Branch(("keys", key), f"key {key}:", step) for key, step in self.keys.items())
        return (*keys, *_branch("otherwise", "otherwise:", self.otherwise))

    def sounds(self) -> tuple[tuple[PlanPath, str], ...]:
        """See ``PlanStep``."""
        return () if self.prompt is None else ((("prompt",), self.prompt),)

    def templates(self) -> tuple[tuple[PlanPath, str, Use], ...]:
        """See ``PlanStep``."""
        return () if self.say is None else ((("say",), self.say, "text"),)

    def summary(self) -> str:
        """See ``PlanStep``."""
        return f"menu with {len(self.keys)} keys"

    def headline(self, call: Filling) -> str:
        """See ``PlanStep``."""
        prompt = self.prompt or f"{self.agent} says {call.text(self.say or '')!r}"
        return f"menu ({prompt}), {self.timeout_s:g} s for a key, {self.retries} more times"

    def texts(self, call: Filling) -> list[str]:
        """See ``PlanStep``."""
        return [self.prompt or call.text(self.say or "")]

    def after_key(self, key: str) -> PlanStep:
        """See ``PlanStep``."""
        chosen = self.keys.get(key, self.otherwise)
        if chosen is None:
            raise ValueError(f"key {key}: the menu has no such key, and no otherwise")
        return chosen


class HuntStep(PlanStep):
    """Several steps are tried one after the other until one succeeds."""

    action: Literal["hunt"] = Field("hunt", description="try steps in order, the next when one fails")
    steps: Annotated[tuple[AnyStep, ...], Field(min_length=1, max_length=20)] = Field(description="the steps, in order")

    @field_validator("steps")
    @classmethod
    def _each_is_reached(cls, steps: tuple[AnyStep, ...]) -> tuple[AnyStep, ...]:
        for number, step in enumerate(steps[:-1], 1):
            if not step.can_fail:
                raise ValueError(f"step {number} ({step.action}) cannot fail: the steps after it are never reached")
        return steps

    @property
    def can_fail(self) -> bool:
        """See ``PlanStep``."""
        return self.steps[-1].can_fail

    def inner(self) -> tuple[Branch, ...]:
        """See ``PlanStep``."""
        return tuple(Branch(("steps", index), f"{index + 1}.", step) for index, step in enumerate(self.steps))

    def headline(self, call: Filling) -> str:
        """See ``PlanStep``."""
        return "hunt, trying the next step when one fails"

    def texts(self, call: Filling) -> list[str]:
        """See ``PlanStep``."""
        return [text for each in self.steps for text in each.texts(call)]


class AnnounceStep(PlanStep):
    """WAV files are played."""

    action: Literal["announce"] = Field("announce", description="play, then hang up or go on")
    files: SoundFiles = Field(description="WAV file, or a list of them")
    answer: bool = Field(
        True, description="false plays as early media (183): not charged, but not every network passes it on"
    )
    then: AnyStep | None = Field(None, description="step that follows; unset: hang up")

    @model_validator(mode="after")
    def _unanswered_goes_on(self) -> Self:
        if not self.answer and self.then is None:
            raise ValueError("answer: false without then; use action: reject with an announcement, or add then")
        return self

    def inner(self) -> tuple[Branch, ...]:
        """See ``PlanStep``."""
        return _branch("then", "then:", self.then)

    def sounds(self) -> tuple[tuple[PlanPath, str], ...]:
        """See ``PlanStep``."""
        return tuple((("files",), name) for name in self.files)

    def summary(self) -> str:
        """See ``PlanStep``."""
        return f"announce {', '.join(self.files)}"

    def headline(self, call: Filling) -> str:
        """See ``PlanStep``."""
        return f"{'answer and play' if self.answer else 'play as early media'} {', '.join(self.files)}"

    def texts(self, call: Filling) -> list[str]:
        """See ``PlanStep``."""
        return list(self.files)


def expand_short(value: object) -> object:
    """
    Return a step that was written short in full.

    ``486`` stands for a rejection, ``sorry.wav`` for an announcement, another word for an agent; a mapping with an
    ``agent`` needs no ``action``.
    """
    if isinstance(value, dict):
        return {**value, "action": "agent"} if "agent" in value and "action" not in value else value
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        return value
    if value.isascii() and value.isdigit():
        return {"action": "reject", "code": value}
    if value.lower().endswith(".wav"):
        return {"action": "announce", "files": [value]}
    return {"action": "agent", "agent": value}


def _one_of(text: str, key: str, words: Collection[str]) -> str:
    if (word := text.strip()) in words or is_number(word):
        return word
    raise TemplateFailed(f"{key}: {word[:80]!r} is not a number in this call")


AnyStep: TypeAlias = Annotated[
    AgentStep | RejectStep | RedirectStep | DialStep | MenuStep | HuntStep | AnnounceStep,
    Field(discriminator="action"),
    BeforeValidator(expand_short),
]
"""Any step. A SIP status, the name of a WAV file, or the name of an agent is short for a whole step."""

STEPS: dict[str, type[PlanStep]] = {
    kind.model_fields["action"].default: kind for kind in get_args(get_args(AnyStep)[0])
}
"""The kinds of steps by their ``action``."""

for _kind in STEPS.values():
    _kind.model_rebuild()
