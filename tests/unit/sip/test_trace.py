"""Which messages are kept, and for how long."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.settings import SipSettings
from gateway.sip.trace import _ANSWERED, _FIRST, _LAST, _WAITING, Tracer

pytestmark = pytest.mark.unit


def message(call_id: str, first_line: str = "INVITE sip:x SIP/2.0", cseq: str = "1 INVITE") -> str:
    return f"{first_line}\r\nCall-ID: {call_id}\r\nCSeq: {cseq}\r\n\r\n"


def tracer(mode: str, folder: Path = Path("traces")) -> Tracer:
    return Tracer(SipSettings.model_validate({"trace": mode, "trace_folder": folder}))


def test_nothing_is_kept_while_it_is_off() -> None:
    off = tracer("off")
    off.saw(1, False, "192.0.2.1:5060", message("a"))
    assert not off.wanted
    assert off.finish("a", keep=True) is None
    off.close()


def test_only_calls_are_kept_and_those_that_ended_well_are_not_written() -> None:
    failed = tracer("failed")
    failed.saw(1, False, "192.0.2.1:5060", message("ping", "OPTIONS sip:x SIP/2.0", "1 OPTIONS"))
    failed.saw(1, False, "192.0.2.1:5060", message("a"))
    assert failed.finish("ping", keep=True) is None
    assert failed.finish("unknown", keep=True) is None
    assert failed.finish("a", keep=False) is None
    assert failed.finish("a", keep=True) is None  # it was over
    failed.close()


def test_a_flood_of_invites_pushes_out_its_own_and_no_answered_call() -> None:
    kept = tracer("all")
    kept.saw(1, False, "192.0.2.1:5060", message("live"))
    kept.saw(1, True, "192.0.2.1:5060", message("live", "SIP/2.0 200 OK"))
    for number in range(5000):
        kept.saw(1, False, "192.0.2.1:5060", message(f"flood{number}"))
    assert len(kept._waiting) == _WAITING
    assert "live" in kept._answered
    for number in range(5000):
        kept.saw(1, False, "192.0.2.1:5060", message(f"call{number}"))
        kept.saw(1, True, "192.0.2.1:5060", message(f"call{number}", "SIP/2.0 200 OK"))
    assert len(kept._answered) == _ANSWERED


def test_of_a_long_call_the_begin_and_the_end_are_kept() -> None:
    kept = tracer("all")
    for number in range(1000):
        kept.saw(number, False, "192.0.2.1:5060", message("a") + "x" * 100_000)
    call = kept._waiting["a"]
    assert call.count == 1000
    assert [call.first[0].at, call.first[-1].at] == [0, _FIRST - 1]
    assert [call.last[0].at, call.last[-1].at] == [1000 - _LAST, 999]
    assert len(call.last[0].text) <= 8000
