"""
Everything that can happen to a call: frozen facts, in the past tense.

They are made where the thing happened (SIP thread, realtime client, timers), carried to the call's inbox and handed to
``CallMachine.handle`` one by one. Audio is not among them: frames have their own short path.
"""

from __future__ import annotations

from gateway.call.events.agent import (
    AgentAway,
    AgentBack,
    AgentClosed,
    AgentExpiring,
    AgentFailed,
    AgentReady,
    AgentSpoke,
    CallerSpoke,
    DigitsAsked,
    HangUpAsked,
    LeaveMessageAsked,
    PlayedOut,
    RecordingAsked,
    RecordingFailed,
    RecordingSaved,
    SpeechStarted,
    SpeechStopped,
    ToolAsked,
    ToolFinished,
    TransferAsked,
    WaitAsked,
)
from gateway.call.events.base import (
    CallEvent,
    Noted,
    OrderFailed,
    StopAsked,
    TimerFired,
)
from gateway.call.events.leg import (
    DigitPressed,
    IncomingInvite,
    LegClosed,
    LegFailed,
    LegHeld,
    LegResumed,
    LegRinging,
    MediaLost,
    MediaUp,
    SecondClosed,
    SecondDigit,
    SecondRinging,
    SecondUp,
    TransferEnded,
)
from gateway.call.events.route import (
    Keypad,
    Routed,
)

__all__ = [
    "AgentAway",
    "AgentBack",
    "AgentClosed",
    "AgentExpiring",
    "AgentFailed",
    "AgentReady",
    "AgentSpoke",
    "CallEvent",
    "CallerSpoke",
    "DigitPressed",
    "DigitsAsked",
    "HangUpAsked",
    "IncomingInvite",
    "Keypad",
    "LeaveMessageAsked",
    "LegClosed",
    "LegFailed",
    "LegHeld",
    "LegResumed",
    "LegRinging",
    "MediaLost",
    "MediaUp",
    "Noted",
    "OrderFailed",
    "PlayedOut",
    "RecordingAsked",
    "RecordingFailed",
    "RecordingSaved",
    "Routed",
    "SecondClosed",
    "SecondDigit",
    "SecondRinging",
    "SecondUp",
    "SpeechStarted",
    "SpeechStopped",
    "StopAsked",
    "TimerFired",
    "ToolAsked",
    "ToolFinished",
    "TransferAsked",
    "TransferEnded",
    "WaitAsked",
]
