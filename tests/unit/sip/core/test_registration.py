from __future__ import annotations

import pytest

from gateway.sip.core.message import parse_message
from gateway.sip.core.registration import RegistrationRetry, contact_at, refresh_after_s, retry_after_in

pytestmark = pytest.mark.unit


def waits(code: int, first_s: float, times: int, retry_after_s: float | None = None) -> list[float]:
    retry = RegistrationRetry(first_s)
    return [retry.delay_s(code, retry_after_s, chance=0.5) for _ in range(times)]


@pytest.mark.parametrize("code", [408, 480, 500, 503, 600])
def test_a_failure_that_may_pass_is_tried_again_after_doubling_waits(code: int) -> None:
    assert waits(code, 30, 6) == [30, 60, 120, 240, 300, 300]


@pytest.mark.parametrize("code", [401, 403, 404, 407])
def test_a_refusal_is_tried_again_rarely(code: int) -> None:
    assert waits(code, 1, 6) == [300, 600, 1200, 2400, 3600, 3600]


def test_a_first_wait_that_is_longer_than_the_bounds_stays() -> None:
    assert waits(503, 1000, 2) == [1000, 1000]
    assert waits(403, 3600, 1) == [3600]


def test_waits_are_spread_by_a_fifth() -> None:
    assert RegistrationRetry(10).delay_s(503, None, 0) == 8
    assert RegistrationRetry(10).delay_s(503, None, 1) == pytest.approx(12)


def test_never_less_is_waited_than_the_registrar_asks_for_and_never_more_than_a_day_of_it() -> None:
    assert RegistrationRetry(1).delay_s(503, 60, 0) == 60
    assert RegistrationRetry(100).delay_s(503, 5, 0.5) == 100
    assert RegistrationRetry(1).delay_s(503, 1e12, 0) == 86400


def test_a_success_begins_from_the_start() -> None:
    retry = RegistrationRetry(10)
    retry.delay_s(503, None, 0.5)
    retry.succeeded()
    assert retry.delay_s(503, None, 0.5) == 10


def test_many_failures_do_not_overflow() -> None:
    retry = RegistrationRetry(10)
    retry.failures = 10**6
    assert retry.delay_s(503, None, 0.5) == 300


@pytest.mark.parametrize(("expires_s", "after_s"), [(3600, 3540), (300, 240), (60, 30), (8, 4), (1, 1), (0, 1)])
def test_a_binding_is_renewed_before_it_ends(expires_s: int, after_s: float) -> None:
    assert refresh_after_s(expires_s) == after_s


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        (["Retry-After: 18 (later)"], 18),
        (["retry-after:5;duration=3600"], 5),
        ([], None),
    ],
)
def test_retry_after_is_read_from_a_response(headers: list[str], seconds: float | None) -> None:
    always = ["Via: SIP/2.0/UDP h", "From: <sip:a@h>;tag=1", "To: <sip:a@h>", "Call-ID: x", "CSeq: 1 REGISTER"]
    response = parse_message("\r\n".join(["SIP/2.0 503 Busy", *always, *headers, "", ""]))
    assert retry_after_in(response) == seconds


def test_a_contact_keeps_its_user_at_another_place() -> None:
    for own in ("<sip:line1@127.0.0.1:5070;ob>", "<sip:line1@127.0.0.1:5070>", '"us" <sip:line1@a;transport=udp;ob>'):
        assert contact_at(own, "192.0.2.1:5060", "") == "<sip:line1@192.0.2.1:5060>"
    assert contact_at("<sip:127.0.0.1:5070>", "192.0.2.1", ";transport=tcp") == "<sip:192.0.2.1;transport=tcp>"
