from __future__ import annotations

from typing import Any

import pytest

from gateway.cli.fleet import progress

pytestmark = pytest.mark.unit

BEFORE = {"a", "b"}


def worker(name: str, state: str, live_calls: int = 0) -> dict[str, Any]:
    return {"worker": name, "state": state, "live_calls": live_calls}


@pytest.mark.parametrize(
    ("workers", "text", "replaced", "ended"),
    [
        ([worker("a", "ready"), worker("b", "ready")], "0 of 2 workers replaced, 0 new ones are ready", False, False),
        (
            [worker("a", "draining", 3), worker("b", "ready"), worker("c", "ready"), worker("d", "starting")],
            "1 of 2 workers replaced, 1 new ones are ready; 1 old ones end with their 3 calls",
            False,
            False,
        ),
        (
            [worker("a", "draining", 3), worker("c", "ready"), worker("d", "overloaded")],
            "2 of 2 workers replaced, 2 new ones are ready; 1 old ones end with their 3 calls",
            True,
            False,
        ),
        ([worker("c", "ready")], "2 of 2 workers replaced, 1 new ones are ready", True, True),
        ([], "2 of 2 workers replaced, 0 new ones are ready", False, False),
    ],
)
def test_a_restart_is_done_when_new_calls_go_to_new_workers_or_the_last_old_one_has_ended(
    workers: list[dict[str, Any]], text: str, replaced: bool, ended: bool
) -> None:
    assert progress(workers, BEFORE, wait=False) == (text, replaced)
    assert progress(workers, BEFORE, wait=True) == (text, ended)
