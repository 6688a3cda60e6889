"""The count of the library's handles for sockets."""

from __future__ import annotations

import pytest

from gateway.sip.native.handles import HandleCount

pytestmark = pytest.mark.unit


def test_a_handle_is_taken_until_a_while_after_its_socket_was_closed() -> None:
    count = HandleCount(most=2, freed_after_s=0.5)
    for key in (1, 2):
        assert count.has_room(7, 10.0)
        count.took(7, key)
    assert not count.has_room(7, 10.0)
    assert count.has_room(8, 10.0)
    count.left(1, 10.0)
    count.left(1, 10.0)
    assert not count.has_room(7, 10.4)
    assert count.has_room(7, 10.5)
    count.took(7, 3)
    assert not count.has_room(7, 11.0)


def test_a_handle_from_before_the_count_is_nothing() -> None:
    count = HandleCount(most=1)
    count.left(99, 1.0)
    assert count.has_room(7, 2.0)
    count.took(7, 1)
    assert not count.has_room(7, 3.0)


def test_handles_are_scarce_when_one_queue_has_too_few_for_a_call() -> None:
    count = HandleCount(most=3, freed_after_s=0.5)
    assert not count.scarce(0.0)
    count.took(7, 1)
    count.took(8, 2)
    assert not count.scarce(0.0)
    count.took(8, 3)
    assert count.scarce(0.0)
    count.left(3, 0.0)
    assert count.scarce(0.4)
    assert not count.scarce(0.5)
