"""How long speech is on its way; run with ``-s`` to see the figures, or ``python -m gateway.lab.bench.delay``."""

from __future__ import annotations

import pytest
from rich.console import Console

from gateway.lab.bench.delay import delay_table, run_delay
from tests.rigs.rounds import best_of, slowness

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("timing")]

ADDED_MS = 80
"""What the gateway may add in all, jitter buffer included; alone on a machine it is about 60."""

SHARED_MACHINE_MS = 40


@best_of(3)
async def test_speech_is_not_long_on_its_way() -> None:
    delays = await run_delay(7)
    console = Console(record=True, width=100)
    console.print(delay_table(delays))
    assert f"{delays.added_ms:.1f}" in console.export_text()
    assert delays.stretches >= 5
    assert delays.uplink_ms > 20, "a jitter buffer is on the way: less is a mistake of the measurement"
    assert delays.downlink_ms > 0
    slower = slowness()
    assert -1 < delays.model_ms < 20 * slower
    assert delays.added_ms < ADDED_MS + SHARED_MACHINE_MS * slower
