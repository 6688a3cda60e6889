"""Every event a call can meet, in each form the machine tells apart, and ways to where it may meet it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from gateway.audio.played import PlayoutPosition
from gateway.call.builtin_tools import (
    EVENTS,
    BuiltinToolAsked,
    DigitsAsked,
    HangUpAsked,
    RecordingAsked,
    TransferAsked,
)
from gateway.call.events import (
    AgentAway,
    AgentBack,
    AgentClosed,
    AgentExpiring,
    AgentFailed,
    AgentReady,
    AgentSpoke,
    AnnouncementFailed,
    AnnouncementSaid,
    AnswerCame,
    AnswerLate,
    ApologyAsked,
    CallerSpoke,
    CallEvent,
    ChoiceFailed,
    DigitPressed,
    EarlyMediaUp,
    Keypad,
    LegClosed,
    LegFailed,
    LegHeld,
    LegResumed,
    LegRinging,
    McpCallBegan,
    McpCallEnded,
    MediaLost,
    MediaUp,
    Noted,
    OrderFailed,
    Planned,
    PlayedOut,
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
    TransferEnded,
)
from gateway.call.machine.ivr import DialTo, Menu, PlaySounds
from gateway.call.machine.phase import (
    BRIEFING,
    ENDING,
    FILLER,
    GOODBYE,
    GUARD,
    HOLD,
    KEYS,
    MAX_LENGTH,
    MENU,
    PATIENCE,
    RINGING,
    SECOND,
    SETUP,
    TRANSFER,
    Phase,
)
from gateway.call.steps import Step, TalkTo
from gateway.errors import AgentLost, AgentRefused
from gateway.ids import CallId

CALL = CallId("call")


def planned(step: Step) -> Planned:
    """Return what the dialplan decided: this step."""
    return Planned(CALL, step, setup_limit_s=8, max_length_s=3600)


_KEYPAD = Keypad(shortcuts={"0": "sip:desk@192.0.2.1"})
_ROUTED = Routed(
    CALL, setup_limit_s=8, max_length_s=3600, tool_filler_after_s=2, keypad=_KEYPAD, recording=True, can_record=True
)
_OUTBOUND = replace(_ROUTED, outbound=True)
BRIDGED = replace(_ROUTED, transfers="bridge")
_AGENT = TalkTo("reception")
_MENU = Menu("choices.wav", keys={"0": DialTo("sip:desk@192.0.2.1"), "1": _AGENT})
_GREETED = planned(PlaySounds(("hello.wav",), then=_AGENT))
_READY = AgentReady(CALL, "session")
_UP = MediaUp(CALL, "PCMU/8000")
_TRANSFER = TransferAsked(CALL, "transfer", "sip:desk@192.0.2.1")
_WARM = TransferAsked(CALL, "warm transfer", "sip:desk@192.0.2.1", warm=True, summary="an order")
_HEARD = PlayedOut(CALL)
_PLAYED = PlayedOut(CALL, 1)
_ANSWERED = SecondUp(CALL, "PCMU/8000")
_STOP = StopAsked(CALL, "")
_GONE = LegClosed(CALL, by_caller=False, code=200, reason="")

_WITHOUT_ARGUMENTS = BuiltinToolAsked.__match_args__

WAYS: Mapping[Phase, tuple[CallEvent, ...]] = {
    Phase.ROUTING: (),
    Phase.ATTENDING: (planned(_MENU), _UP),
    Phase.RINGING: (_ROUTED,),
    Phase.ANSWERING: (_ROUTED, _READY),
    Phase.PREPARING: (_OUTBOUND,),
    Phase.DIALING: (_OUTBOUND, _READY),
    Phase.WAITING: (_GREETED, _UP, _PLAYED, _ROUTED),
    Phase.ACTIVE: (_ROUTED, _READY, _UP),
    Phase.JOINED: (BRIDGED, _READY, _UP, _TRANSFER, _HEARD, _ANSWERED),
    Phase.ENDING: (_ROUTED, _READY, _UP, _STOP),
    Phase.ENDED: (_ROUTED, _READY, _UP, _STOP, _GONE),
}
"""A way into every phase."""

SAMPLES: Mapping[str, CallEvent] = {
    "Planned, an agent": planned(_AGENT),
    "Planned, another step": planned(_MENU),
    "Routed": _ROUTED,
    "Routed, outbound": _OUTBOUND,
    "ChoiceFailed": ChoiceFailed(CALL, ""),
    "AgentReady": _READY,
    "AgentFailed, refused": AgentFailed(CALL, AgentRefused("")),
    "AgentFailed, lost": AgentFailed(CALL, AgentLost("")),
    "AgentClosed": AgentClosed(CALL, 1000, ""),
    "AgentAway": AgentAway(CALL, ""),
    "AgentBack": AgentBack(CALL, "session"),
    "AgentExpiring": AgentExpiring(CALL, 30),
    "AnswerLate": AnswerLate(CALL),
    "AnswerCame": AnswerCame(CALL),
    "ApologyAsked": ApologyAsked(CALL, "sorry.wav"),
    "MediaUp": _UP,
    "EarlyMediaUp": EarlyMediaUp(CALL, "PCMU/8000"),
    "MediaLost": MediaLost(CALL, 30),
    "LegRinging": LegRinging(CALL, 180),
    "LegHeld": LegHeld(CALL),
    "LegResumed": LegResumed(CALL),
    "DigitPressed": DigitPressed(CALL, "5", at=PlayoutPosition("item", 100)),
    "DigitPressed, #": DigitPressed(CALL, "#"),
    "DigitPressed, shortcut": DigitPressed(CALL, "0", at=PlayoutPosition("item", 100)),
    "SpeechStarted, agent silent": SpeechStarted(CALL),
    "SpeechStarted, agent speaking": SpeechStarted(CALL, at=PlayoutPosition("item", 100)),
    "SpeechStarted, may not interrupt": SpeechStarted(CALL, at=PlayoutPosition("item", 100), interrupts=False),
    "SpeechStopped": SpeechStopped(CALL),
    "CallerSpoke": CallerSpoke(CALL, "item", ""),
    "AgentSpoke": AgentSpoke(CALL, "item", ""),
    "PlayedOut": _HEARD,
    "PlayedOut, sounds": _PLAYED,
    "HangUpAsked": HangUpAsked(CALL, "hang up", "done"),
    "TransferAsked": _TRANSFER,
    "TransferAsked, warm": _WARM,
    "TransferEnded, 2xx": TransferEnded(CALL, 200, "OK"),
    "TransferEnded, other": TransferEnded(CALL, 486, "Busy Here"),
    "TransferEnded, REFER refused": TransferEnded(CALL, 603, "Decline", refused=True),
    "SecondRinging": SecondRinging(CALL, 180),
    "SecondUp": _ANSWERED,
    "SecondDigit, 1": SecondDigit(CALL, "1", at=PlayoutPosition("item", 100)),
    "SecondDigit, 2": SecondDigit(CALL, "2", at=PlayoutPosition("item", 100)),
    "SecondClosed": SecondClosed(CALL, 486, "Busy Here"),
    "RecordingAsked, on": RecordingAsked(CALL, "record", on=True),
    "RecordingAsked, off": RecordingAsked(CALL, "pause", on=False),
    "AnnouncementSaid": AnnouncementSaid(CALL),
    "AnnouncementFailed": AnnouncementFailed(CALL, "server_error"),
    "RecordingFailed": RecordingFailed(CALL, "disk full"),
    "RecordingSaved": RecordingSaved(CALL, "call.wav", 60),
    "DigitsAsked": DigitsAsked(CALL, "digits", "1"),
    **{kind.__name__: kind(CALL, kind.__name__) for kind in EVENTS if kind.__match_args__ == _WITHOUT_ARGUMENTS},
    "ToolAsked": ToolAsked(CALL, "tool", "weather", "{}"),
    "ToolFinished": ToolFinished(CALL, "tool", "weather", "rain", failed=False, took_ms=5),
    "McpCallBegan": McpCallBegan(CALL, "mcp", "manuals", "search"),
    "McpCallEnded": McpCallEnded(CALL, "mcp", "manuals", "search", failed=False),
    "LegClosed, 487": LegClosed(CALL, by_caller=True, code=487, reason=""),
    "LegClosed, 486": LegClosed(CALL, by_caller=True, code=486, reason=""),
    "LegClosed, caller": LegClosed(CALL, by_caller=True, code=200, reason=""),
    "LegClosed, not the caller": _GONE,
    "LegFailed": LegFailed(CALL, ""),
    "TimerFired, setup": TimerFired(CALL, SETUP),
    "TimerFired, patience": TimerFired(CALL, PATIENCE),
    "TimerFired, menu": TimerFired(CALL, MENU),
    "TimerFired, ringing": TimerFired(CALL, RINGING),
    "TimerFired, max_length": TimerFired(CALL, MAX_LENGTH),
    "TimerFired, ending": TimerFired(CALL, ENDING),
    "TimerFired, guard": TimerFired(CALL, GUARD, at=PlayoutPosition("item", 100)),
    "TimerFired, hold": TimerFired(CALL, HOLD),
    "TimerFired, keys": TimerFired(CALL, KEYS),
    "TimerFired, goodbye": TimerFired(CALL, GOODBYE),
    "TimerFired, transfer": TimerFired(CALL, TRANSFER),
    "TimerFired, second": TimerFired(CALL, SECOND),
    "TimerFired, briefing": TimerFired(CALL, BRIEFING, at=PlayoutPosition("item", 100)),
    "TimerFired, filler": TimerFired(CALL, FILLER),
    "StopAsked": _STOP,
    "OrderFailed": OrderFailed(CALL, ""),
    "Noted": Noted(CALL, "usage", {}),
}
"""Every event the machine knows, in each form it tells apart."""
