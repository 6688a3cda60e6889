"""
What a dialplan wants done with a call: a tree of steps, rendered for this call and free of names of files' formats.

Every step that can fail has ``otherwise``: the step that is taken then; None lets the call end as the failure says.
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
        answer_after_s: the caller rings for so long at the least.
        prompt: what the agent shall say first instead of its greeting; empty keeps the greeting.
        keys: what a key of the caller's does beside the agent.
        otherwise: the agent cannot be had, or was lost.
    """

    agent: str
    answer_after_s: float = 0
    prompt: str = ""
    keys: Mapping[str, Step] = field(default_factory=dict)
    otherwise: Step | None = None


@dataclass(frozen=True, slots=True)
class Refuse(Step):
    """The call ends: ``code`` and ``reason`` before the answer, after ``sound`` as early media; a BYE after it."""

    code: int
    reason: str = ""
    sound: str = ""


@dataclass(frozen=True, slots=True)
class Redirect(Step):
    """302 with these contacts (RFC 3261 section 21.3.3); a caller who was answered is sent there by REFER."""

    contacts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DialTo(Step):
    """
    Somebody else is called and joined with the caller.

    Attributes:
        target: SIP or tel URI, or a number of the trunk's.
        ring_limit_s: nobody answered by then: it failed.
        trunk: name of the trunk the call goes out through; empty leaves it to the SIP side.
        headers: extra headers of the INVITE.
        otherwise: nobody answered.
        caller_id: what it shows as calling: ``caller``, ``trunk`` or a number; empty leaves it to the trunk's settings.
        diverted_from: what it tells of who was called first: ``called``, ``nobody`` or a number.
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
    """Sounds are played, one after the other; then ``then``, or the call ends. ``early``: without answering (183)."""

    sounds: tuple[str, ...]
    early: bool = False
    then: Step | None = None


@dataclass(frozen=True, slots=True)
class Menu(Step):
    """
    A sound is played and a key awaited.

    Attributes:
        sound: the prompt.
        keys: what a key does.
        timeout_s: how long a key is awaited after the prompt.
        retries: how often the prompt is played again, after silence or another key.
        otherwise: no key of the menu came.
    """

    sound: str
    keys: Mapping[str, Step]
    timeout_s: float = 5
    retries: int = 2
    otherwise: Step | None = None
