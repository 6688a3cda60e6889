"""Calls told one event after the other, for ``docs/call-states.md``: talks, and steps of a dialplan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from docs.generate.samples import BRIDGED, CALL, SAMPLES, WAYS, planned
from gateway.call.events import (
    CallEvent,
    PlayedOut,
    Routed,
    ToolAsked,
    ToolFinished,
)
from gateway.call.machine.ivr import DialTo, Menu, PlaySounds, Redirect, RefuseCall
from gateway.call.machine.phase import Phase
from gateway.call.steps import TalkTo

Told = str | tuple[str, CallEvent]
"""An event: its name in ``SAMPLES``, or one of its own with a name."""

_GUARDED = Routed(CALL, setup_limit_s=8, max_length_s=3600, guard_ms=300)
_UP = (SAMPLES["AgentReady"], SAMPLES["MediaUp"])
_ANNOUNCED = Routed(CALL, setup_limit_s=8, max_length_s=3600, recording=True, announces=True, can_record=True)
_SECOND_TOOL = ToolAsked(CALL, "second tool", "news", "{}")
_SECOND_DONE = ToolFinished(CALL, "second tool", "news", "none", failed=False, took_ms=5)
_TO_GUARDED = (_GUARDED, *_UP)
_TO_ANNOUNCED = (_ANNOUNCED, SAMPLES["AgentReady"])
_TO_BRIDGED = (BRIDGED, *_UP)
_TO_CALLED = (SAMPLES["Routed, outbound"], *_UP)

TURNS: Mapping[str, tuple[tuple[CallEvent, ...], tuple[Told, ...]]] = {
    "The caller interrupts; a guard tells a false start from speech": (
        _TO_GUARDED,
        ("SpeechStarted, agent speaking", "SpeechStopped", "SpeechStarted, agent speaking", "TimerFired, guard"),
    ),
    "The agent hangs up": (WAYS[Phase.ACTIVE], ("HangUpAsked", "PlayedOut")),
    "The caller interrupts the goodbye: the hang-up is given up": (
        WAYS[Phase.ACTIVE],
        ("HangUpAsked", "SpeechStarted, agent speaking", "PlayedOut", "SpeechStopped"),
    ),
    "The caller interrupts the goodbye of a call that must end": (
        WAYS[Phase.ACTIVE],
        ("TimerFired, max_length", "SpeechStarted, agent speaking", "PlayedOut", "SpeechStopped", "PlayedOut"),
    ),
    "Its last words take too long": (WAYS[Phase.ACTIVE], ("HangUpAsked", "TimerFired, goodbye")),
    "The agent transfers the caller": (WAYS[Phase.ACTIVE], ("TransferAsked", "PlayedOut", "TransferEnded, 2xx")),
    "The caller speaks over the last words before a transfer": (
        WAYS[Phase.ACTIVE],
        ("TransferAsked", "SpeechStarted, agent speaking", "PlayedOut", "SpeechStopped", "PlayedOut"),
    ),
    "A transfer fails": (WAYS[Phase.ACTIVE], ("TransferAsked", "PlayedOut", "TransferEnded, other")),
    "The outcome of a transfer is never reported": (
        WAYS[Phase.ACTIVE],
        ("TransferAsked", "PlayedOut", "TimerFired, transfer"),
    ),
    "The call gets too long while it is transferred in vain": (
        WAYS[Phase.ACTIVE],
        ("TransferAsked", "PlayedOut", "TimerFired, max_length", "TransferEnded, other", "PlayedOut"),
    ),
    "The agent is lost while its last words are heard": (
        WAYS[Phase.ACTIVE],
        ("HangUpAsked", "AgentFailed, lost", "PlayedOut"),
    ),
    "The agent is away for a while": (WAYS[Phase.ACTIVE], ("AgentAway", "AgentBack")),
    "The caller puts us on hold": (WAYS[Phase.ACTIVE], ("LegHeld", "LegResumed")),
    "The caller keeps us on hold": (WAYS[Phase.ACTIVE], ("LegHeld", "TimerFired, hold")),
    "The caller enters a number": (
        WAYS[Phase.ACTIVE],
        ("DigitPressed", "DigitPressed", "TimerFired, keys", "DigitPressed", "DigitPressed, #"),
    ),
    "A key transfers the caller": (WAYS[Phase.ACTIVE], ("DigitPressed, shortcut", "TransferEnded, other")),
    "REFER is refused and the target called": (
        WAYS[Phase.ACTIVE],
        (
            "TransferAsked",
            "PlayedOut",
            "TransferEnded, REFER refused",
            "SecondRinging",
            "SecondUp",
            "LegClosed, caller",
        ),
    ),
    "A target that was called does not answer": (
        _TO_BRIDGED,
        ("TransferAsked", "PlayedOut", "TimerFired, second", "SecondClosed"),
    ),
    "The agent tells the target first, who takes the call": (
        WAYS[Phase.ACTIVE],
        ("TransferAsked, warm", "PlayedOut", "SecondUp", "SecondDigit, 1", "SecondClosed"),
    ),
    "The target declines": (WAYS[Phase.ACTIVE], ("TransferAsked, warm", "PlayedOut", "SecondUp", "SecondDigit, 2")),
    "The agent is lost while it speaks with the target": (
        WAYS[Phase.ACTIVE],
        ("TransferAsked, warm", "PlayedOut", "SecondUp", "AgentFailed, lost"),
    ),
    "A voicemail answers a call of ours": (_TO_CALLED, ("LeaveMessageAsked", "PlayedOut")),
    "The caller is told of the recording": (_TO_ANNOUNCED, ("MediaUp", "AnnouncementSaid", "PlayedOut")),
    "The caller speaks over that": (
        _TO_ANNOUNCED,
        (
            *("MediaUp", "AnnouncementSaid", "SpeechStarted, agent speaking", "SpeechStopped", "PlayedOut"),
            *("AnnouncementSaid", "PlayedOut"),
        ),
    ),
    "The caller cannot be told of the recording": (_TO_ANNOUNCED, ("MediaUp", "AnnouncementFailed")),
    "The agent pauses the recording": (WAYS[Phase.ACTIVE], ("RecordingAsked, off", "RecordingAsked, on")),
    "The recording breaks off": (WAYS[Phase.ACTIVE], ("RecordingFailed", "RecordingAsked, on")),
    "Two tools, one of them slow": (
        WAYS[Phase.ACTIVE],
        (
            "ToolAsked",
            ("ToolAsked, the other", _SECOND_TOOL),
            "ToolFinished",
            "TimerFired, filler",
            ("ToolFinished, the other", _SECOND_DONE),
        ),
    ),
    "An operator takes the call over and gives it back": (
        WAYS[Phase.ACTIVE],
        ("TakeOverCommanded", "SecondRinging", "SecondUp", "GiveBackCommanded", "SecondClosed"),
    ),
    "The person who took the call over hangs up": (
        WAYS[Phase.ACTIVE],
        ("TakeOverCommanded", "SecondUp", "SecondClosed"),
    ),
    "Nobody is there to take the call over": (WAYS[Phase.ACTIVE], ("TakeOverCommanded", "SecondClosed")),
    "The agent is lost while a person has the call": (
        WAYS[Phase.ACTIVE],
        ("TakeOverCommanded", "SecondUp", "AgentFailed, lost", "SecondClosed"),
    ),
    "The agent is lost while a person is called": (
        WAYS[Phase.ACTIVE],
        ("TakeOverCommanded", "AgentFailed, lost", "SecondUp", "GiveBackCommanded", "LegClosed, caller"),
    ),
    "The call gets too long while a person is called": (
        WAYS[Phase.ACTIVE],
        ("TakeOverCommanded", "TimerFired, max_length", "SecondUp", "SecondClosed"),
    ),
    "The agent has no time left while a person has the call": (
        WAYS[Phase.ACTIVE],
        ("TakeOverCommanded", "SecondUp", "AgentExpiring", "SecondClosed", "PlayedOut"),
    ),
    "An operator speaks through the agent": (
        WAYS[Phase.ACTIVE],
        ("WhisperCommanded", "SayCommanded", "HangUpCommanded, with a goodbye", "PlayedOut"),
    ),
    "An operator transfers the caller in vain": (WAYS[Phase.ACTIVE], ("TransferCommanded", "TransferEnded, other")),
    "A quick tool": (WAYS[Phase.ACTIVE], ("ToolAsked", "ToolFinished")),
    "The service calls a slow MCP server": (WAYS[Phase.ACTIVE], ("McpCallBegan", "TimerFired, filler", "McpCallEnded")),
}
"""What goes on in a talk whose phase does not change: a title, the way there, the events (by name in ``SAMPLES``)."""

_DESK = DialTo("sip:desk@192.0.2.1")
_AGENT = TalkTo("reception", otherwise=_DESK)
_SORRY = PlaySounds(("sorry.wav",))
_MENU = Menu("choices.wav", keys={"0": _DESK, "1": _AGENT}, retries=1, otherwise=_SORRY)
_DIALLED = DialTo("sip:desk@192.0.2.1", otherwise=_AGENT)
_PATIENT = replace(_AGENT, answer_after_s=10)
_PLAYED = ("PlayedOut", PlayedOut(CALL, 1))

STEPS: Mapping[str, tuple[tuple[CallEvent, ...], tuple[Told, ...]]] = {
    "An agent, who cannot be had; then somebody else": (
        (),
        (("Planned", planned(_AGENT)), "Routed", "AgentFailed, refused", "SecondRinging", "SecondUp", "MediaUp"),
    ),
    "The caller rings for a while, though the agent is ready": (
        (),
        (("Planned", planned(_PATIENT)), "Routed", "AgentReady", "TimerFired, patience", "MediaUp"),
    ),
    "An announcement, then an agent": (
        (),
        (
            ("Planned", planned(PlaySounds(("hello.wav",), then=_AGENT))),
            *("MediaUp", _PLAYED, "Routed", "AgentReady", "LegClosed, caller"),
        ),
    ),
    "A menu: another key, silence, the end": (
        (),
        (
            *(("Planned", planned(_MENU)), "MediaUp", "DigitPressed", ("PlayedOut", PlayedOut(CALL, 2))),
            *("TimerFired, menu", ("PlayedOut", PlayedOut(CALL, 3)), "LegClosed, not the caller"),
        ),
    ),
    "A menu: a key of it, somebody else is called": (
        (),
        (("Planned", planned(_MENU)), "MediaUp", "DigitPressed, shortcut", "SecondUp", "SecondClosed"),
    ),
    "A menu, while the caller has us on hold": (
        (),
        (("Planned", planned(_MENU)), "MediaUp", _PLAYED, "LegHeld", "LegResumed", "TimerFired, menu"),
    ),
    "Somebody else is called before the answer, and busy; then an agent": (
        (),
        (("Planned", planned(_DIALLED)), "SecondClosed", "Routed", "AgentReady", "MediaUp"),
    ),
    "The call is not answered, and there is no other step": (
        (),
        (("Planned", planned(_DESK)), "TimerFired, second", "SecondClosed", "LegClosed, 486"),
    ),
    "A refusal, announced": (
        (),
        (
            ("Planned", planned(RefuseCall(486, "Busy Here", "sorry.wav"))),
            *("EarlyMediaUp", _PLAYED, "LegClosed, 486"),
        ),
    ),
    "A redirect before the answer": ((), (("Planned", planned(Redirect(("sip:desk@192.0.2.1",)))),)),
    "A redirect after it": (
        (),
        (
            ("Planned", planned(PlaySounds(("hello.wav",), then=Redirect(("sip:desk@192.0.2.1",))))),
            *("MediaUp", _PLAYED, "TransferEnded, 2xx"),
        ),
    ),
    "An agent speaks a menu": (
        (planned(replace(_AGENT, keys={"5": _SORRY})), SAMPLES["Routed"], *_UP),
        ("DigitPressed", _PLAYED),
    ),
}
"""What the dialplan has done with a call."""
