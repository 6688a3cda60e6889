"""What the library remembers of the last key."""

from __future__ import annotations

import ctypes

import pytest

from gateway.sip.library.pj import pj
from gateway.sip.native import dtmf_memory
from gateway.sip.native.dtmf_memory import DtmfMemory

pytestmark = pytest.mark.unit


@pytest.fixture
def stream() -> ctypes.Array[ctypes.c_char]:
    """Memory as a new stream has it."""
    assert hasattr(pj, "Endpoint")  # the extension is loaded by its first use
    offset = dtmf_memory._offset()
    assert offset is not None
    memory = ctypes.create_string_buffer(1 << 13)
    ctypes.c_int32.from_buffer(memory, offset).value = -1
    return memory


def last_key(stream: ctypes.Array[ctypes.c_char]) -> dtmf_memory._LastKey:
    offset = dtmf_memory._offset()
    assert offset is not None
    return dtmf_memory._LastKey.from_buffer(stream, offset)


@pytest.mark.parametrize(
    ("key", "ended", "forgotten"), [("1", True, True), ("1", False, False), ("2", True, False), ("#", True, False)]
)
def test_a_key_is_forgotten_when_it_is_the_last_and_has_ended(
    stream: ctypes.Array[ctypes.c_char], key: str, ended: bool, forgotten: bool
) -> None:
    memory = DtmfMemory(ctypes.addressof(stream))
    last = last_key(stream)
    last.last_dtmf, last.last_dtmf_dur, last.last_dtmf_ended = 1, 640, int(ended)
    memory.forget(key)
    assert last.last_dtmf == (-1 if forgotten else 1)


def test_what_does_not_look_like_a_new_stream_is_left_alone(stream: ctypes.Array[ctypes.c_char]) -> None:
    last = last_key(stream)
    last.last_dtmf, last.last_dtmf_ended = 1, 1
    DtmfMemory(ctypes.addressof(stream)).forget("1")
    assert last.last_dtmf == 1


def test_a_build_that_does_not_show_its_streams_is_left_alone(
    stream: ctypes.Array[ctypes.c_char], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dtmf_memory, "_offset", lambda: None)
    memory = DtmfMemory(ctypes.addressof(stream))
    memory.forget("1")
    assert memory._last is None
