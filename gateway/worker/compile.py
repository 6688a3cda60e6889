"""From a route of the dialplan to the steps of one call: everything filled in, fallbacks put in their places."""

from __future__ import annotations

from dataclasses import dataclass, field

import structlog

from gateway.call.steps import Announce, DialTo, Menu, Redirect, Refuse, Step, TalkTo
from gateway.dialplan.model.agent import AgentProfile
from gateway.dialplan.model.steps import (
    AgentStep,
    AnnounceStep,
    DialStep,
    HuntStep,
    MenuStep,
    PlanStep,
    RedirectStep,
    RejectStep,
    steps_within,
)
from gateway.dialplan.model.templates import TemplateFailed
from gateway.dialplan.routing.route import Route

_log = structlog.get_logger(__name__)


@dataclass
class CompiledSteps:
    """
    What a route makes of one call.

    Args:
        route: the route that matched.

    Attributes:
        first: the first step.
        over: the step for a call beyond the route's limits.
    """

    route: Route
    first: Step = field(init=False)
    over: Step = field(init=False)
    _agents: dict[int, AgentStep] = field(init=False, default_factory=dict)
    _steps: list[TalkTo] = field(init=False, default_factory=list)  # kept, or their ids could be given again

    def __post_init__(self) -> None:
        self.first = self._step(self.route.step, None)
        self.over = self._step(self.route.limits.over, None)

    def profile(self, step: TalkTo) -> AgentProfile:
        """
        Return how the agent of a step behaves, filled in for this call.

        Raises:
            TemplateFailed: a text cannot be filled in.
        """
        return self.route.profile_for(self._agents[id(step)])

    @property
    def may_record(self) -> bool:
        """Whether an agent that this call may come to records, or can be told to; also one for calls beyond a limit."""
        agents = self.route.plan.agents
        within = (*steps_within(self.route.step), *steps_within(self.route.limits.over))
        named = {step.agent for _, step in within if isinstance(step, AgentStep | MenuStep)}
        return any(agents[name].recording.mode != "off" for name in named if name is not None)

    def _step(self, step: PlanStep, fallback: Step | None) -> Step:
        try:
            return self._filled(step, fallback)
        except TemplateFailed as problem:
            _log.error("step_not_filled_in", route=self.route.name, action=step.action, detail=str(problem))
            return fallback or Refuse(500, "Server Internal Error")

    def _filled(self, step: PlanStep, fallback: Step | None) -> Step:
        match step:
            case AgentStep():
                otherwise = self._perhaps(step.on_failure, fallback)
                return self._talk(TalkTo(step.agent, step.answer_after_s, otherwise=otherwise), step)
            case RejectStep():
                return Refuse(step.code, self.route.reason(step) or "", step.announcement or "")
            case RedirectStep():
                return Redirect(self.route.contacts(step))
            case DialStep():
                to = self.route.dial_target(step)
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
                    following = self._step(each, following)
                return following or Refuse(480)
            case AnnounceStep():
                return Announce(step.files, early=not step.answer, then=self._perhaps(step.then, None))

    def _menu(self, step: MenuStep) -> Step:
        keys = {key: self._step(each, None) for key, each in step.keys.items()}
        otherwise = self._perhaps(step.otherwise, None)
        if step.prompt is not None:
            return Menu(step.prompt, keys, step.timeout_s, step.retries, otherwise)
        reader, text = str(step.agent), self.route.text(str(step.say))
        return self._talk(TalkTo(reader, prompt=text, keys=keys, otherwise=otherwise), AgentStep(agent=reader))

    def _perhaps(self, step: PlanStep | None, fallback: Step | None) -> Step | None:
        return fallback if step is None else self._step(step, fallback)

    def _talk(self, made: TalkTo, step: AgentStep) -> TalkTo:
        self._agents[id(made)] = step
        self._steps.append(made)
        return made
