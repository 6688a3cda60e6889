from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from gateway.ids import CallId
from gateway.logs import CHATTY, bind_call, configure_logs
from gateway.privacy import Shortener
from gateway.redact import SHOWN_MASK, mask_text
from gateway.settings.sections import LogSettings

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for library in CHATTY:
        logging.getLogger(library).setLevel(logging.NOTSET)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def entries(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    printed = capsys.readouterr()
    assert printed.out == ""
    return [json.loads(line) for line in printed.err.splitlines()]


def test_entries_of_ours_and_of_libraries_have_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(LogSettings(format="json"))
    structlog.get_logger("gateway.x").info("call ended", reason="no_rtp")
    logging.getLogger("websockets.client").warning("lost %s", "it", extra={"port": 5})
    ours, theirs = entries(capsys)
    assert (ours["event"], ours["reason"], ours["level"], ours["logger"]) == (
        "call ended",
        "no_rtp",
        "info",
        "gateway.x",
    )
    assert (theirs["event"], theirs["port"], theirs["level"]) == ("lost it", 5, "warning")
    # pytest's own handler leaves "message" in the record.
    assert ours.keys() - {"reason"} == theirs.keys() - {"port", "message"}


def test_entries_below_the_level_are_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(LogSettings(level="warning", format="json"))
    structlog.get_logger("gateway.x").info("quiet")
    logging.getLogger("websockets").info("quiet")
    structlog.get_logger("gateway.x").warning("loud")
    assert [entry["event"] for entry in entries(capsys)] == ["loud"]


@pytest.mark.parametrize(("level", "heard"), [("info", []), ("debug", ["connection open"])])
def test_libraries_tell_of_every_connection_only_when_everything_is_wanted(
    capsys: pytest.CaptureFixture[str], level: str, heard: list[str]
) -> None:
    configure_logs(LogSettings.model_validate({"level": level, "format": "json"}))
    logging.getLogger("websockets.server").info("connection open")
    assert [entry["event"] for entry in entries(capsys)] == heard


def test_configuring_again_replaces_what_was_there(capsys: pytest.CaptureFixture[str]) -> None:
    log = structlog.get_logger("gateway.x")
    configure_logs(LogSettings(format="text"))
    configure_logs(LogSettings(format="json", level="debug"))
    log.debug("once")
    assert [entry["event"] for entry in entries(capsys)] == ["once"]


async def test_each_call_task_writes_its_own_call_id(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(LogSettings(format="json"))
    log = structlog.get_logger("gateway.x")

    async def one(call_id: str) -> None:
        with bind_call(CallId(call_id)):
            log.info("began")
            await asyncio.sleep(0)
            await asyncio.create_task(_inner(log))
            logging.getLogger("library").warning("spoke")

    await asyncio.gather(one("a"), one("b"))
    log.info("outside")
    written = entries(capsys)
    by_call = [entry.get("call_id") for entry in written]
    assert sorted(by_call[:-1], key=str) == ["a", "a", "a", "b", "b", "b"]
    assert by_call[-1] is None


async def _inner(log: structlog.stdlib.BoundLogger) -> None:
    log.info("child task")


@pytest.mark.parametrize("kind", ["text", "json"])
def test_no_secret_reaches_the_log(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(LogSettings.model_validate({"format": kind, "level": "debug"}))
    log = structlog.get_logger("gateway.x")
    log.info("opened with sk-proj-abc_DEF123", api_key="hunter22", url="redis://u:hunter22@h/0?password=hunter22")
    log.info("nested", headers={"Authorization": "Bearer hunter22"}, parts=["ek_hunter22", ("Basic aHVudGVyMjI=",)])
    logging.getLogger("websockets").debug("> Authorization: Bearer %s", "hunter22")
    logging.getLogger("pjsua").warning('Proxy-Authorization: Digest username="bob", response="hunter22"\nVia: x')
    try:
        raise ValueError("the key sk-hunter22 is wrong")
    except ValueError:
        log.exception("failed")
    printed = capsys.readouterr().err
    assert "hunter22" not in printed
    assert "abc_DEF123" not in printed
    assert "aHVudGVyMjI" not in printed
    assert "ValueError" in printed
    assert printed.count(SHOWN_MASK) >= 8


@pytest.mark.parametrize(
    "text", ["the desk-chairs are in task-1234", "basic settings", "sip:1000@host:5060", "10:00:00"]
)
def test_innocent_text_is_left_alone(text: str) -> None:
    assert mask_text(text) == text


def test_a_header_cannot_forge_an_entry_or_steer_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(LogSettings(format="text"))
    structlog.get_logger("gateway.x").info("call\nfrom", from_uri="sip:a\r\n2024 forged\x1b[2J")
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert "\x1b" not in printed
    assert r"\x1b[2J" in printed


def test_numbers_stay_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(LogSettings(format="json"))
    structlog.get_logger("gateway.x").info("took", setup_ms=12, ratio=0.5, answered=True, code=None, deep={"a": [1]})
    (entry,) = entries(capsys)
    assert (entry["setup_ms"], entry["ratio"], entry["answered"], entry["code"]) == (12, 0.5, True, None)
    assert entry["deep"] == {"a": [1]}


def test_people_are_taken_out_of_every_text_of_an_entry(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(LogSettings(format="json"), shorten=Shortener(keep=True).text)
    call = "sip:+493012345678@192.0.2.1"
    structlog.get_logger("gateway.x").info(
        f"call from {call}", call_id="12345678901", detail=[{"to": call}], setup_ms=12345678, at="+4930123456"
    )
    logging.getLogger("pjsua").warning("From: %s", call)
    ours, theirs = entries(capsys)
    short = "sip:+49301234****@192.0.2.1"
    assert (ours["event"], ours["detail"], theirs["event"]) == (f"call from {short}", [{"to": short}], f"From: {short}")
    assert (ours["call_id"], ours["setup_ms"], ours["at"]) == ("12345678901", 12345678, "+493012****")
    assert str(ours["timestamp"]).startswith("20")
