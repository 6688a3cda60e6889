"""Every test of this folder plays the SIP thread."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.threads import enter_role


@pytest.fixture(autouse=True)
def a_test_runs_on_the_sip_thread() -> Iterator[None]:
    """Let the methods that are marked for it be called."""
    enter_role("sip")
    yield
    enter_role("loop")
