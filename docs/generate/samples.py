"""Every event a call can meet, in each form the machine tells apart, and ways to where it may meet it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from gateway.audio.played import PlayoutPosition
from gateway.call import builtin_tools as tool
from gateway.call import commands as given
from gateway.call import events as ev
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


def planned(step: Step) -> ev.Planned:
    """Return what the dialplan decided: this step."""
    return ev.Planned(CALL, step, setup_limit_s=8, max_length_s=3600)


_KEYPAD = ev.Keypad(shortcuts={"0": "sip:desk@192.0.2.1"})
_ROUTED = ev.Routed(
    CALL, setup_limit_s=8, max_length_s=3600, tool_filler_after_s=2, keypad=_KEYPAD, recording=True, can_record=True
)
_OUTBOUND = replace(_ROUTED, outbound=True)
BRIDGED = replace(_ROUTED, transfers="bridge")
_AGENT = TalkTo("reception")
_MENU = Menu("choices.wav", keys={"0": DialTo("sip:desk@192.0.2.1"), "1": _AGENT})
_GREETED = planned(PlaySounds(("hello.wav",), then=_AGENT))
_READY = ev.AgentReady(CALL, "session")
_UP = ev.MediaUp(CALL, "PCMU/8000")
_TRANSFER = tool.TransferAsked(CALL, "transfer", "sip:desk@192.0.2.1")
_WARM = tool.TransferAsked(CALL, "warm transfer", "sip:desk@192.0.2.1", warm=True, summary="an order")
_HEARD = ev.PlayedOut(CALL)
_PLAYED = ev.PlayedOut(CALL, 1)
_ANSWERED = ev.SecondUp(CALL, "PCMU/8000")
_STOP = ev.StopAsked(CALL, "")
_GONE = ev.LegClosed(CALL, by_caller=False, code=200, reason="")

_WITHOUT_ARGUMENTS = tool.BuiltinToolAsked.__match_args__

WAYS: Mapping[Phase, tuple[ev.CallEvent, ...]] = {
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

SAMPLES: Mapping[str, ev.CallEvent] = {
    "Planned, an agent": planned(_AGENT),
    "Planned, another step": planned(_MENU),
    "Routed": _ROUTED,
    "Routed, outbound": _OUTBOUND,
    "ChoiceFailed": ev.ChoiceFailed(CALL, ""),
    "AgentReady": _READY,
    "AgentFailed, refused": ev.AgentFailed(CALL, AgentRefused("")),
    "AgentFailed, lost": ev.AgentFailed(CALL, AgentLost("")),
    "AgentClosed": ev.AgentClosed(CALL, 1000, ""),
    "AgentAway": ev.AgentAway(CALL, ""),
    "AgentBack": ev.AgentBack(CALL, "session"),
    "AgentExpiring": ev.AgentExpiring(CALL, 30),
    "BudgetLow": ev.BudgetLow(CALL, 0.9, "max_usd 1"),
    "BudgetUsedUp": ev.BudgetUsedUp(CALL, 1.01, "max_usd 1"),
    "AnswerLate": ev.AnswerLate(CALL),
    "AnswerCame": ev.AnswerCame(CALL),
    "ApologyAsked": ev.ApologyAsked(CALL, "sorry.wav"),
    "MediaUp": _UP,
    "EarlyMediaUp": ev.EarlyMediaUp(CALL, "PCMU/8000"),
    "MediaLost": ev.MediaLost(CALL, 30),
    "LegRinging": ev.LegRinging(CALL, 180),
    "LegHeld": ev.LegHeld(CALL),
    "LegResumed": ev.LegResumed(CALL),
    "DigitPressed": ev.DigitPressed(CALL, "5", at=PlayoutPosition("item", 100)),
    "DigitPressed, #": ev.DigitPressed(CALL, "#"),
    "DigitPressed, shortcut": ev.DigitPressed(CALL, "0", at=PlayoutPosition("item", 100)),
    "SpeechStarted, agent silent": ev.SpeechStarted(CALL),
    "SpeechStarted, agent speaking": ev.SpeechStarted(CALL, at=PlayoutPosition("item", 100)),
    "SpeechStarted, may not interrupt": ev.SpeechStarted(CALL, at=PlayoutPosition("item", 100), interrupts=False),
    "SpeechStopped": ev.SpeechStopped(CALL),
    "CallerSpoke": ev.CallerSpoke(CALL, "item", ""),
    "AgentSpoke": ev.AgentSpoke(CALL, "item", ""),
    "PlayedOut": _HEARD,
    "PlayedOut, sounds": _PLAYED,
    "HangUpAsked": tool.HangUpAsked(CALL, "hang up", "done"),
    "TransferAsked": _TRANSFER,
    "TransferAsked, warm": _WARM,
    "TransferEnded, 2xx": ev.TransferEnded(CALL, 200, "OK"),
    "TransferEnded, other": ev.TransferEnded(CALL, 486, "Busy Here"),
    "TransferEnded, REFER refused": ev.TransferEnded(CALL, 603, "Decline", refused=True),
    "SecondRinging": ev.SecondRinging(CALL, 180),
    "SecondUp": _ANSWERED,
    "SecondDigit, 1": ev.SecondDigit(CALL, "1", at=PlayoutPosition("item", 100)),
    "SecondDigit, 2": ev.SecondDigit(CALL, "2", at=PlayoutPosition("item", 100)),
    "SecondClosed": ev.SecondClosed(CALL, 486, "Busy Here"),
    "RecordingAsked, on": tool.RecordingAsked(CALL, "record", on=True),
    "RecordingAsked, off": tool.RecordingAsked(CALL, "pause", on=False),
    "AnnouncementSaid": ev.AnnouncementSaid(CALL),
    "AnnouncementFailed": ev.AnnouncementFailed(CALL, "server_error"),
    "RecordingFailed": ev.RecordingFailed(CALL, "disk full"),
    "RecordingSaved": ev.RecordingSaved(CALL, "call.wav", 60),
    "DigitsAsked": tool.DigitsAsked(CALL, "digits", "1"),
    **{kind.__name__: kind(CALL, kind.__name__) for kind in tool.EVENTS if kind.__match_args__ == _WITHOUT_ARGUMENTS},
    "ToolAsked": ev.ToolAsked(CALL, "tool", "weather", "{}"),
    "ToolFinished": ev.ToolFinished(CALL, "tool", "weather", "rain", failed=False, took_ms=5),
    "McpCallBegan": ev.McpCallBegan(CALL, "mcp", "manuals", "search"),
    "McpCallEnded": ev.McpCallEnded(CALL, "mcp", "manuals", "search", failed=False),
    "LegClosed, 487": ev.LegClosed(CALL, by_caller=True, code=487, reason=""),
    "LegClosed, 486": ev.LegClosed(CALL, by_caller=True, code=486, reason=""),
    "LegClosed, caller": ev.LegClosed(CALL, by_caller=True, code=200, reason=""),
    "LegClosed, not the caller": _GONE,
    "LegFailed": ev.LegFailed(CALL, ""),
    "TimerFired, setup": ev.TimerFired(CALL, SETUP),
    "TimerFired, patience": ev.TimerFired(CALL, PATIENCE),
    "TimerFired, menu": ev.TimerFired(CALL, MENU),
    "TimerFired, ringing": ev.TimerFired(CALL, RINGING),
    "TimerFired, max_length": ev.TimerFired(CALL, MAX_LENGTH),
    "TimerFired, ending": ev.TimerFired(CALL, ENDING),
    "TimerFired, guard": ev.TimerFired(CALL, GUARD, at=PlayoutPosition("item", 100)),
    "TimerFired, hold": ev.TimerFired(CALL, HOLD),
    "TimerFired, keys": ev.TimerFired(CALL, KEYS),
    "TimerFired, goodbye": ev.TimerFired(CALL, GOODBYE),
    "TimerFired, transfer": ev.TimerFired(CALL, TRANSFER),
    "TimerFired, second": ev.TimerFired(CALL, SECOND),
    "TimerFired, briefing": ev.TimerFired(CALL, BRIEFING, at=PlayoutPosition("item", 100)),
    "TimerFired, filler": ev.TimerFired(CALL, FILLER),
    "HangUpCommanded, at once": given.HangUpCommanded(CALL, "hang up", "ann"),
    "HangUpCommanded, with a goodbye": given.HangUpCommanded(CALL, "goodbye", "ann", goodbye=True),
    "TransferCommanded": given.TransferCommanded(CALL, "transfer", "ann", "sip:desk@192.0.2.1"),
    "DigitsCommanded": given.DigitsCommanded(CALL, "digits", "ann", "1"),
    "SayCommanded": given.SayCommanded(CALL, "say", "ann", "One moment."),
    "WhisperCommanded": given.WhisperCommanded(CALL, "whisper", "ann", "Offer a discount."),
    "TakeOverCommanded": given.TakeOverCommanded(CALL, "take over", "ann", "sip:ann@192.0.2.1"),
    "GiveBackCommanded": given.GiveBackCommanded(CALL, "give back", "ann"),
    "TraceCommanded": given.TraceCommanded(CALL, "trace", "ann"),
    "StopAsked": _STOP,
    "OrderFailed": ev.OrderFailed(CALL, ""),
    "Noted": ev.Noted(CALL, "usage", {}),
}
"""Every event the machine knows, in each form it tells apart."""
