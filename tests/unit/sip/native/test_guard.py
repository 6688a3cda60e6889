"""No exception crosses the border to C, and none of ours lives on in a log."""

from __future__ import annotations

import gc
import weakref

import pytest

from gateway import threads
from gateway.sip.native.guard import answering, callback

pytestmark = pytest.mark.unit


class Call:
    """Something whose callbacks fail."""

    @callback
    def on_state(self) -> None:
        raise ValueError("no such state")

    @answering(7)
    def on_message(self) -> int:
        raise ValueError("no such message")


def test_a_failing_callback_is_logged_as_text_that_holds_nothing(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads._local, "role", "sip", raising=False)
    call = Call()
    call.on_state()
    assert call.on_message() == 7
    assert [record.exc_info for record in caplog.records] == [None] * len(caplog.records)
    gone = weakref.ref(call)
    del call
    gc.collect()
    assert gone() is None
