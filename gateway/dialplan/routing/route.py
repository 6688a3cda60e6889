"""
Which route of a dialplan takes a call, and everything of it filled in for this call.

Routing is pure: the same plan and the same facts give the same route, on every worker and in ``gateway dialplan
explain``. It goes in three steps.

1. ``compile_routes`` (``index.py``), once for a plan: each route becomes a tuple of conditions (``conditions.py``) and
   is filed under what it asks for first. The loader does this, and its ``LoadedPlan`` (in a worker the ``PreparedPlan``
   of ``worker/live_plan.py``) keeps the index.
2. ``facts_of`` (``call_facts.py``), once for a call: the INVITE, the time and the load become ``RoutingFacts``, the
   only thing a condition may look at.
3. ``find_route``, once for a call, on the loop: of the few candidates the index names, the first in the plan's order
   whose conditions all hold becomes a ``Route``.

A ``Route`` holds the rule, the facts and the plan, so a call goes on by what it began with however the plan may change
meanwhile. Nothing is filled in yet: ``text``, ``header`` and ``agent`` do it when somebody asks (the steps of
``model/steps.py`` know which of their texts to ask for), and raise ``TemplateFailed`` when a call lacks what a template
needs. ``worker/compile.py`` asks for every step of a call, ``report/`` for people.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from gateway.dialplan.model.agent import AgentProfile
from gateway.dialplan.model.plan import Dialplan
from gateway.dialplan.model.rule import Limits
from gateway.dialplan.model.steps import AnyStep
from gateway.dialplan.model.templates import MAX_VALUE, WHOLE, Use, Values, clean, fill, fill_header
from gateway.dialplan.routing.call_facts import RoutingFacts
from gateway.dialplan.routing.index import RouteIndex

NO_ROUTE = 404


@dataclass(frozen=True, slots=True)
class Rejection:
    """No route takes this call: it is refused with ``sip_code``; ``detail`` is for the log and the call's record."""

    sip_code: int
    detail: str


@dataclass(frozen=True, slots=True)
class Route:
    """
    The rule that matched, with the call it matched: a call keeps it however the plan may change meanwhile.

    Attributes:
        name: the rule's.
        step: what happens first; it fills in its templates by the methods below (``model/steps.py``, ``Filling``).
        groups: what the named groups of its regular expressions found; empty for those that took no part.
        limits: the rule's.
        call: the facts it was decided by.
        plan: the dialplan it belongs to.
    """

    name: str
    step: AnyStep
    groups: Mapping[str, str]
    limits: Limits
    call: RoutingFacts
    plan: Dialplan = field(repr=False)
    _texts: Mapping[str, str] = field(repr=False)
    _filled: dict[int, Values] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def metadata(self) -> Mapping[str, str]:
        """
        The rule's metadata, filled in.

        Raises:
            TemplateFailed: a text cannot be filled in.
        """
        return self._values(MAX_VALUE).metadata

    def agent(self, name: str) -> AgentProfile:
        """
        Return the profile of an agent with its texts filled in.

        Raises:
            TemplateFailed: a text cannot be filled in for this call.
        """
        return self.plan.agents[name].filled(self._values(MAX_VALUE))

    def text(self, source: str, use: Use = "text", *, whole: bool = False) -> str:
        """
        Return a text of the route filled in.

        Args:
            source: the text.
            use: what becomes of it.
            whole: values of the call are not shortened.

        Raises:
            TemplateFailed: it cannot be filled in for this call.
        """
        return fill(source, self._values(WHOLE if whole else MAX_VALUE), use)

    def header(self, name: str, source: str) -> str:
        """
        Return the value of a SIP header filled in; values of the call are not shortened.

        Raises:
            TemplateFailed: it cannot be filled in for this call.
        """
        return fill_header(name, source, self._values(WHOLE))

    def _values(self, longest: int) -> Values:
        """Return what templates are filled in with; the metadata among it is made of the rest."""
        if longest not in self._filled:
            call = self.call
            at = self.plan.calendar.local(call.at, None)
            known = (call.caller, call.called, call.headers, self.groups, at, call.trunk, self.name)
            bare = Values(*known, {}, longest)
            metadata = {name: clean(fill(text, bare), longest) for name, text in self._texts.items()}
            self._filled[longest] = bare._replace(metadata=metadata)
        return self._filled[longest]


def find_route(index: RouteIndex, call: RoutingFacts) -> Route | Rejection:
    """
    Return the first route whose conditions hold, or a rejection with 404 (RFC 3261 section 21.4.5).

    Asks no clock: the time and the load are among the facts of the call.
    """
    found = index.find(call)
    if found is None:
        return Rejection(NO_ROUTE, f"no route for {call.to_uri}")
    compiled, groups = found
    rule = compiled.rule
    return Route(rule.name, rule.step, groups, rule.limits, call, index.plan, rule.metadata)


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
    return dialplan.agents[name].filled(Values("", "", {}, {}, local, "", "", {}))
