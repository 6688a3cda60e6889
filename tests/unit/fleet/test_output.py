from __future__ import annotations

import json

import pytest

from gateway.fleet.output import named

pytestmark = pytest.mark.unit


def test_a_line_that_names_its_process_stays_as_it_is() -> None:
    text = "2026-01-01T00:00:00Z [info     ] worker_ready   worker=host-7"
    assert named(text, "host-7", "text") == text
    entry = json.dumps({"worker": "host-7", "event": "x"})
    assert named(entry, "host-7", "json") == entry


def test_any_other_line_is_given_the_name_in_the_form_of_the_log() -> None:
    assertion = "python: pjsua_call.c:12: assertion failed"
    assert named(assertion, "host-7", "text") == f"host-7: {assertion}"
    assert json.loads(named(assertion, "host-7", "json")) == {"event": assertion, "worker": "host-7"}
    assert json.loads(named('{"half": ', "host-7", "json")) == {"event": '{"half": ', "worker": "host-7"}
