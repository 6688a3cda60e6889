"""What the history says of each event: its name there and its fields, word for word."""

from __future__ import annotations

import pytest

from docs.generate.samples import SAMPLES
from gateway.call.builtin_tools import TransferAsked
from gateway.call.commands import CommandGiven
from gateway.call.events import CallEvent, EarlyMediaUp, MediaUp, Noted, Scalar, SecondClosed, SecondUp
from gateway.call.machine.phase import Phase
from gateway.call.session.journal import Journal, heard_text
from gateway.ids import CallId
from tests.fakes.clock import FakeClock
from tests.fakes.playout import FakePlayout
from tests.fakes.store import FakeStore

pytestmark = pytest.mark.unit

CALL = CallId("call")

FORMS: dict[str, CallEvent] = {
    **{name: event for name, event in SAMPLES.items() if not isinstance(event, CommandGiven)},
    "MediaUp, no stream": MediaUp(CALL, ""),
    "EarlyMediaUp, no stream": EarlyMediaUp(CALL, ""),
    "SecondUp, no stream": SecondUp(CALL, ""),
    "SecondClosed, redirected": SecondClosed(
        CALL, 302, "Moved", cause=23, contacts=("sip:a@192.0.2.1", "sip:b@192.0.2.1")
    ),
    "TransferAsked, key": TransferAsked(CALL, "", "sip:desk@192.0.2.1"),
    "Noted, fields": Noted(CALL, "rate_limits", {"name": "tokens", "left_s": 0.5, "failed": True}),
}
"""Each event in each form that is written differently; for operators' commands see test_session_commands.py."""

WRITTEN: dict[str, tuple[str | None, dict[str, Scalar]]] = {
    "Planned, an agent": (None, {}),
    "Planned, another step": (None, {}),
    "Routed": (None, {}),
    "Routed, outbound": (None, {}),
    "ChoiceFailed": ("choice_failed", {"detail": ""}),
    "AgentReady": (None, {"upstream_session_id": "session"}),
    "AgentFailed, refused": (None, {}),
    "AgentFailed, lost": (None, {}),
    "AgentClosed": (None, {}),
    "AgentAway": ("agent_away", {"detail": ""}),
    "AgentBack": ("agent_back", {"upstream_session_id": "session"}),
    "AgentExpiring": ("agent_expiring", {"left_s": 30}),
    "BudgetLow": ("budget_low", {"spent_usd": 0.9, "limit": "max_usd 1"}),
    "BudgetUsedUp": ("budget_used_up", {"spent_usd": 1.01, "limit_exceeded": "max_usd 1"}),
    "AnswerLate": ("answer_late", {}),
    "AnswerCame": ("answer_came", {}),
    "ApologyAsked": ("apology_asked", {"sound": "sorry.wav"}),
    "MediaUp": ("media_up", {"codec": "PCMU/8000"}),
    "EarlyMediaUp": ("early_media_up", {"codec": "PCMU/8000"}),
    "MediaLost": (None, {}),
    "LegRinging": ("leg_ringing", {"code": 180}),
    "LegHeld": ("held", {}),
    "LegResumed": ("resumed", {}),
    "DigitPressed": ("digit_pressed", {"digit": "5"}),
    "DigitPressed, #": ("digit_pressed", {"digit": "#"}),
    "DigitPressed, shortcut": ("digit_pressed", {"digit": "0"}),
    "SpeechStarted, agent silent": ("speech_started", {}),
    "SpeechStarted, agent speaking": ("speech_started", {"item_id": "item", "played_ms": 100}),
    "SpeechStarted, may not interrupt": ("speech_started", {"item_id": "item", "played_ms": 100}),
    "SpeechStopped": ("speech_stopped", {}),
    "CallerSpoke": ("caller_spoke", {"item_id": "item", "text": ""}),
    "AgentSpoke": ("agent_spoke", {"item_id": "item", "text": ""}),
    "PlayedOut": (None, {}),
    "PlayedOut, sounds": (None, {}),
    "HangUpAsked": ("hang_up_asked", {"tool_call_id": "hang up", "reason": "done"}),
    "LeaveMessageAsked": ("leave_message_asked", {"tool_call_id": "LeaveMessageAsked"}),
    "TransferAsked": ("transfer_asked", {"tool_call_id": "transfer", "target": "sip:desk@192.0.2.1", "warm": False}),
    "TransferAsked, warm": (
        "transfer_asked",
        {"tool_call_id": "warm transfer", "target": "sip:desk@192.0.2.1", "warm": True},
    ),
    "TransferEnded, 2xx": ("transfer_ended", {"code": 200, "reason": "OK", "refused": False}),
    "TransferEnded, other": ("transfer_ended", {"code": 486, "reason": "Busy Here", "refused": False}),
    "TransferEnded, REFER refused": ("transfer_ended", {"code": 603, "reason": "Decline", "refused": True}),
    "SecondRinging": ("second_ringing", {"code": 180}),
    "SecondUp": ("second_up", {"second_codec": "PCMU/8000"}),
    "SecondDigit, 1": ("second_digit", {"digit": "1"}),
    "SecondDigit, 2": ("second_digit", {"digit": "2"}),
    "SecondClosed": ("second_closed", {"code": 486, "reason": "Busy Here"}),
    "RecordingAsked, on": ("recording_asked", {"tool_call_id": "record", "on": True}),
    "RecordingAsked, off": ("recording_asked", {"tool_call_id": "pause", "on": False}),
    "AnnouncementSaid": ("announcement_said", {}),
    "AnnouncementFailed": ("announcement_failed", {"detail": "server_error"}),
    "RecordingFailed": ("recording_failed", {"detail": "disk full"}),
    "RecordingSaved": ("recording_saved", {"recording": "call.wav", "seconds": 60}),
    "DigitsAsked": ("digits_asked", {"tool_call_id": "digits", "digits": "1"}),
    "WaitAsked": ("wait_asked", {"tool_call_id": "WaitAsked"}),
    "ToolAsked": ("tool_asked", {"tool_call_id": "tool", "name": "weather", "arguments": "{}"}),
    "ToolFinished": (
        "tool_finished",
        {"tool_call_id": "tool", "name": "weather", "output": "rain", "failed": False, "took_ms": 5},
    ),
    "McpCallBegan": ("mcp_call_began", {"item_id": "mcp", "server_label": "manuals", "name": "search"}),
    "McpCallEnded": (
        "mcp_call_ended",
        {"item_id": "mcp", "server_label": "manuals", "name": "search", "failed": False},
    ),
    "LegClosed, 487": (None, {}),
    "LegClosed, 486": (None, {}),
    "LegClosed, caller": (None, {}),
    "LegClosed, not the caller": (None, {}),
    "LegFailed": (None, {}),
    "TimerFired, setup": (None, {}),
    "TimerFired, patience": (None, {}),
    "TimerFired, menu": (None, {}),
    "TimerFired, ringing": (None, {}),
    "TimerFired, max_length": (None, {}),
    "TimerFired, ending": (None, {}),
    "TimerFired, guard": (None, {}),
    "TimerFired, hold": (None, {}),
    "TimerFired, keys": (None, {}),
    "TimerFired, goodbye": (None, {}),
    "TimerFired, transfer": (None, {}),
    "TimerFired, second": (None, {}),
    "TimerFired, briefing": (None, {}),
    "TimerFired, filler": (None, {}),
    "StopAsked": (None, {}),
    "OrderFailed": (None, {}),
    "Noted": ("usage", {}),
    "MediaUp, no stream": ("media_up", {}),
    "EarlyMediaUp, no stream": ("early_media_up", {}),
    "SecondUp, no stream": ("second_up", {"second_codec": ""}),
    "SecondClosed, redirected": (
        "second_closed",
        {"code": 302, "reason": "Moved", "contacts": "sip:a@192.0.2.1, sip:b@192.0.2.1"},
    ),
    "TransferAsked, key": ("transfer_asked", {"tool_call_id": "", "target": "sip:desk@192.0.2.1", "warm": False}),
    "Noted, fields": ("rate_limits", {"name": "tokens", "left_s": 0.5, "failed": True}),
}
"""Name and fields in the stream; no name: written down only where the phase changes."""


def written(event: CallEvent, before: Phase, after: Phase) -> list[tuple[str, list[tuple[str, Scalar]]]]:
    """Return what is written of an event, fields in their order, but for times."""
    store, clock = FakeStore(), FakeClock()
    notes = Journal(CALL, store, clock, FakePlayout(), {})
    notes.write_down(event, clock.monotonic(), (), before=before, after=after, outcome=None)
    times = {"ringing_at", "answered_at", "setup_ms"}
    return [(name, [(key, value) for key, value in said.items() if key not in times]) for _, name, said in store.notes]


@pytest.mark.parametrize("form", FORMS)
def test_an_event_is_written_under_its_name_with_its_fields(form: str) -> None:
    name, said = WRITTEN[form]
    expected = [] if name is None else [(name, list(said.items()))]
    assert written(FORMS[form], Phase.ACTIVE, Phase.ACTIVE) == expected


@pytest.mark.parametrize("form", [form for form, event in FORMS.items() if not isinstance(event, Noted)])
def test_an_event_that_changes_the_phase_is_written_under_the_name_of_the_phase(form: str) -> None:
    _, said = WRITTEN[form]
    assert written(FORMS[form], Phase.ANSWERING, Phase.ACTIVE) == [("active", [("state", "active"), *said.items()])]


@pytest.mark.parametrize(
    ("played_ms", "heard"),
    [
        (0, ""),
        (200, ""),  # in the middle of the first word
        (300, "Good"),
        (400, "Good"),
        (500, "Good day,"),
        (600, "Good day,"),
        (700, "Good day, my"),
        (999, "Good day, my"),
        (1000, "Good day, my friend"),
        (1020, "Good day, my friend"),
    ],
)
def test_a_transcript_is_cut_at_a_word_in_proportion_to_the_audio(played_ms: int, heard: str) -> None:
    assert heard_text("Good day, my friend", played_ms, 1000) == heard


def test_a_transcript_without_blanks_is_cut_at_a_letter() -> None:
    assert heard_text("こんにちは", 900, 1000) == "こんにち"
    assert heard_text("こんにちは", 1000, 1000) == "こんにちは"


def test_an_item_of_which_nothing_came_has_nothing_to_cut() -> None:
    assert heard_text("", 0, 0) == ""
