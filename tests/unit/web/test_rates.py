"""How often clients may ask and addresses may be wrong."""

from __future__ import annotations

import pytest

from gateway.web.errors import ApiError
from gateway.web.rates import Rates, network_of
from gateway.web.stream_slots import STREAMS, STREAMS_PER_CLIENT, StreamSlots

pytestmark = pytest.mark.unit


async def test_a_client_that_asks_too_often_is_told_when_to_come_back_and_others_are_not_held_up() -> None:
    rates = Rates(requests=2, refusals=1, mints=1)
    await rates.count_request("a")
    await rates.count_request("a")
    with pytest.raises(ApiError) as caught:
        await rates.count_request("a")
    assert caught.value.status == 429
    assert 1 <= int(caught.value.headers["Retry-After"]) <= 60
    await rates.count_request("b")
    await rates.count_mint("a")


async def test_an_address_with_too_many_wrong_tokens_is_shut_out_with_its_ipv6_network() -> None:
    rates = Rates(requests=1, refusals=2, mints=1)
    for address in ("2001:db8::1", "2001:db8::2"):
        await rates.check_address(address)
        await rates.count_refusal(address)
    with pytest.raises(ApiError):
        await rates.check_address("2001:db8::ffff")
    await rates.check_address("2001:db8:0:1::1")
    await rates.check_address("192.0.2.1")


@pytest.mark.parametrize(
    ("address", "network"),
    [("192.0.2.1", "192.0.2.1"), ("2001:db8::1", "2001:db8::/64"), ("", "unknown"), ("x", "unknown")],
)
def test_what_counts_as_one_address(address: str, network: str) -> None:
    assert network_of(address) == network


def test_streams_are_bounded_for_each_client_and_for_all() -> None:
    slots = StreamSlots()
    held = [slots.taken_by("a") for _ in range(STREAMS_PER_CLIENT)]
    for each in held:
        each.__enter__()
    with pytest.raises(ApiError), slots.taken_by("a"):
        pass
    with slots.taken_by("b"):
        pass
    held[0].__exit__(None, None, None)
    with slots.taken_by("a"):
        pass
    others = [slots.taken_by(str(number)) for number in range(STREAMS - STREAMS_PER_CLIENT + 1)]
    for each in others:
        each.__enter__()
    with pytest.raises(ApiError), slots.taken_by("c"):
        pass
