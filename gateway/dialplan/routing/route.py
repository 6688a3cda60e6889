"""Which route of a dialplan takes a call, and everything of it filled in for this call."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from gateway.call.events import IncomingInvite
from gateway.dialplan.model.agent import AgentProfile, KeypadRules
from gateway.dialplan.model.fields import is_uri
from gateway.dialplan.model.plan import Dialplan
from gateway.dialplan.model.rule import Limits
from gateway.dialplan.model.steps import AgentStep, DialStep, PlanStep, RedirectStep, RejectStep, is_number
from gateway.dialplan.model.templates import MAX_VALUE, WHOLE, TemplateFailed, Values, clean, fill, fill_header
from gateway.dialplan.routing.call_facts import RoutingFacts, facts_of

NO_ROUTE = 404
_NO_TIME = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Rejection:
    """Nobody answers this call: the caller gets ``sip_code``; ``detail`` is for the log and the call's record."""

    sip_code: int
    detail: str


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


@dataclass(frozen=True, slots=True)
class Route:
    """
    The rule that matched, with the call it matched: a call keeps it however the plan may change meanwhile.

    Attributes:
        name: the rule's.
        step: what happens first; steps inside it hold templates, which the methods below fill in.
        groups: what the named groups of its regular expressions found; empty for those that took no part.
        limits: the rule's.
        call: the facts it was decided by.
        plan: the dialplan it stands in.
    """

    name: str
    step: PlanStep
    groups: Mapping[str, str]
    limits: Limits
    call: RoutingFacts
    plan: Dialplan = field(repr=False)
    _texts: Mapping[str, str] = field(repr=False)

    @property
    def metadata(self) -> Mapping[str, str]:
        """
        The rule's metadata, filled in.

        Raises:
            TemplateFailed: a text cannot be filled in.
        """
        return self._metadata(MAX_VALUE)

    @property
    def agent_name(self) -> str:
        """Name of the agent that answers first; empty when the step is another."""
        return self.step.agent if isinstance(self.step, AgentStep) else ""

    @property
    def profile(self) -> AgentProfile:
        """
        Profile of the agent that answers first, filled in.

        Raises:
            TypeError: the step is another; ask ``step`` first.
            TemplateFailed: a text cannot be filled in.
        """
        if not isinstance(self.step, AgentStep):
            raise TypeError(f"route {self.name} begins with {self.step.action}, not with an agent")
        return self.profile_for(self.step)

    def profile_for(self, step: AgentStep) -> AgentProfile:
        """
        Return the profile of a step's agent with its texts filled in and the step's keypad merged.

        Raises:
            TemplateFailed: a text cannot be filled in for this call.
        """
        profile = self.agent(step.agent)
        return profile if step.keypad is None else _with_keypad(profile, step.keypad)

    def agent(self, name: str) -> AgentProfile:
        """
        Return the profile of an agent with its texts filled in; also for the agent of a menu.

        Raises:
            TemplateFailed: a text cannot be filled in for this call.
        """
        return filled_profile(self.plan.agents[name], self._values(self.metadata))

    def text(self, source: str) -> str:
        """
        Return a text of the route filled in: what a menu says.

        Raises:
            TemplateFailed: it cannot be filled in for this call.
        """
        return fill(source, self._values(self.metadata))

    def reason(self, step: RejectStep) -> str | None:
        """
        Return the reason phrase of a refusal on one line; None for the usual one.

        Raises:
            TemplateFailed: it cannot be filled in for this call.
        """
        return None if step.reason is None else clean(self.text(step.reason))

    def contacts(self, step: RedirectStep) -> tuple[str, ...]:
        """
        Return the URIs of a redirection.

        Raises:
            TemplateFailed: one cannot be filled in for this call.
        """
        values = self._values(self.metadata)
        contacts = tuple(fill(text, values, "uri").strip() for text in step.contacts)
        for contact in contacts:
            if not is_uri(contact):
                raise TemplateFailed(f"the contact {contact[:80]!r} is no URI in this call")
        return contacts

    def dial_target(self, step: DialStep) -> DialTarget:
        """
        Return whom a step calls.

        Raises:
            TemplateFailed: something cannot be filled in for this call.
        """
        values = self._values(self._metadata(WHOLE), WHOLE)
        headers = {name: fill_header(name, text, values) for name, text in step.headers.items()}
        target = fill(step.to, values, "uri").strip()
        if not (is_uri(target) or (step.trunk is not None and is_number(target))):
            raise TemplateFailed(f"{target[:80]!r} can not be dialled: no URI, or no trunk for a number")
        caller_id = _one_of(fill(step.caller_id or "", values), "caller_id", ("", "caller", "trunk"))
        diverted_from = _one_of(fill(step.diverted_from, values), "diverted_from", ("called", "nobody"))
        return DialTarget(target, step.trunk, headers, caller_id, diverted_from)

    def _metadata(self, longest: int) -> Mapping[str, str]:
        values = self._values({}, longest)
        return {name: clean(fill(text, values), longest) for name, text in self._texts.items()}

    def _values(self, metadata: Mapping[str, str], longest: int = MAX_VALUE) -> Values:
        call = self.call
        at = self.plan.calendar.local(call.at, None)
        return Values(call.caller, call.called, call.headers, self.groups, at, call.trunk, self.name, metadata, longest)


def find_route(dialplan: Dialplan, call: RoutingFacts | IncomingInvite) -> Route | Rejection:
    """
    Return the first route whose conditions hold, or a rejection with 404 (RFC 3261 section 21.4.5).

    Asks no clock: the time and the load are the call's facts. A bare ``IncomingInvite`` has neither and counts as a
    call in 1970 on an idle worker; with conditions of time or load pass ``facts_of(invite, at=..., load=...)``.
    """
    if isinstance(call, IncomingInvite):
        call = facts_of(call, at=_NO_TIME)
    found = dialplan.index.find(call)
    if found is None:
        return Rejection(NO_ROUTE, f"no route for {call.to_uri}")
    compiled, groups = found
    rule = compiled.rule
    groups = dict.fromkeys(rule.match.group_names, "") | groups
    return Route(rule.name, rule.step, groups, rule.limits, call, dialplan, rule.metadata)


def filled_profile(profile: AgentProfile, values: Values) -> AgentProfile:
    """
    Return a profile with its texts filled in; the very same one when it has no places to fill in.

    Raises:
        TemplateFailed: a text cannot be filled in.
    """
    texts = {"instructions": profile.instructions, "greeting": profile.greeting, "goodbye": profile.goodbye}
    changed: dict[str, object] = {
        name: filled for name, text in texts.items() if text is not None and (filled := fill(text, values)) != text
    }
    spoken = profile.recording.announcement
    if spoken is not None and (filled := fill(spoken, values)) != spoken:
        changed["recording"] = profile.recording.model_copy(update={"announcement": filled})
    apology = profile.on_no_answer.apology
    if (filled := fill(apology, values)) != apology:
        changed["on_no_answer"] = profile.on_no_answer.model_copy(update={"apology": filled})
    return profile.model_copy(update=changed) if changed else profile


def profile_without_call(dialplan: Dialplan, name: str, at: datetime) -> AgentProfile:
    """
    Return an agent's profile for a use without a SIP call: numbers, headers, groups and metadata are empty.

    Args:
        dialplan: the plan.
        name: the agent.
        at: the time, with a zone.

    Raises:
        TemplateFailed: its texts need what only a call has.
    """
    local = dialplan.calendar.local(at, None)
    return filled_profile(dialplan.agents[name], Values("", "", {}, {}, local, "", "", {}))


def _with_keypad(profile: AgentProfile, keypad: KeypadRules) -> AgentProfile:
    update = {name: getattr(keypad, name) for name in keypad.model_fields_set}
    if "shortcuts" in update:
        update["shortcuts"] = {**profile.keypad.shortcuts, **keypad.shortcuts}
    return profile.model_copy(update={"keypad": profile.keypad.model_copy(update=update)})


def _one_of(text: str, key: str, words: Collection[str]) -> str:
    if (word := text.strip()) in words or is_number(word):
        return word
    raise TemplateFailed(f"{key}: {word[:80]!r} is no number in this call")
