"""This machine: the SIP library's build, open files, memory, disk, clock."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

from gateway.doctor.finding import Finding, State
from gateway.errors import SipError
from gateway.settings.sections import Settings
from gateway.sip.library.endpoint import probed_capacity
from gateway.sip.library.pj import MISSING

FILES_OF_A_CALL = 8
"""Sockets and files of one call: RTP, RTCP, the model's socket, a second leg's three, a recording, a trace."""
FILES_OF_A_PROCESS = 80
MIB = 2**20
LEAST_FREE_BYTES = 1024 * MIB
FULL_BYTES = 100 * MIB
RECORDED_BYTES_PER_HOUR = 2 * 2 * 8000 * 3600
MEMORY_OF_A_CALL_BYTES = 10 * MIB
"""As docs/performance.md measures it, with the share of a worker."""
MEMORY_AT_REST_BYTES = 150 * MIB
_UNSYNCHRONIZED = 0x0040  # STA_UNSYNC of <sys/timex.h>


def library(settings: Settings) -> Iterator[Finding]:
    """Look at Python, pjsua2 and what the build holds."""
    try:
        capacity = probed_capacity()
    except SipError as error:
        yield Finding(
            "SIP library", "failure", str(error), "" if str(error) == MISSING else "see the text of the error"
        )
        return
    python = platform.python_version()
    detail = f"pjsua2 for Python {python}: {capacity} calls in one process"
    if settings.fleet.calls > capacity:
        detail += f"; {settings.fleet.calls} calls take {-(-settings.fleet.calls // capacity)} workers"
    yield Finding("SIP library", "ok", detail)


def open_files(calls: int, limit: int) -> Finding:
    """
    Judge the limit of open files.

    Args:
        calls: in one process at once.
        limit: files that a process may have open (``RLIMIT_NOFILE``).
    """
    wanted = FILES_OF_A_PROCESS + FILES_OF_A_CALL * calls
    if limit >= wanted:
        return Finding("Open files", "ok", f"{limit} per process, {wanted} are needed")
    cure = f"raise it: `ulimit -n {wanted}`, or LimitNOFILE={wanted} in the unit of systemd"
    return Finding("Open files", "failure", f"{limit} per process, {wanted} are needed", cure)


def file_limit() -> int:
    """Return how many files a process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**31 if soft == resource.RLIM_INFINITY else soft


def memory(calls: int, free_bytes: int) -> Finding:
    """Judge the memory that is free for so many calls at once."""
    wanted = MEMORY_AT_REST_BYTES + MEMORY_OF_A_CALL_BYTES * calls
    detail = f"{free_bytes // MIB} MiB free; {calls} calls take about {wanted // MIB}"
    if free_bytes >= wanted:
        return Finding("Memory", "ok", detail)
    return Finding("Memory", "warning", detail, "lower fleet.calls, or use a larger machine")


def free_memory_bytes(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Return the memory that programs may still take, as the kernel estimates it (``MemAvailable``)."""
    for line in meminfo.read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return 0


def folder(subject: str, path: Path, setting: str, *, is_needed: bool) -> Finding:
    """
    Look at a folder that files go to, or at the one it will be made in.

    Args:
        subject: what goes there.
        path: of the folder.
        setting: that names it.
        is_needed: a call fails to be written down without it.
    """
    there = next((each for each in (path, *path.resolve().parents) if each.exists()), Path("/"))
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        state: State = "failure" if is_needed else "warning"
        cure = f"`chown` it to the gateway's user, or set {setting} to another folder"
        return Finding(subject, state, f"{path}: {there} cannot be written to", cure)
    free = shutil.disk_usage(there).free
    detail = f"{path}: {free // MIB} MiB free, {free // RECORDED_BYTES_PER_HOUR} hours of recorded calls"
    if free < LEAST_FREE_BYTES:
        cure = f"delete old files (recording.keep_days does it), or set {setting} to a larger disk"
        return Finding(subject, "failure" if free < FULL_BYTES else "warning", detail, cure)
    return Finding(subject, "ok", detail)


def clock(status: int | None) -> Finding:
    """
    Judge the clock.

    Args:
        status: the kernel's (``adjtimex``, ``STA_*``); None when it does not say.
    """
    if status is None:
        return Finding("Clock", "skipped", "this system does not say whether its clock is set")
    if status & _UNSYNCHRONIZED:
        cure = "install and start chrony or systemd-timesyncd; times of several machines cannot be compared without"
        return Finding("Clock", "warning", "it is not set by NTP", cure)
    return Finding("Clock", "ok", "set by NTP")


def clock_status() -> int | None:
    """Return the kernel's status of the clock; None where there is none (``adjtimex(2)``)."""
    adjust = getattr(ctypes.CDLL(None), "adjtimex", None)
    if adjust is None:
        return None
    timex = ctypes.create_string_buffer(512)  # struct timex: modes (int), then longs; modes 0 only reads
    if adjust(timex) < 0:
        return None
    longs = ctypes.cast(timex, ctypes.POINTER(ctypes.c_long))
    return int(ctypes.c_int.from_buffer(timex, 5 * ctypes.sizeof(longs._type_)).value)
