"""
From a matched route to the steps of one call: templates filled in, fallbacks put in their places.

A dialplan's step (``dialplan/model/steps.py``) is what was written; a step of a call (``call/machine/ivr.py``) is what
the machine carries out. ``compile_steps`` makes one of the other when the call arrives, for all steps inside it at
once, so that nothing is filled in while a caller waits for the next step. This is the one place that knows every kind
of step on both sides.

- Where a step says nothing about its failure it gets the step that follows it in the hunt around it.
- A step whose templates cannot be filled in for this call is replaced by its fallback, or by a refusal with 500, and
  logged; the rest of the route stays.
- The profile of an agent is filled in when its turn comes (``CompiledSteps.profile``): most agents of a menu never
  speak.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import structlog

from gateway.call.events import Keypad, Routed
from gateway.call.machine.ivr import DialTo, Menu, PlaySounds, Redirect, RefuseCall
from gateway.call.steps import Step, TalkTo
from gateway.dialplan.model.agent import AgentProfile
from gateway.dialplan.model.steps import (
    AgentStep,
    AnnounceStep,
    AnyStep,
    DialStep,
    HuntStep,
    MenuStep,
    PlanStep,
    RedirectStep,
    RejectStep,
)
from gateway.dialplan.model.templates import TemplateFailed
from gateway.dialplan.routing.route import Route
from gateway.ids import CallId
from gateway.settings.sections import CallSettings

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class CompiledSteps:
    """
    What a route makes of one call.

    Attributes:
        route: the route that matched.
        first: the first step.
        over: the step for a call beyond the route's limits.
        may_record: whether an agent that this call may reach records, or can be told to; also one for calls beyond a
            limit.
    """

    route: Route
    first: Step
    over: Step
    may_record: bool
    _talks: tuple[tuple[TalkTo, PlanStep], ...]

    def profile(self, step: TalkTo) -> AgentProfile:
        """
        Return how the agent of a step behaves, filled in for this call.

        Raises:
            TemplateFailed: a text cannot be filled in.
        """
        written = next(written for made, written in self._talks if made is step)
        profile = written.profile(self.route)
        assert profile is not None
        return profile


def compile_steps(route: Route) -> CompiledSteps:
    """Return the steps of a call that a route takes."""
    compiler = _Compiler(route)
    first = compiler.step(route.step, None)
    over = compiler.step(route.limits.over, None)
    agents = route.plan.agents
    named = {step.named_agent for top in (route.step, route.limits.over) for _, step in top.within()}
    may_record = any(agents[name].recording.mode != "off" for name in named if name is not None)
    return CompiledSteps(route, first, over, may_record, tuple(compiler.talks))


class _Compiler:
    def __init__(self, route: Route) -> None:
        self.route = route
        self.talks: list[tuple[TalkTo, PlanStep]] = []

    def step(self, step: AnyStep, fallback: Step | None) -> Step:
        try:
            return self._filled(step, fallback)
        except TemplateFailed as problem:
            _log.error("step_not_filled_in", route=self.route.name, action=step.action, detail=str(problem))
            return fallback or RefuseCall(500, "Server Internal Error")

    def _filled(self, step: AnyStep, fallback: Step | None) -> Step:
        match step:
            case AgentStep():
                otherwise = self._perhaps(step.on_failure, fallback)
                full = self._when_full(step.agent)
                return self._talk(TalkTo(step.agent, step.answer_after_s, otherwise=otherwise, full=full), step)
            case RejectStep():
                return RefuseCall(step.code, step.phrase(self.route) or "", step.announcement or "")
            case RedirectStep():
                return Redirect(step.uris(self.route))
            case DialStep():
                to = step.target(self.route)
                otherwise = self._perhaps(step.then, fallback)
                return DialTo(
                    *(to.target, step.ring_limit_s, to.trunk or "", dict(to.headers), otherwise),
                    caller_id=to.caller_id,
                    diverted_from=to.diverted_from,
                )
            case MenuStep():
                return self._menu(step)
            case HuntStep():
                following = fallback
                for each in reversed(step.steps):
                    following = self.step(each, following)
                return following or RefuseCall(480)
            case AnnounceStep():
                return PlaySounds(step.files, early=not step.answer, then=self._perhaps(step.then, None))

    def _menu(self, step: MenuStep) -> Step:
        keys = {key: self.step(each, None) for key, each in step.keys.items()}
        otherwise = self._perhaps(step.otherwise, None)
        if step.prompt is not None:
            return Menu(step.prompt, keys, step.timeout_s, step.retries, otherwise)
        text = self.route.text(str(step.say))
        agent = str(step.agent)
        full = self._when_full(agent)
        return self._talk(TalkTo(agent, prompt=text, keys=keys, otherwise=otherwise, full=full), step)

    def _when_full(self, agent: str) -> Step | None:
        """Return the step for a caller whose agent's model has no session free; None: as after any failure."""
        rules = self.route.plan.agents[agent].when_full
        if rules.code is None and rules.announcement is None:
            return None
        return RefuseCall(rules.code or 503, "", rules.announcement or "")

    def _perhaps(self, step: AnyStep | None, fallback: Step | None) -> Step | None:
        return fallback if step is None else self.step(step, fallback)

    def _talk(self, made: TalkTo, written: PlanStep) -> TalkTo:
        self.talks.append((made, written))
        return made


def talk_with(
    profile: AgentProfile,
    limits: CallSettings,
    *,
    call_id: CallId,
    longest_s: float,
    outbound: bool,
    transfers: Literal["refer", "refer_or_bridge", "bridge"],
    end_of_speech_ms: int,
) -> Routed:
    """
    Return what the machine is told of an agent that is to speak in a call.

    Args:
        profile: how the agent behaves, filled in for the call.
        limits: limits of every call.
        call_id: the call.
        longest_s: longest duration of this call.
        outbound: whether we place the call.
        transfers: how calls of its trunk are transferred.
        end_of_speech_ms: the silence after which the voice model reports the end of a sound; the guard waits it out.
    """
    guard_ms, keypad = profile.turn_detection.guard_ms, profile.keypad
    return Routed(
        call_id,
        setup_limit_s=limits.setup_limit_s,
        max_length_s=longest_s,
        refusal_code=limits.refusal_code,
        guard_ms=guard_ms + end_of_speech_ms if guard_ms else 0,
        goodbye_limit_s=profile.goodbye_limit_s,
        tool_filler_after_s=profile.tools.filler_after_s,
        outbound=outbound,
        ring_limit_s=limits.ring_limit_s,
        hold_limit_s=limits.hold_limit_s,
        keypad=Keypad(keypad.to_agent, keypad.pause_s, keypad.shortcuts, keypad.masked),
        transfers=transfers,
        recording=profile.recording.mode == "on",
        announces=profile.recording.announcement is not None,
    )
