"""What the dialplan decided, and which agent was chosen for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from gateway.call.events.gateway import CallEvent
from gateway.call.steps import Step


@dataclass(frozen=True, slots=True)
class Keypad:
    """
    What the caller's keys do beside the agent.

    Attributes:
        to_agent: the agent is told which keys were pressed, together once none came for ``pause_s`` or at ``#``.
        pause_s: the pause that ends a number.
        shortcuts: key -> URI the caller is transferred to at once.
        masked: keys stand as ``*`` in records and logs (card numbers); the agent is told them all the same.
    """

    to_agent: bool = True
    pause_s: float = 1.5
    shortcuts: Mapping[str, str] = field(default_factory=dict)
    masked: bool = False


@dataclass(frozen=True, slots=True)
class Planned(CallEvent):
    """
    The dialplan decided what is done with a call that came in: its steps can be taken. The machine's first event.

    Attributes:
        step: the first step.
        setup_limit_s: how long an agent may take to be ready, and a leg to have its media up.
        max_length_s: longest answered call, whoever speaks with the caller.
        refusal_code: SIP status for a caller whose agent cannot be had.
        hold_limit_s: the longest time on hold.
    """

    step: Step
    setup_limit_s: float
    max_length_s: float
    refusal_code: int = 503
    hold_limit_s: float = 900


@dataclass(frozen=True, slots=True)
class ChoiceFailed(CallEvent):
    """The agent that a step names could not be made for this call; ``detail`` says why."""

    detail: str


@dataclass(frozen=True, slots=True)
class Routed(CallEvent):
    """
    An agent was chosen. The machine's first event where nothing else was planned; else each ``ChooseAgent`` brings one.

    After ``Planned`` its limits of the whole call (``setup_limit_s``, ``max_length_s``, ``refusal_code``,
    ``hold_limit_s``) stand, not these.

    Attributes:
        outbound: we place this call; the far end is called once the agent is ready.
        ring_limit_s: outbound: how long it may ring; also for a second leg.
        hold_limit_s: the longest time on hold.
        keypad: what the caller's keys do.
        transfers: how callers are transferred: by REFER, by REFER or else in the gateway, or always in the gateway.
        recording: record from the answer on.
        announces: nothing is recorded before the agent's announcement of it was heard to its end.
        can_record: there is something to record with; set by the session.
        setup_limit_s: how long the caller may ring before the agent is ready.
        max_length_s: longest answered call.
        refusal_code: SIP status for a caller whose agent cannot be had.
        guard_ms: speech of the caller that is told to be over within so long was none (a cough, noise) and only holds
            the agent up; 0 is off. Counted from ``SpeechStarted`` to ``SpeechStopped``: whoever sets it adds the
            silence by which the upstream knows the end of speech.
        goodbye_limit_s: the longest wait for the agent's last words to be heard.
        tool_filler_after_s: a tool that runs longer lets the caller hear the filler; None: never.
    """

    setup_limit_s: float
    max_length_s: float
    refusal_code: int = 503
    guard_ms: int = 0
    goodbye_limit_s: float = 10
    tool_filler_after_s: float | None = None
    outbound: bool = False
    ring_limit_s: float = 45
    hold_limit_s: float = 900
    keypad: Keypad = Keypad()
    transfers: Literal["refer", "refer_or_bridge", "bridge"] = "refer_or_bridge"
    recording: bool = False
    announces: bool = False
    can_record: bool = False
