"""Which messages are kept, and for how long."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.privacy import PrivacyMode
from gateway.settings.sip import SipSettings
from gateway.sip.core.message import parse_message
from gateway.sip.core.source import Source
from gateway.sip.screen.trace import _ANSWERED, _FIRST, _LAST, _WAITING, Tracer, delete_old_traces

pytestmark = pytest.mark.unit


def see(
    by: Tracer, at: float, sent: bool, call_id: str, first: str = "INVITE sip:x SIP/2.0", cseq: str = "1 INVITE"
) -> None:
    """Have a message go by."""
    text = (
        f"{first}\r\nVia: SIP/2.0/UDP h\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:x@h>\r\n"
        f"Call-ID: {call_id}\r\nCSeq: {cseq}\r\nX-Long: {'x' * 10_000}\r\n\r\n"
    )
    by.saw(at, sent, Source.at("192.0.2.1:5060"), parse_message(text), text)


def tracer(mode: str, folder: Path = Path("traces")) -> Tracer:
    return Tracer(SipSettings.model_validate({"trace": mode, "trace_folder": folder}))


def test_nothing_is_kept_while_it_is_off() -> None:
    off = tracer("off")
    see(off, 1, False, "a")
    assert off.finish("a", keep=True) is None
    off.close()


@pytest.mark.parametrize("mode", ["off", "failed", "all"])
def test_a_call_that_is_followed_is_kept_from_then_on_whatever_the_settings_say(mode: str, tmp_path: Path) -> None:
    traces = tracer(mode, tmp_path)
    see(traces, 1, False, "a")
    see(traces, 1, False, "b")
    traces.follow("a")
    traces.follow("a")
    see(traces, 2, False, "a", "BYE sip:x SIP/2.0", "2 BYE")
    path = traces.finish("a", keep=False)
    see(traces, 3, True, "a", "SIP/2.0 200 OK", "2 BYE")
    traces.follow("a")  # too late
    assert path is not None
    assert traces.finish("b", keep=False) is None or mode == "all"
    traces.close()
    text = path.read_text()
    assert f"{2 if mode == 'off' else 3} messages" in text
    assert "BYE sip:x SIP/2.0" in text
    assert not traces._followed


def test_a_call_that_was_followed_too_late_to_hear_anything_leaves_no_file(tmp_path: Path) -> None:
    traces = tracer("off", tmp_path)
    traces.follow("a")
    assert traces.finish("a", keep=False) is not None  # what follows its end may still come
    traces.close()
    assert list(tmp_path.iterdir()) == []


def test_a_call_of_ours_is_followed_from_its_invite_on(tmp_path: Path) -> None:
    traces = tracer("off", tmp_path)
    with traces.follow_new():
        see(traces, 1, False, "theirs")
        see(traces, 1, True, "ours")
    see(traces, 1, True, "later")
    assert traces.finish("ours", keep=False) is not None
    assert traces.finish("theirs", keep=True) is None
    assert traces.finish("later", keep=True) is None
    traces.close()


def test_followed_calls_whose_end_is_never_told_are_forgotten() -> None:
    traces = tracer("off")
    for number in range(500):
        traces.follow(f"call{number}")
    assert len(traces._followed) == _ANSWERED
    traces.close()


def test_only_calls_are_kept_and_those_that_ended_well_are_not_written() -> None:
    failed = tracer("failed")
    see(failed, 1, False, "ping", "OPTIONS sip:x SIP/2.0", "1 OPTIONS")
    see(failed, 1, False, "a")
    assert failed.finish("ping", keep=True) is None
    assert failed.finish("unknown", keep=True) is None
    assert failed.finish("a", keep=False) is None
    assert failed.finish("a", keep=True) is None  # it was over
    failed.close()


def test_a_flood_of_invites_pushes_out_its_own_and_no_answered_call() -> None:
    kept = tracer("all")
    see(kept, 1, False, "live")
    see(kept, 1, True, "live", "SIP/2.0 200 OK")
    for number in range(5000):
        see(kept, 1, False, f"flood{number}")
    assert len(kept._waiting) == _WAITING
    assert "live" in kept._answered
    for number in range(5000):
        see(kept, 1, False, f"call{number}")
        see(kept, 1, True, f"call{number}", "SIP/2.0 200 OK")
    assert len(kept._answered) == _ANSWERED


def test_of_a_long_call_the_begin_and_the_end_are_kept() -> None:
    kept = tracer("all")
    for number in range(1000):
        see(kept, number, False, "a")
    call = kept._waiting["a"]
    assert call.count == 1000
    assert [call.first[0].at, call.first[-1].at] == [0, _FIRST - 1]
    assert [call.last[0].at, call.last[-1].at] == [1000 - _LAST, 999]
    assert len(call.last[0].text) <= 8000


def test_a_trace_is_for_nobody_else_on_the_machine_and_a_long_call_id_hides_no_call(tmp_path: Path) -> None:
    call_id = "a" * 255 + "@b"
    kept = tracer("all", tmp_path / "new" / "traces")
    see(kept, 1, False, call_id)
    path = kept.finish(call_id, keep=True)
    kept.close()
    assert path is not None
    for file in (path, path.with_suffix(".pcap")):
        assert file.stat().st_mode & 0o137 == 0
    assert path.parent.stat().st_mode & 0o027 == 0
    assert call_id in path.read_text()


CALLER = "4930111222333"


def private(privacy: PrivacyMode, folder: Path) -> Path | None:
    """Trace a call that names its caller wherever it can; return where it is."""
    kept = Tracer(SipSettings.model_validate({"trace": "all", "trace_folder": folder}), privacy)
    text = (
        f"INVITE sip:+{CALLER}@h SIP/2.0\r\nVia: SIP/2.0/UDP h\r\n"
        f'From: "Alice" <sip:{CALLER}@b>;tag=1\r\nTo: <sip:x@h>\r\n'
        f"Call-ID: {CALLER}@h\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"
    )
    kept.saw(1, False, Source.at("192.0.2.1:5060"), parse_message(text), text)
    path = kept.finish(f"{CALLER}@h", keep=True)
    kept.close()
    return path


def test_a_trace_has_no_whole_number_and_no_name_where_they_are_shortened(tmp_path: Path) -> None:
    path = private("shortened", tmp_path)
    assert path is not None
    for file in (path, path.with_suffix(".pcap")):
        assert CALLER not in file.name
        told = file.read_bytes()
        assert b"493011122****@b" in told
        assert CALLER.encode() not in told
        assert b"Alice" not in told


def test_a_trace_is_whole_unless_the_settings_say_otherwise(tmp_path: Path) -> None:
    path = private("full", tmp_path)
    assert path is not None
    assert f'"Alice" <sip:{CALLER}@b>' in path.read_text()


def test_there_is_no_trace_where_nothing_but_counts_is_kept(tmp_path: Path) -> None:
    assert private("counts", tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_old_traces_are_deleted_and_nothing_else(tmp_path: Path) -> None:
    old = ["20260101T000000.000Z-a@b.txt", "20260101T000000.000Z-a@b.pcap"]
    others = ["20260102T000000.000Z-c.txt", "notes.txt", "20260101T000000.000Z-d.wav"]
    for name in (*old, *others):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1000, 1000) if name != others[0] else (90_000, 90_000))
    (tmp_path / "20260101T000000.000Z-link.txt").symlink_to(tmp_path / "notes.txt")
    delete_old_traces(tmp_path, 0, 1e9)
    assert len(list(tmp_path.iterdir())) == 6
    delete_old_traces(tmp_path, 1, 1000 + 86_401)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*others, "20260101T000000.000Z-link.txt"])
    delete_old_traces(tmp_path / "missing", 1, 1e9)
