"""
What a dialplan wants done with one call: a tree of steps, with every template rendered for this call.

``worker/compile.py`` makes them of the steps that people write (``dialplan/model/steps.py``), so that the machine knows
no file format. A step that can fail has ``otherwise``, the step taken then; None ends the call as the failure says.
Here are what they all have in common and the one that orders speak of; those that need no agent are where they are
carried out (``machine/ivr.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do with a call."""

    def story(self) -> Mapping[str, str]:
        """Return what the call's history says of it: ``action``, named as in a dialplan, and ``target``."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class TalkTo(Step):
    """
    An agent answers, or goes on with a caller who was answered already.

    Attributes:
        agent: name of the agent.
        answer_after_s: how long the caller rings at least.
        prompt: what the agent says first instead of its greeting; empty keeps the greeting.
        keys: key -> the step taken when the caller presses it while the agent speaks with them.
        otherwise: the step taken if the agent cannot be had or is lost.
        full: the step taken if its model has no session free; None: that of ``otherwise``.
    """

    agent: str
    answer_after_s: float = 0
    prompt: str = ""
    keys: Mapping[str, Step] = field(default_factory=dict)
    otherwise: Step | None = None
    full: Step | None = None

    def story(self) -> Mapping[str, str]:
        """See ``Step``."""
        return {"action": "agent", "target": self.agent, "agent": self.agent}
