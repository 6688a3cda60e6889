"""What an event tells: its name in the call's history, and its fields, named as in the record and the stream."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.audio.played import PlayoutPosition
from gateway.call.events import (
    AgentAway,
    AgentBack,
    AgentExpiring,
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
    DigitsAsked,
    EarlyMediaUp,
    HangUpAsked,
    LeaveMessageAsked,
    LegHeld,
    LegResumed,
    LegRinging,
    McpCallBegan,
    McpCallEnded,
    MediaUp,
    RecordingAsked,
    RecordingFailed,
    RecordingSaved,
    SecondClosed,
    SecondDigit,
    SecondRinging,
    SecondUp,
    SpeechStarted,
    SpeechStopped,
    ToolAsked,
    ToolFinished,
    TransferAsked,
    TransferEnded,
    WaitAsked,
)
from gateway.call.ports import Scalar

NOTABLE: Mapping[type[CallEvent], str] = {
    MediaUp: "media_up",
    EarlyMediaUp: "early_media_up",
    ChoiceFailed: "choice_failed",
    LegRinging: "leg_ringing",
    LegHeld: "held",
    LegResumed: "resumed",
    DigitPressed: "digit_pressed",
    SpeechStarted: "speech_started",
    SpeechStopped: "speech_stopped",
    AgentSpoke: "agent_spoke",
    CallerSpoke: "caller_spoke",
    AgentAway: "agent_away",
    AgentBack: "agent_back",
    AgentExpiring: "agent_expiring",
    AnswerLate: "answer_late",
    AnswerCame: "answer_came",
    ApologyAsked: "apology_asked",
    ToolAsked: "tool_asked",
    ToolFinished: "tool_finished",
    McpCallBegan: "mcp_call_began",
    McpCallEnded: "mcp_call_ended",
    HangUpAsked: "hang_up_asked",
    TransferAsked: "transfer_asked",
    TransferEnded: "transfer_ended",
    SecondRinging: "second_ringing",
    SecondUp: "second_up",
    SecondDigit: "second_digit",
    SecondClosed: "second_closed",
    DigitsAsked: "digits_asked",
    WaitAsked: "wait_asked",
    LeaveMessageAsked: "leave_message_asked",
    RecordingAsked: "recording_asked",
    AnnouncementSaid: "announcement_said",
    AnnouncementFailed: "announcement_failed",
    RecordingFailed: "recording_failed",
    RecordingSaved: "recording_saved",
}
"""Events that stand in the call's history though they change no phase."""


def fields_of(event: CallEvent) -> dict[str, Scalar]:
    """Return what an event itself says, named as in the record and the stream of events."""
    match event:
        case AgentReady(session_id=session_id) | AgentBack(session_id=session_id):
            return {"upstream_session_id": session_id}
        case SpeechStarted(at=PlayoutPosition(item_id=item_id, played_ms=played_ms)):
            return {"item_id": item_id, "played_ms": played_ms}
        case AgentSpoke(item_id=item_id, text=text) | CallerSpoke(item_id=item_id, text=text):
            return {"item_id": item_id, "text": text}
        case AgentAway(detail=detail) | RecordingFailed(detail=detail) | ChoiceFailed(detail=detail):
            return {"detail": detail}
        case AgentExpiring(left_s=left_s):
            return {"left_s": left_s}
        case RecordingSaved(path=path, seconds=seconds):
            return {"recording": path, "seconds": seconds}
        case McpCallBegan(item_id=item_id, server_label=label, name=name):
            return {"item_id": item_id, "server_label": label, "name": name}
        case McpCallEnded(item_id=item_id, server_label=label, name=name, failed=failed):
            return {"item_id": item_id, "server_label": label, "name": name, "failed": failed}
        case _:
            return _fields_of_answer(event) or _fields_of_leg(event) or _fields_of_tool(event)


def _fields_of_answer(event: CallEvent) -> dict[str, Scalar]:
    match event:
        case AnnouncementFailed(detail=detail):
            return {"detail": detail}
        case ApologyAsked(sound=sound):
            return {"sound": sound}
        case _:
            return {}


def _fields_of_leg(event: CallEvent) -> dict[str, Scalar]:
    match event:
        case MediaUp(codec=codec) | EarlyMediaUp(codec=codec):
            return {"codec": codec} if codec else {}
        case SecondUp(codec=codec):
            return {"second_codec": codec}
        case LegRinging(code=code) | SecondRinging(code=code):
            return {"code": code}
        case TransferEnded(code=code, reason=reason, refused=refused):
            return {"code": code, "reason": reason, "refused": refused}
        case SecondClosed(code=code, reason=reason, contacts=contacts):
            told: dict[str, Scalar] = {"code": code, "reason": reason}
            return {**told, "contacts": ", ".join(contacts)} if contacts else told
        case DigitPressed(digit=digit) | SecondDigit(digit=digit):
            return {"digit": digit}
        case _:
            return {}


def _fields_of_tool(event: CallEvent) -> dict[str, Scalar]:
    match event:
        case ToolAsked(name=name, arguments=arguments):
            asked: dict[str, Scalar] = {"name": name, "arguments": arguments}
        case ToolFinished(name=name, output=output, failed=failed, took_ms=took_ms):
            asked = {"name": name, "output": output, "failed": failed, "took_ms": took_ms}
        case HangUpAsked(reason=reason):
            asked = {"reason": reason}
        case TransferAsked(target=target, warm=warm):
            asked = {"target": target, "warm": warm}
        case DigitsAsked(digits=digits):
            asked = {"digits": digits}
        case RecordingAsked(on=on):
            asked = {"on": on}
        case WaitAsked() | LeaveMessageAsked():
            asked = {}
        case _:
            return {}
    return {"tool_call_id": event.tool_call_id, **asked}


def heard_text(text: str, played_ms: int, received_ms: int) -> str:
    """
    Return the part of an item's transcript that was heard before the item was cut off.

    An estimate: as large a share of the letters as of the audio, up to the end of the last whole word (of the last
    letter, in writing without blanks). Speech is not even, so it may be a word off.
    """
    if played_ms >= received_ms:
        return text
    end = len(text) * played_ms // received_ms
    return text[: max(0, text.rfind(" ", 0, end + 1))] if " " in text else text[:end]
