"""The keys a caller presses: numbers for the agent, and shortcuts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.audio.played import PlayoutPosition
from gateway.call import actions as do
from gateway.call import builtin_tools as tool
from gateway.call import events as ev
from gateway.call.machine.dtmf import MOST_KEYS
from gateway.call.machine.phase import Phase
from tests.unit.call.machine.talks import CALL, GUARDED, READY, ROUTED, after, talking

pytestmark = pytest.mark.unit

CUT = (do.CancelResponse(), do.FlushPlayout())
PAUSE = ev.TimerFired(CALL, "keys")


def key(digit: str, at: PlayoutPosition | None = None) -> ev.DigitPressed:
    return ev.DigitPressed(CALL, digit, at=at)


def told(text: str, *, respond: bool = True) -> do.CallAction:
    return do.TellAgent(f"The caller pressed: {text}", respond)


def test_a_key_cuts_the_agent_off_where_it_was() -> None:
    cut = (do.CancelResponse(), do.FlushPlayout(), do.Truncate("item_1", 740), do.StartTimer("keys", 1.5))
    assert talking().handle(key("4", PlayoutPosition("item_1", 740))) == cut


def test_keys_are_told_together_after_a_pause() -> None:
    machine = talking()
    assert machine.handle(key("1")) == (*CUT, do.StartTimer("keys", 1.5))
    assert machine.handle(key("2")) == (*CUT, do.CancelTimer("keys"), do.StartTimer("keys", 1.5))
    assert machine.handle(PAUSE) == (told("1 2"),)
    assert machine.handle(PAUSE) == ()
    assert machine.handle(key("3")) == (*CUT, do.StartTimer("keys", 1.5))
    assert machine.handle(PAUSE) == (told("3"),)


def test_a_hash_ends_a_number_at_once() -> None:
    machine = talking(key("1"), key("2"), key("3"))
    assert machine.handle(key("#")) == (*CUT, do.CancelTimer("keys"), told("1 2 3 #"))
    assert machine.handle(key("#")) == (*CUT, told("#"))


def test_a_number_without_end_is_told_in_parts() -> None:
    machine = talking(*(key("7") for _ in range(MOST_KEYS - 1)))
    assert machine.handle(key("8"))[-1] == told(" ".join("7" * (MOST_KEYS - 1)) + " 8")
    assert machine.handle(key("9"))[-1] == do.StartTimer("keys", 1.5)


def test_a_shortcut_transfers_at_once_without_last_words() -> None:
    machine = talking()
    sent = (do.Transfer("sip:desk@192.0.2.7"), do.StartTimer("transfer", 30))
    assert machine.handle(key("0", PlayoutPosition("item_1", 300))) == (*CUT, do.Truncate("item_1", 300), *sent)
    failed = (
        do.CancelTimer("transfer"),
        do.TellAgent("The transfer failed: 486 Busy Here. The caller is still here.", True),
    )
    assert machine.handle(ev.TransferEnded(CALL, 486, "Busy Here")) == failed


def test_a_shortcuts_key_in_the_midst_of_a_number_belongs_to_the_number() -> None:
    machine = talking(key("1"), key("0"))
    assert machine.handle(PAUSE) == (told("1 0"),)


@pytest.mark.parametrize(
    "busy", [tool.HangUpAsked(CALL, "call_1", "done"), tool.TransferAsked(CALL, "call_1", "sip:a@192.0.2.1")]
)
def test_a_shortcut_does_nothing_when_the_call_is_leaving_already(busy: ev.CallEvent) -> None:
    assert talking(busy).handle(key("0")) == ()


def test_keys_pressed_while_a_transfer_is_under_way_are_told_silently() -> None:
    machine = talking(tool.TransferAsked(CALL, "call_1", "sip:a@192.0.2.1"), ev.PlayedOut(CALL), key("5"))
    assert machine.handle(PAUSE) == (told("5", respond=False),)


def test_without_a_shortcut_and_an_agent_who_is_told_a_key_does_nothing() -> None:
    machine = talking(routed=replace(ROUTED, keypad=ev.Keypad(to_agent=False, shortcuts={"9": "sip:a@192.0.2.1"})))
    assert machine.handle(key("4", PlayoutPosition("item_1", 20))) == ()
    assert do.Transfer("sip:a@192.0.2.1") in machine.handle(key("9"))


def test_a_key_while_speech_is_weighed_settles_it() -> None:
    machine = talking(ev.SpeechStarted(CALL, at=PlayoutPosition("item_1", 500)), routed=GUARDED)
    cut = (
        do.CancelResponse(),
        do.CancelTimer("guard"),
        do.FlushPlayout(),
        do.Truncate("item_1", 500),
        do.StartTimer("keys", 1.5),
    )
    assert machine.handle(key("1", PlayoutPosition("item_1", 500))) == cut


@pytest.mark.parametrize("way", [(ROUTED,), (ROUTED, READY), (replace(ROUTED, outbound=True), READY)])
def test_keys_before_the_answer_are_passed_over(way: tuple[ev.CallEvent, ...]) -> None:
    machine = after(*way)
    before = machine.phase
    assert machine.handle(key("0")) == ()
    assert machine.phase is before


def test_keys_after_the_end_are_passed_over() -> None:
    machine = talking()
    machine.handle(ev.StopAsked(CALL, ""))
    assert machine.phase is Phase.ENDING
    assert machine.handle(key("0")) == ()
