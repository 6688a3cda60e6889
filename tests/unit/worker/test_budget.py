"""The budget of one call: what is said of it, and when."""

from __future__ import annotations

import pytest

from gateway.call.events import BudgetLow, BudgetUsedUp, CallEvent
from gateway.cost.budget import Ceiling
from gateway.ids import CallId
from gateway.store.limits import OnBooked
from gateway.worker.budget import CallBudget

pytestmark = pytest.mark.unit

CALL = CallId("call")


class Bank:
    """Takes what a call spends; answers when a test wants it."""

    def __init__(self) -> None:
        self.spent: list[float] = []
        self.answer: OnBooked = lambda usd, limit: None

    def __call__(self, call_id: CallId, usd: float, told: OnBooked) -> None:
        assert call_id == CALL
        self.spent.append(usd)
        self.answer = told


def test_a_call_without_a_budget_hears_nothing() -> None:
    bank, told = Bank(), list[CallEvent]()
    budget = CallBudget(CALL, None, 0.9, bank)
    budget.spend(500, told.append)
    assert (bank.spent, told) == ([500], [])


def test_a_call_is_warned_once_and_ended_once() -> None:
    bank, told = Bank(), list[CallEvent]()
    budget = CallBudget(CALL, Ceiling(1, "max_usd 1"), 0.9, bank)
    for usd in (0.5, 0.89, 0.9, 0.95, 1.02, 1.3):
        budget.spend(usd, told.append)
    assert told == [BudgetLow(CALL, 0.9, "max_usd 1"), BudgetUsedUp(CALL, 1.02, "max_usd 1")]


def test_one_dear_answer_goes_past_the_warning() -> None:
    bank, told = Bank(), list[CallEvent]()
    budget = CallBudget(CALL, Ceiling(1, "max_usd 1"), 0.9, bank)
    budget.spend(1.4, told.append)
    assert told == [BudgetUsedUp(CALL, 1.4, "max_usd 1")]


def test_the_money_of_the_day_ends_a_call_when_no_more_can_be_booked() -> None:
    bank, told = Bank(), list[CallEvent]()
    budget = CallBudget(CALL, Ceiling(5, "max_usd 5"), 0.9, bank)
    budget.spend(0.3, told.append)
    bank.answer(0.25, "")  # late: more was booked since
    assert told == []
    bank.answer(0.4, "usd_per_day 20")
    assert told == []
    budget.spend(0.37, told.append)
    assert told == [], "what is booked now is not known before the answer"
    bank.answer(0.4, "usd_per_day 20")
    assert told == [BudgetLow(CALL, 0.37, "usd_per_day 20")]
    budget.spend(0.41, told.append)
    bank.answer(0.41, "usd_per_day 20")
    assert told[1:] == [BudgetUsedUp(CALL, 0.41, "usd_per_day 20")]


def test_money_that_others_gave_back_lets_a_call_go_on() -> None:
    bank, told = Bank(), list[CallEvent]()
    budget = CallBudget(CALL, None, 1, bank)
    budget.spend(0.3, told.append)
    bank.answer(0.35, "usd_per_day 20")
    budget.spend(0.36, told.append)
    bank.answer(0.61, "")
    assert told == []
