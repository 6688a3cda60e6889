from __future__ import annotations

import threading

import pytest

from gateway.threads import check_threads, current_role, enter_role, runs_on

pytestmark = pytest.mark.unit


@runs_on("sip")
def on_sip() -> str:
    return "done"


def test_a_function_called_on_the_wrong_thread_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"on_sip runs on 'sip', called on 'loop'"):
        on_sip()


def test_without_checks_the_mark_costs_nothing_and_refuses_nothing() -> None:
    check_threads(enabled=False)
    assert on_sip() == "done"
    assert on_sip.__runs_on__ == "sip"  # type: ignore[attr-defined]


def test_roles_belong_to_threads() -> None:
    seen = []

    def work() -> None:
        seen.append(current_role())  # a thread nobody named can only be the clock
        enter_role("sip")
        seen.append(current_role())
        seen.append(on_sip())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == ["clock", "sip", "done"]
    assert current_role() == "loop"
