"""
What a dialplan wants done with one call: a tree of steps, with every template rendered for this call.

``worker/compile.py`` makes them of the steps that people write (``dialplan/model/steps.py``), so that the machine knows
no file format. A step that can fail has ``otherwise``, the step taken then; None ends the call as the failure says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do with a call."""


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
    """

    agent: str
    answer_after_s: float = 0
    prompt: str = ""
    keys: Mapping[str, Step] = field(default_factory=dict)
    otherwise: Step | None = None


@dataclass(frozen=True, slots=True)
class Refuse(Step):
    """Refuses the call with ``code`` and ``reason``, after ``sound`` as early media; ends an answered one by BYE."""

    code: int
    reason: str = ""
    sound: str = ""


@dataclass(frozen=True, slots=True)
class Redirect(Step):
    """302 with these contacts (RFC 3261 section 21.3.3); once answered, the caller is sent there by REFER."""

    contacts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DialTo(Step):
    """
    A second leg is called and joined with the caller.

    Attributes:
        target: SIP or tel URI, or a number of the trunk's.
        ring_limit_s: how long it may ring; after that the step has failed.
        trunk: name of the trunk the call goes out through; empty leaves it to the SIP side.
        headers: extra headers of the INVITE.
        otherwise: the step taken if the call was not answered.
        caller_id: the number it shows: ``caller``, ``trunk`` or a number; empty leaves it to the trunk's settings.
        diverted_from: the number it says the call was diverted from: ``called``, ``nobody`` or a number.
    """

    target: str
    ring_limit_s: float = 45
    trunk: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    otherwise: Step | None = None
    caller_id: str = ""
    diverted_from: str = "called"


@dataclass(frozen=True, slots=True)
class Announce(Step):
    """Sounds are played one after the other, then the step ``then`` is taken; ``early``: before the answer (183)."""

    sounds: tuple[str, ...]
    early: bool = False
    then: Step | None = None


@dataclass(frozen=True, slots=True)
class Menu(Step):
    """
    A sound is played, and a key of the caller chooses the next step.

    Attributes:
        sound: the prompt.
        keys: key -> the step it chooses.
        timeout_s: how long to wait for a key after the prompt.
        retries: how often the prompt is repeated after silence or a key that chooses nothing.
        otherwise: the step taken if no key chose one.
    """

    sound: str
    keys: Mapping[str, Step]
    timeout_s: float = 5
    retries: int = 2
    otherwise: Step | None = None
