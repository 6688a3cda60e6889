"""Every event a call can meet, in each form the machine tells apart, and ways to where it may meet it."""

from __future__ import annotations

from collections.abc import Mapping

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
    DigitsAsked,
    HangUpAsked,
    LegClosed,
    LegFailed,
    MediaLost,
    MediaUp,
    Noted,
    OrderFailed,
    PlayedOut,
    Routed,
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
from gateway.call.machine import ENDING, MAX_LENGTH, SETUP, Phase
from gateway.call.talk import FILLER, GOODBYE, GUARD, TRANSFER
from gateway.errors import AgentLost, AgentRefused
from gateway.ids import CallId

_CALL = CallId("call")

_ROUTED = Routed(_CALL, setup_limit_s=8, max_length_s=3600, tool_filler_after_s=2)
_GUARDED = Routed(_CALL, setup_limit_s=8, max_length_s=3600, guard_ms=300)
_READY = AgentReady(_CALL, "session")
_UP = MediaUp(_CALL, "PCMU/8000")
_STOP = StopAsked(_CALL, "")
_GONE = LegClosed(_CALL, by_caller=False, code=200, reason="")

WAYS: Mapping[Phase, tuple[CallEvent, ...]] = {
    Phase.ROUTING: (),
    Phase.RINGING: (_ROUTED,),
    Phase.ANSWERING: (_ROUTED, _READY),
    Phase.ACTIVE: (_ROUTED, _READY, _UP),
    Phase.ENDING: (_ROUTED, _READY, _UP, _STOP),
    Phase.ENDED: (_ROUTED, _READY, _UP, _STOP, _GONE),
}
"""A way into every phase."""

SAMPLES: Mapping[str, CallEvent] = {
    "Routed": _ROUTED,
    "AgentReady": _READY,
    "AgentFailed, refused": AgentFailed(_CALL, AgentRefused("")),
    "AgentFailed, lost": AgentFailed(_CALL, AgentLost("")),
    "AgentClosed": AgentClosed(_CALL, 1000, ""),
    "AgentAway": AgentAway(_CALL, ""),
    "AgentBack": AgentBack(_CALL, "session"),
    "AgentExpiring": AgentExpiring(_CALL, 30),
    "MediaUp": _UP,
    "MediaLost": MediaLost(_CALL, 30),
    "SpeechStarted, agent silent": SpeechStarted(_CALL),
    "SpeechStarted, agent speaking": SpeechStarted(_CALL, "item", 100),
    "SpeechStarted, may not interrupt": SpeechStarted(_CALL, "item", 100, interrupts=False),
    "SpeechStopped": SpeechStopped(_CALL),
    "CallerSpoke": CallerSpoke(_CALL, "item", ""),
    "AgentSpoke": AgentSpoke(_CALL, "item", ""),
    "PlayedOut": PlayedOut(_CALL),
    "HangUpAsked": HangUpAsked(_CALL, "hang up", "done"),
    "TransferAsked": TransferAsked(_CALL, "transfer", "sip:desk@192.0.2.1"),
    "TransferEnded, 2xx": TransferEnded(_CALL, 200, "OK"),
    "TransferEnded, other": TransferEnded(_CALL, 486, "Busy Here"),
    "DigitsAsked": DigitsAsked(_CALL, "digits", "1"),
    "WaitAsked": WaitAsked(_CALL, "wait"),
    "ToolAsked": ToolAsked(_CALL, "tool", "weather", "{}"),
    "ToolFinished": ToolFinished(_CALL, "tool", "weather", "rain", failed=False, took_ms=5),
    "LegClosed, 487": LegClosed(_CALL, by_caller=True, code=487, reason=""),
    "LegClosed, caller": LegClosed(_CALL, by_caller=True, code=200, reason=""),
    "LegClosed, not the caller": _GONE,
    "LegFailed": LegFailed(_CALL, ""),
    "TimerFired, setup": TimerFired(_CALL, SETUP),
    "TimerFired, max_length": TimerFired(_CALL, MAX_LENGTH),
    "TimerFired, ending": TimerFired(_CALL, ENDING),
    "TimerFired, guard": TimerFired(_CALL, GUARD, "item", 100),
    "TimerFired, goodbye": TimerFired(_CALL, GOODBYE),
    "TimerFired, transfer": TimerFired(_CALL, TRANSFER),
    "TimerFired, filler": TimerFired(_CALL, FILLER),
    "StopAsked": _STOP,
    "OrderFailed": OrderFailed(_CALL, ""),
    "Noted": Noted(_CALL, "usage", {}),
}
"""Every event the machine knows, in each form it tells apart."""

_SECOND_TOOL = ToolAsked(_CALL, "second tool", "news", "{}")
_SECOND_DONE = ToolFinished(_CALL, "second tool", "news", "none", failed=False, took_ms=5)
_TO_GUARDED = (_GUARDED, _READY, _UP)

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
    "Two tools, one of them slow": (
        WAYS[Phase.ACTIVE],
        ("ToolAsked", _SECOND_TOOL, "ToolFinished", "TimerFired, filler", _SECOND_DONE),
    ),
    "A quick tool": (WAYS[Phase.ACTIVE], ("ToolAsked", "ToolFinished")),
}
"""What goes on in a talk whose phase does not change: a title, the way there, the events (by name in ``SAMPLES``)."""
