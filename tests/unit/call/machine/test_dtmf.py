"""The keys a caller presses: numbers for the agent, and shortcuts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.audio.played import PlayoutPosition
from gateway.call.actions import (
    CallAction,
    CancelResponse,
    CancelTimer,
    FlushPlayout,
    StartTimer,
    TellAgent,
    Transfer,
    Truncate,
)
from gateway.call.builtin_tools import HangUpAsked, TransferAsked
from gateway.call.events import (
    CallEvent,
    DigitPressed,
    Keypad,
    PlayedOut,
    SpeechStarted,
    StopAsked,
    TimerFired,
    TransferEnded,
)
from gateway.call.machine.dtmf import MOST_KEYS
from gateway.call.machine.phase import Phase
from tests.unit.call.talks import CALL, GUARDED, READY, ROUTED, after, talking

pytestmark = pytest.mark.unit

CUT = (CancelResponse(), FlushPlayout())
PAUSE = TimerFired(CALL, "keys")


def key(digit: str, at: PlayoutPosition | None = None) -> DigitPressed:
    return DigitPressed(CALL, digit, at=at)


def told(text: str, *, respond: bool = True) -> CallAction:
    return TellAgent(f"The caller pressed: {text}", respond)


def test_a_key_cuts_the_agent_off_where_it_was() -> None:
    cut = (CancelResponse(), FlushPlayout(), Truncate("item_1", 740), StartTimer("keys", 1.5))
    assert talking().handle(key("4", PlayoutPosition("item_1", 740))) == cut


def test_keys_are_told_together_after_a_pause() -> None:
    machine = talking()
    assert machine.handle(key("1")) == (*CUT, StartTimer("keys", 1.5))
    assert machine.handle(key("2")) == (*CUT, CancelTimer("keys"), StartTimer("keys", 1.5))
    assert machine.handle(PAUSE) == (told("1 2"),)
    assert machine.handle(PAUSE) == ()
    assert machine.handle(key("3")) == (*CUT, StartTimer("keys", 1.5))
    assert machine.handle(PAUSE) == (told("3"),)


def test_a_hash_ends_a_number_at_once() -> None:
    machine = talking(key("1"), key("2"), key("3"))
    assert machine.handle(key("#")) == (*CUT, CancelTimer("keys"), told("1 2 3 #"))
    assert machine.handle(key("#")) == (*CUT, told("#"))


def test_a_number_without_end_is_told_in_parts() -> None:
    machine = talking(*(key("7") for _ in range(MOST_KEYS - 1)))
    assert machine.handle(key("8"))[-1] == told(" ".join("7" * (MOST_KEYS - 1)) + " 8")
    assert machine.handle(key("9"))[-1] == StartTimer("keys", 1.5)


def test_a_shortcut_transfers_at_once_without_last_words() -> None:
    machine = talking()
    sent = (Transfer("sip:desk@192.0.2.7"), StartTimer("transfer", 30))
    assert machine.handle(key("0", PlayoutPosition("item_1", 300))) == (*CUT, Truncate("item_1", 300), *sent)
    failed = (CancelTimer("transfer"), TellAgent("The transfer failed: 486 Busy Here. The caller is still here.", True))
    assert machine.handle(TransferEnded(CALL, 486, "Busy Here")) == failed


def test_a_shortcuts_key_in_the_midst_of_a_number_belongs_to_the_number() -> None:
    machine = talking(key("1"), key("0"))
    assert machine.handle(PAUSE) == (told("1 0"),)


@pytest.mark.parametrize(
    "busy", [HangUpAsked(CALL, "call_1", "done"), TransferAsked(CALL, "call_1", "sip:a@192.0.2.1")]
)
def test_a_shortcut_does_nothing_when_the_call_is_leaving_already(busy: CallEvent) -> None:
    assert talking(busy).handle(key("0")) == ()


def test_keys_pressed_while_a_transfer_is_under_way_are_told_silently() -> None:
    machine = talking(TransferAsked(CALL, "call_1", "sip:a@192.0.2.1"), PlayedOut(CALL), key("5"))
    assert machine.handle(PAUSE) == (told("5", respond=False),)


def test_without_a_shortcut_and_an_agent_who_is_told_a_key_does_nothing() -> None:
    machine = talking(routed=replace(ROUTED, keypad=Keypad(to_agent=False, shortcuts={"9": "sip:a@192.0.2.1"})))
    assert machine.handle(key("4", PlayoutPosition("item_1", 20))) == ()
    assert Transfer("sip:a@192.0.2.1") in machine.handle(key("9"))


def test_a_key_while_speech_is_weighed_settles_it() -> None:
    machine = talking(SpeechStarted(CALL, at=PlayoutPosition("item_1", 500)), routed=GUARDED)
    cut = (CancelResponse(), CancelTimer("guard"), FlushPlayout(), Truncate("item_1", 500), StartTimer("keys", 1.5))
    assert machine.handle(key("1", PlayoutPosition("item_1", 500))) == cut


@pytest.mark.parametrize("way", [(ROUTED,), (ROUTED, READY), (replace(ROUTED, outbound=True), READY)])
def test_keys_before_the_answer_are_passed_over(way: tuple[CallEvent, ...]) -> None:
    machine = after(*way)
    before = machine.phase
    assert machine.handle(key("0")) == ()
    assert machine.phase is before


def test_keys_after_the_end_are_passed_over() -> None:
    machine = talking()
    machine.handle(StopAsked(CALL, ""))
    assert machine.phase is Phase.ENDING
    assert machine.handle(key("0")) == ()
