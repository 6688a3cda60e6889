"""The files of a SIP trace, written by a thread of their own."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.settings.sip import SipSettings
from gateway.sip.core.message import parse_message
from gateway.sip.core.source import Source
from gateway.sip.screen import trace
from gateway.sip.screen.trace import Tracer
from gateway.threads import enter_role

pytestmark = pytest.mark.integration

PEER = "192.0.2.7:5060"


@pytest.fixture(autouse=True)
def on_the_sip_thread() -> Iterator[None]:
    """The test plays the SIP thread."""
    enter_role("sip")
    yield
    enter_role("loop")


def see(by: Tracer, at: float, sent: bool, call_id: str, first_line: str, cseq: str = "1 INVITE") -> None:
    """Have a message go by."""
    text = (
        f"{first_line}\r\nVia: SIP/2.0/UDP h\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:x@h>\r\n"
        f"Call-ID: {call_id}\r\nCSeq: {cseq}\r\nContent-Length: 0\r\n\r\n"
    )
    by.saw(at, sent, Source.at(PEER), parse_message(text), text)


def tracer(folder: Path, mode: str = "failed") -> Tracer:
    made = Tracer(SipSettings.model_validate({"trace": mode, "trace_folder": folder, "host": "192.0.2.1"}))
    made.listens_on(5062)
    return made


def test_a_trace_holds_what_follows_the_end_of_the_call_too(tmp_path: Path) -> None:
    traces = tracer(tmp_path / "new" / "folder")
    see(traces, 1_700_000_000, False, "a/../b", "INVITE sip:x SIP/2.0")
    see(traces, 1_700_000_000.1, True, "a/../b", "SIP/2.0 487 Request Terminated")
    path = traces.finish("a/../b", keep=True)
    see(traces, 1_700_000_000.2, False, "a/../b", "ACK sip:x SIP/2.0", "1 ACK")
    assert path == tmp_path / "new" / "folder" / "20231114T221320.000Z-a____b.txt"
    traces.close()
    text = path.read_text()
    assert "487 Request Terminated to INVITE" in text
    assert "3 messages, 0.200 s" in text
    assert text.index("=== 3") < text.index("ACK sip:x SIP/2.0")
    assert {found.suffix for found in path.parent.iterdir()} == {".txt", ".pcap"}
    command = ["tcpdump", "-n", "-r", str(path.with_suffix(".pcap"))]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(shown) == 3
    assert "IP 192.0.2.7.5060 > 192.0.2.1.5062" in shown[0]
    assert "IP 192.0.2.1.5062 > 192.0.2.7.5060" in shown[1]


def test_a_disk_that_fails_is_told_once_and_the_next_trace_is_tried_again(tmp_path: Path) -> None:
    folder = tmp_path / "traces"
    folder.write_text("a file in its place")
    with capture_logs() as logs:
        traces = tracer(folder, "all")
        for name in ("a", "b", "c"):
            see(traces, 1_700_000_000, False, name, "INVITE sip:x SIP/2.0")
            assert traces.finish(name, keep=False)
        traces.close()
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("sip_trace_not_written", "error")]


def test_the_end_of_a_call_does_not_wait_for_the_disk_and_the_queue_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, free = threading.Event(), threading.Event()
    put = trace._put

    def slow_put(path: Path, data: bytes) -> None:
        writing.set()
        free.wait()
        put(path, data)

    monkeypatch.setattr(trace, "_put", slow_put)
    monkeypatch.setattr(trace, "_LINGER_S", 0.0)
    traces = tracer(tmp_path, "all")

    def ends(number: int) -> bool:
        for first_line in ("INVITE sip:x SIP/2.0", "SIP/2.0 200 OK"):
            see(traces, 1_700_000_000, False, str(number), first_line)
        return traces.finish(str(number), keep=True) is not None

    assert ends(0)
    assert writing.wait(40)
    assert sum([ends(number) for number in range(1, 300)]) == 200
    free.set()
    traces.close()
    assert len(list(tmp_path.glob("*.txt"))) == 201


def test_a_flood_of_refused_calls_leaves_few_files(tmp_path: Path) -> None:
    traces = tracer(tmp_path)
    for number in range(300):
        see(traces, 1_700_000_000, False, str(number), "INVITE sip:x SIP/2.0")
        traces.finish(str(number), keep=True)
    traces.close()
    assert 30 <= len(list(tmp_path.glob("*.txt"))) <= 60
