"""What `gateway doctor` makes of what it saw."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from gateway.doctor import machine, network, services
from gateway.doctor.finding import Finding
from gateway.settings.sections import Settings
from gateway.settings.sip import SipSettings

pytestmark = pytest.mark.unit


def test_too_few_open_files_are_a_failure_that_says_how_many_are_needed() -> None:
    assert machine.open_files(4, 1024).state == "ok"
    finding = machine.open_files(4, 64)
    assert (finding.state, "ulimit -n 112" in finding.cure) == ("failure", True)


def test_memory_is_compared_with_the_calls_that_are_wanted() -> None:
    assert machine.memory(40, 4 * 2**30).state == "ok"
    assert machine.memory(400, 2**30).state == "warning"


def test_free_memory_is_what_the_kernel_says_is_available(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 100 kB\nMemFree: 1 kB\nMemAvailable:    42 kB\n")
    assert machine.free_memory_bytes(tmp_path / "meminfo") == 42 * 1024


def test_a_clock_that_nobody_sets_is_a_warning() -> None:
    assert machine.clock(0x0040 | 0x2000).state == "warning"
    assert machine.clock(0x2001).state == "ok"
    assert machine.clock(None).state == "skipped"


def test_a_folder_is_judged_by_the_one_it_will_be_made_in(tmp_path: Path) -> None:
    assert machine.folder("Recordings", tmp_path / "a" / "b", "recording.folder", is_needed=False).state == "ok"
    (tmp_path / "file").write_text("")
    finding = machine.folder("Recordings", tmp_path / "file" / "b", "recording.folder", is_needed=True)
    assert (finding.state, "set recording.folder" in finding.cure) == ("failure", True)


@pytest.mark.parametrize(
    ("sip", "own", "seen", "state", "word"),
    [
        ({}, "10.0.0.5", None, "warning", "sip.public_address"),
        ({}, "198.41.0.4", None, "ok", ""),
        ({}, "127.0.0.1", None, "note", "only this machine"),
        ({"public_address": "198.41.0.4"}, "10.0.0.5", None, "ok", ""),
        (
            {"public_address": "198.41.0.4", "stun_server": "stun.example.com"},
            "10.0.0.5",
            "198.41.0.9",
            "warning",
            "set",
        ),
        ({"stun_server": "stun.example.com"}, "10.0.0.5", None, "failure", "firewall"),
        ({"stun_server": "stun.example.com"}, "10.0.0.5", "198.41.0.4", "ok", ""),
    ],
)
def test_the_address_that_callers_are_told(
    sip: dict[str, str], own: str, seen: str | None, state: str, word: str
) -> None:
    finding = network.address(SipSettings.model_validate(sip), own, seen)
    assert finding.state == state
    assert word in finding.cure


def test_rtp_ports_must_be_enough_for_the_calls() -> None:
    few = SipSettings(rtp_port_min=10000, rtp_port_max=10019)
    assert network.rtp_ports(few, 4, taken=0).state == "ok"
    finding = network.rtp_ports(few, 40, taken=0)
    assert (finding.state, finding.cure) == ("failure", "40 calls need more: set sip.rtp_port_max to 10159")
    assert network.rtp_ports(few, 4, taken=15).state == "warning"


def test_a_firewall_that_drops_by_default_is_told_with_the_ports_it_must_let_in() -> None:
    dropping = "table inet filter { chain input { type filter hook input priority filter; policy drop; } }"
    finding = network.firewall(Settings(), dropping)
    assert finding.state == "note"
    assert "let in UDP 5060, TCP 5060, UDP 10000-10199" in finding.cure
    assert network.firewall(Settings(), "").state == "ok"
    assert network.firewall(Settings(), None).state == "skipped"


def judged(facts: dict[str, object], took_ms: float = 1.0) -> dict[str, Finding]:
    return {finding.subject: finding for finding in services.redis_facts("redis://r", facts, took_ms)}


def test_an_old_redis_is_a_failure_and_a_slow_one_a_warning() -> None:
    assert judged({"redis_version": "5.0.7"})["Redis"].state == "failure"
    assert judged({"redis_version": "7.0.15"}, took_ms=80)["Redis"].state == "warning"
    assert judged({"redis_version": "7.2.4", "server_name": "valkey", "valkey_version": "9.0.0"})[
        "Redis"
    ].detail.startswith("Valkey 9.0.0 at redis://r")


def test_a_replica_takes_no_writes() -> None:
    assert judged({"redis_version": "7.0.15", "role": "slave"})["Redis role"].state == "failure"


def test_a_redis_that_removes_keys_when_it_is_full_would_remove_live_calls() -> None:
    facts: dict[str, object] = {"redis_version": "7.0.15", "maxmemory": 100, "maxmemory_policy": "allkeys-lru"}
    assert judged(facts)["Redis memory"].state == "warning"
    assert "Redis memory" not in judged(facts | {"maxmemory_policy": "noeviction"})


def test_without_an_append_only_file_records_go_with_redis() -> None:
    assert judged({"redis_version": "7.0.15", "aof_enabled": 0})["Redis persistence"].state == "note"
    assert "Redis persistence" not in judged({"redis_version": "7.0.15", "aof_enabled": 1})


def ends(listed: dict[str, date | None] | None) -> dict[str, Finding]:
    now = datetime(2026, 3, 1, tzinfo=UTC).timestamp()
    found = services.model_ends({"voice-9": ["hello"], "voice-8": ["night", "day"]}, listed, now)
    return {finding.subject: finding for finding in found}


def test_a_model_that_goes_soon_is_a_warning_and_one_that_has_gone_a_failure() -> None:
    found = ends({"voice-9": date(2026, 4, 1), "voice-8": date(2026, 2, 1)})
    assert found["Model voice-9"] == Finding(
        "Model voice-9", "warning", "it goes: 2026-04-01 (in 31 days)", "choose another for hello"
    )
    assert (found["Model voice-8"].state, found["Model voice-8"].cure) == ("failure", "choose another for night, day")


def test_a_model_that_the_service_does_not_list_is_a_warning_and_without_the_list_nothing_is_claimed() -> None:
    assert ends({"voice-9": None})["Model voice-8"].state == "warning"
    assert ends({"voice-9": None})["Model voice-9"].state == "ok"
    assert {finding.state for finding in ends(None).values()} == {"skipped"}
