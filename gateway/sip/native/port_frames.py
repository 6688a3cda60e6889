"""
Has PJMEDIA get and put the frames of our ports by functions of ours, without pjsua2 in between.

The binding makes three Python objects and two copies for each frame, fifty times a second in both directions. A port of
the bridge is a C structure with two function pointers; ours take their place, and get the address of the frame itself.
Each port is seen when pjsua2 adds it to the bridge (the extension's import of ``pjsua_conf_add_port``).

Both layouts are confirmed by the library before they are used: ``pjmedia_port_get_frame`` and ``_put_frame`` must find
our functions in a port on memory of ours, and the library's own null port must fill a frame as we read it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog

from gateway.errors import SipError
from gateway.sip.native.guard import answering
from gateway.sip.native.library import ImportSlot, function
from gateway.threads import runs_on

_log = structlog.get_logger(__name__)
_Pointer, _Size = ctypes.c_void_p, ctypes.c_size_t
_OnFrame = ctypes.CFUNCTYPE(ctypes.c_int, _Pointer, _Pointer)
_OnAdd = ctypes.CFUNCTYPE(ctypes.c_int, _Pointer, _Pointer, _Pointer)
_NONE, _AUDIO = 0, 1  # pjmedia_frame_type
_TRIAL = 8000, 160, 320  # Hz, samples and bytes of a frame

_memmove, _string_at = ctypes.memmove, ctypes.string_at


class _Frame(ctypes.Structure):
    """``pjmedia_frame`` (``pjmedia/frame.h``)."""

    _fields_ = (
        *(("type", ctypes.c_int), ("buf", _Pointer), ("size", _Size)),
        *(("timestamp", ctypes.c_uint64), ("bits", ctypes.c_uint32)),
    )


class _Port(ctypes.Structure):
    """``pjmedia_port`` (``pjmedia/port.h``)."""

    _fields_ = (
        *(("info", ctypes.c_uint8 * 64), ("data", _Pointer), ("number", ctypes.c_long), ("lock", _Pointer)),
        *(("clock", _Pointer), ("put_frame", _Pointer), ("get_frame", _Pointer), ("on_destroy", _Pointer)),
    )


_frame_at = _Frame.from_address


class Exchange:
    """
    A port whose frames come and go by functions of ours. Made and restored on ``sip``, while no clock runs in the port.

    Args:
        address: of the ``pjmedia_port``.
        give: returns the next frame; None is silence. Called on the clock.
        take: takes a frame; an empty one is silence. Called on the clock.
    """

    def __init__(self, address: int, give: Callable[[], bytes | None], take: Callable[[bytes], None]) -> None:
        self._give, self._take = give, take
        self._port = _Port.from_address(address)
        self._before = self._port.get_frame, self._port.put_frame
        self._functions: tuple[Any, ...] = (_OnFrame(self._get_frame), _OnFrame(self._put_frame))
        self._port.get_frame, self._port.put_frame = map(_address_of, self._functions)

    @runs_on("sip")
    def restore(self) -> None:
        """Put the library's functions back, and let go of ``give`` and ``take``."""
        self._port.get_frame, self._port.put_frame = self._before
        self._functions = ()  # they hold this object

    @runs_on("clock", foreign=True)
    def _get_frame(self, _port: int, address: int) -> int:
        frame, data = _frame_at(address), self._give()
        if data is None or len(data) > frame.size:  # it comes with the room that there is
            frame.type = _NONE
            return 0
        frame.type, frame.size = _AUDIO, len(data)
        _memmove(frame.buf, data, len(data))
        return 0

    @runs_on("clock", foreign=True)
    def _put_frame(self, _port: int, address: int) -> int:
        frame = _frame_at(address)
        self._take(_string_at(frame.buf, frame.size) if frame.size else b"")
        return 0


class PortFrames:
    """Takes the place of pjsua2 between ports and frames. Thread: sip."""

    def __init__(self) -> None:
        self._slot = ImportSlot("pjsua_conf_add_port")
        self._callback = _OnAdd(self._on_add)
        self._add: Any = None
        self._newest: int | None = None

    @runs_on("sip")
    def install(self) -> bool:
        """Begin to see ports; False (and one line in the log) where that cannot be: frames go through pjsua2."""
        try:
            self._add = function("pjsua_conf_add_port", *(ctypes.c_int, _Pointer, _Pointer, _Pointer))
            if not (_finds_functions() and _reads_frames()):
                raise SipError("ports or frames have another layout")
            self._slot.exchange(self._callback)
        except (AttributeError, SipError) as error:
            _log.warning("frames_by_pjsua2", detail=f"{error}; frames are copied more often, which costs some CPU")
            return False
        return True

    @runs_on("sip")
    def remove(self) -> None:
        """See no more of them."""
        self._slot.restore()

    @runs_on("sip")
    def exchange(self, give: Callable[[], bytes | None], take: Callable[[bytes], None]) -> Exchange | None:
        """Have the newest port get and put its frames by ``give`` and ``take``; None where it was not seen."""
        address, self._newest = self._newest, None
        return None if address is None else Exchange(address, give, take)

    @answering(1)
    def _on_add(self, pool: int, port: int, number: int) -> int:
        self._newest = port
        return int(self._add(pool, port, number))


def _address_of(c_function: Any) -> int | None:
    """Return the address of a ``ctypes`` function; ``ctypes.cast`` would make it hold itself for ever."""
    return _Pointer.from_address(ctypes.addressof(c_function)).value


def _port_functions() -> list[Any]:
    names = ("pjmedia_port_get_frame", "pjmedia_port_put_frame")
    return [function(name, ctypes.c_int, _Pointer, _Pointer) for name in names]


def _finds_functions() -> bool:
    """Return whether the library finds a port's functions where we put them."""
    called: list[str] = []

    def note(name: str, *_: int) -> int:
        called.append(name)
        return 0

    ours = _OnFrame(partial(note, "get")), _OnFrame(partial(note, "put"))
    port, frame = _Port(), _Frame()
    port.get_frame, port.put_frame = map(_address_of, ours)
    for theirs in _port_functions():
        theirs(ctypes.addressof(port), ctypes.addressof(frame))
    return called == ["get", "put"]


def _reads_frames() -> bool:
    """Return whether the library's null port fills a frame as we read it."""
    endpoint = function("pjsua_get_pjsip_endpt", _Pointer)()
    create_pool = function("pjsip_endpt_create_pool", _Pointer, _Pointer, ctypes.c_char_p, _Size, _Size)
    pool = create_pool(endpoint, b"frames", 1000, 1000)
    rate, samples, size = _TRIAL
    room = ctypes.create_string_buffer(b"\xff" * size, size + 1)
    frame, port = _Frame(buf=ctypes.addressof(room), size=size + 1), _Pointer()
    unsigned = ctypes.c_uint
    create = function("pjmedia_null_port_create", ctypes.c_int, _Pointer, *(unsigned,) * 4, _Pointer)
    try:
        made = create(pool, rate, 1, samples, 16, ctypes.addressof(port)) == 0
        filled = made and _port_functions()[0](port, ctypes.addressof(frame)) == 0
        if made:
            function("pjmedia_port_destroy", ctypes.c_int, _Pointer)(port)
        return bool(filled and (frame.type, frame.size) == (_AUDIO, size) and not any(room.raw))
    finally:
        function("pjsip_endpt_release_pool", None, _Pointer, _Pointer)(endpoint, pool)
