"""
Puts a function of ours in place of one that the pjsua2 extension imports from the C library.

An ELF module calls imported functions through a table of addresses (its global offset table); the entry of one name is
found by the relocations that filled it, and exchanged. Only this one module sees the exchange.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import mmap
import struct
from typing import Any

from gateway.errors import SipError
from gateway.sip.native.library import library_path

# System V gABI, chapter 5, "Dynamic Section"
_STRTAB, _SYMTAB, _RELA, _RELASZ, _PLTRELSZ, _JMPREL = 5, 6, 7, 8, 2, 23
_RELATION = struct.Struct("<QQq")
_SYMBOL_BYTES = 24
_READ_WRITE = 3


class ImportSlot:
    """
    The place from which the extension calls ``name``, which is looked for when it is needed.

    Args:
        name: of a function of the C library, such as ``accept``.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._slot: ctypes.c_void_p | None = None
        self._original: int | None = None

    @property
    def exchanged(self) -> bool:
        """Whether the extension calls a function of ours."""
        return self._slot is not None

    def exchange(self, function: Any) -> None:
        """
        Have the extension call ``function``, a ``ctypes`` callback that must live until ``restore``.

        Raises:
            SipError: the module is no 64-bit ELF file here, or does not import the name.
        """
        path = library_path()
        if path is None or ctypes.sizeof(ctypes.c_void_p) != 8:
            raise SipError("the pjsua2 extension cannot be looked into on this platform")
        slot = ctypes.c_void_p.from_address(_find(path, self._name.encode()))
        self._original = slot.value
        _write(slot, ctypes.cast(function, ctypes.c_void_p).value)
        self._slot = slot

    def restore(self) -> None:
        """Have it call what it called before; nothing happens where nothing was exchanged."""
        if self._slot is not None:
            _write(self._slot, self._original)
            self._slot = None


def _write(slot: ctypes.c_void_p, value: int | None) -> None:
    address = ctypes.addressof(slot)
    page = address - address % mmap.PAGESIZE
    library = ctypes.CDLL(None, use_errno=True)
    if library.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(mmap.PAGESIZE), _READ_WRITE):
        raise SipError(f"the import table cannot be written: error {ctypes.get_errno()}")
    slot.value = value


def _find(path: str, name: bytes) -> int:
    # What dlopen returns begins with these three, in glibc and in musl: base address, name, dynamic section.
    base, _, dynamic = (ctypes.c_uint64 * 3).from_address(ctypes.CDLL(path)._handle)
    tags: dict[int, int] = {}
    while (entry := (ctypes.c_uint64 * 2).from_address(dynamic))[0]:
        tags[entry[0]] = entry[1]
        dynamic += 16
    if not {_STRTAB, _SYMTAB} <= tags.keys():
        raise SipError("the pjsua2 extension has no symbol table")

    def absolute(tag: int) -> int:
        value = tags[tag]
        return value if value >= base else value + base  # glibc has added the base already

    strings, symbols = absolute(_STRTAB), absolute(_SYMTAB)
    for table, size in ((_JMPREL, _PLTRELSZ), (_RELA, _RELASZ)):
        if table not in tags:
            continue
        for offset, info, _ in _RELATION.iter_unpack(ctypes.string_at(absolute(table), tags[size])):
            symbol = info >> 32
            if symbol:
                at = ctypes.c_uint32.from_address(symbols + symbol * _SYMBOL_BYTES).value
                if ctypes.string_at(strings + at, len(name) + 1) == name + b"\0":
                    return base + int(offset)
    raise SipError(f"the pjsua2 extension does not import {name.decode()}")
