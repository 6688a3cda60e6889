"""Every event a call can meet, in each form the machine tells apart, and ways to where it may meet it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from gateway.call.errands import FILLER
from gateway.call.events import (
    AgentAway,
    AgentBack,
    AgentClosed,
    AgentExpiring,
    AgentFailed,
    AgentReady,
    AgentSpoke,
    CallerSpoke,
    CallEvent,
    DigitPressed,
    DigitsAsked,
    HangUpAsked,
    Keypad,
    LeaveMessageAsked,
    LegClosed,
    LegFailed,
    LegHeld,
    LegResumed,
    LegRinging,
    MediaLost,
    MediaUp,
    Noted,
    OrderFailed,
    PlayedOut,
    RecordingAsked,
    RecordingFailed,
    RecordingSaved,
    Routed,
    SecondClosed,
    SecondDigit,
    SecondRinging,
    SecondUp,
    SpeechStarted,
    SpeechStopped,
    StopAsked,
    TimerFired,
    ToolAsked,
    ToolFinished,
    TransferAsked,
    TransferEnded,
    WaitAsked,
)
from gateway.call.handover import BRIEFING, GOODBYE, SECOND, TRANSFER
from gateway.call.keypad import KEYS
from gateway.call.machine import ENDING, MAX_LENGTH, RINGING, SETUP, Phase
from gateway.call.speech import GUARD, HOLD
from gateway.errors import AgentLost, AgentRefused
from gateway.ids import CallId

_CALL = CallId("call")

_KEYPAD = Keypad(shortcuts={"0": "sip:desk@192.0.2.1"})
_ROUTED = Routed(
    _CALL, setup_limit_s=8, max_length_s=3600, tool_filler_after_s=2, keypad=_KEYPAD, recording=True, can_record=True
)
_GUARDED = Routed(_CALL, setup_limit_s=8, max_length_s=3600, guard_ms=300)
_OUTBOUND = replace(_ROUTED, outbound=True)
_BRIDGED = replace(_ROUTED, transfers="bridge")
_READY = AgentReady(_CALL, "session")
_UP = MediaUp(_CALL, "PCMU/8000")
_TRANSFER = TransferAsked(_CALL, "transfer", "sip:desk@192.0.2.1")
_WARM = TransferAsked(_CALL, "warm transfer", "sip:desk@192.0.2.1", warm=True, summary="an order")
_HEARD = PlayedOut(_CALL)
_ANSWERED = SecondUp(_CALL, "PCMU/8000")
_STOP = StopAsked(_CALL, "")
_GONE = LegClosed(_CALL, by_caller=False, code=200, reason="")

WAYS: Mapping[Phase, tuple[CallEvent, ...]] = {
    Phase.ROUTING: (),
    Phase.RINGING: (_ROUTED,),
    Phase.ANSWERING: (_ROUTED, _READY),
    Phase.PREPARING: (_OUTBOUND,),
    Phase.DIALING: (_OUTBOUND, _READY),
    Phase.ACTIVE: (_ROUTED, _READY, _UP),
    Phase.JOINED: (_BRIDGED, _READY, _UP, _TRANSFER, _HEARD, _ANSWERED),
    Phase.ENDING: (_ROUTED, _READY, _UP, _STOP),
    Phase.ENDED: (_ROUTED, _READY, _UP, _STOP, _GONE),
}
"""A way into every phase."""

SAMPLES: Mapping[str, CallEvent] = {
    "Routed": _ROUTED,
    "Routed, outbound": _OUTBOUND,
    "AgentReady": _READY,
    "AgentFailed, refused": AgentFailed(_CALL, AgentRefused("")),
    "AgentFailed, lost": AgentFailed(_CALL, AgentLost("")),
    "AgentClosed": AgentClosed(_CALL, 1000, ""),
    "AgentAway": AgentAway(_CALL, ""),
    "AgentBack": AgentBack(_CALL, "session"),
    "AgentExpiring": AgentExpiring(_CALL, 30),
    "MediaUp": _UP,
    "MediaLost": MediaLost(_CALL, 30),
    "LegRinging": LegRinging(_CALL, 180),
    "LegHeld": LegHeld(_CALL),
    "LegResumed": LegResumed(_CALL),
    "DigitPressed": DigitPressed(_CALL, "5", "item", 100),
    "DigitPressed, #": DigitPressed(_CALL, "#"),
    "DigitPressed, shortcut": DigitPressed(_CALL, "0", "item", 100),
    "SpeechStarted, agent silent": SpeechStarted(_CALL),
    "SpeechStarted, agent speaking": SpeechStarted(_CALL, "item", 100),
    "SpeechStarted, may not interrupt": SpeechStarted(_CALL, "item", 100, interrupts=False),
    "SpeechStopped": SpeechStopped(_CALL),
    "CallerSpoke": CallerSpoke(_CALL, "item", ""),
    "AgentSpoke": AgentSpoke(_CALL, "item", ""),
    "PlayedOut": _HEARD,
    "HangUpAsked": HangUpAsked(_CALL, "hang up", "done"),
    "LeaveMessageAsked": LeaveMessageAsked(_CALL, "message"),
    "TransferAsked": _TRANSFER,
    "TransferAsked, warm": _WARM,
    "TransferEnded, 2xx": TransferEnded(_CALL, 200, "OK"),
    "TransferEnded, other": TransferEnded(_CALL, 486, "Busy Here"),
    "TransferEnded, REFER refused": TransferEnded(_CALL, 603, "Decline", refused=True),
    "SecondRinging": SecondRinging(_CALL, 180),
    "SecondUp": _ANSWERED,
    "SecondDigit, 1": SecondDigit(_CALL, "1", "item", 100),
    "SecondDigit, 2": SecondDigit(_CALL, "2", "item", 100),
    "SecondClosed": SecondClosed(_CALL, 486, "Busy Here"),
    "RecordingAsked, on": RecordingAsked(_CALL, "record", on=True),
    "RecordingAsked, off": RecordingAsked(_CALL, "pause", on=False),
    "RecordingFailed": RecordingFailed(_CALL, "disk full"),
    "RecordingSaved": RecordingSaved(_CALL, "call.wav", 60),
    "DigitsAsked": DigitsAsked(_CALL, "digits", "1"),
    "WaitAsked": WaitAsked(_CALL, "wait"),
    "ToolAsked": ToolAsked(_CALL, "tool", "weather", "{}"),
    "ToolFinished": ToolFinished(_CALL, "tool", "weather", "rain", failed=False, took_ms=5),
    "LegClosed, 487": LegClosed(_CALL, by_caller=True, code=487, reason=""),
    "LegClosed, 486": LegClosed(_CALL, by_caller=True, code=486, reason=""),
    "LegClosed, caller": LegClosed(_CALL, by_caller=True, code=200, reason=""),
    "LegClosed, not the caller": _GONE,
    "LegFailed": LegFailed(_CALL, ""),
    "TimerFired, setup": TimerFired(_CALL, SETUP),
    "TimerFired, ringing": TimerFired(_CALL, RINGING),
    "TimerFired, max_length": TimerFired(_CALL, MAX_LENGTH),
    "TimerFired, ending": TimerFired(_CALL, ENDING),
    "TimerFired, guard": TimerFired(_CALL, GUARD, "item", 100),
    "TimerFired, hold": TimerFired(_CALL, HOLD),
    "TimerFired, keys": TimerFired(_CALL, KEYS),
    "TimerFired, goodbye": TimerFired(_CALL, GOODBYE),
    "TimerFired, transfer": TimerFired(_CALL, TRANSFER),
    "TimerFired, second": TimerFired(_CALL, SECOND),
    "TimerFired, briefing": TimerFired(_CALL, BRIEFING, "item", 100),
    "TimerFired, filler": TimerFired(_CALL, FILLER),
    "StopAsked": _STOP,
    "OrderFailed": OrderFailed(_CALL, ""),
    "Noted": Noted(_CALL, "usage", {}),
}
"""Every event the machine knows, in each form it tells apart."""

_SECOND_TOOL = ToolAsked(_CALL, "second tool", "news", "{}")
_SECOND_DONE = ToolFinished(_CALL, "second tool", "news", "none", failed=False, took_ms=5)
_TO_GUARDED = (_GUARDED, _READY, _UP)
_TO_BRIDGED = (_BRIDGED, _READY, _UP)
_TO_CALLED = (_OUTBOUND, _READY, _UP)

TURNS: Mapping[str, tuple[tuple[CallEvent, ...], tuple[str | CallEvent, ...]]] = {
    "The caller interrupts; a guard tells a false start from speech": (
        _TO_GUARDED,
        ("SpeechStarted, agent speaking", "SpeechStopped", "SpeechStarted, agent speaking", "TimerFired, guard"),
    ),
    "The agent hangs up": (WAYS[Phase.ACTIVE], ("HangUpAsked", "PlayedOut")),
    "Its last words take too long": (WAYS[Phase.ACTIVE], ("HangUpAsked", "TimerFired, goodbye")),
    "The agent transfers the caller": (WAYS[Phase.ACTIVE], ("TransferAsked", "PlayedOut", "TransferEnded, 2xx")),
    "A transfer fails": (WAYS[Phase.ACTIVE], ("TransferAsked", "PlayedOut", "TransferEnded, other")),
    "Nobody says what became of a transfer": (
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
    "The agent pauses the recording": (WAYS[Phase.ACTIVE], ("RecordingAsked, off", "RecordingAsked, on")),
    "The recording breaks off": (WAYS[Phase.ACTIVE], ("RecordingFailed", "RecordingAsked, on")),
    "Two tools, one of them slow": (
        WAYS[Phase.ACTIVE],
        ("ToolAsked", _SECOND_TOOL, "ToolFinished", "TimerFired, filler", _SECOND_DONE),
    ),
    "A quick tool": (WAYS[Phase.ACTIVE], ("ToolAsked", "ToolFinished")),
}
"""What goes on in a talk whose phase does not change: a title, the way there, the events (by name in ``SAMPLES``)."""
