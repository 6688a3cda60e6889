"""One case: what is sent, step by step, and how that stands in a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

Kind = Literal[
    "send",  # a datagram to the SIP port
    "ask",  # the same, and wait a little for what is no 1xx
    "dial",  # have the target call us, and wait for its INVITE
    "reply",  # answer the INVITE that the target sent last; %echo% stands for the headers that a response repeats
    "rtp",  # a packet to the port of the call's audio
    "rtcp",  # the same to the port above it
    "connect",  # a new TCP connection; what is open is left alone
    "write",  # to the newest connection
    "close",  # it, in order
    "reset",  # it, at once
    "wait",  # so many milliseconds
]
KINDS: tuple[str, ...] = get_args(Kind)
_MARK = b"\n#> "


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that is done; in ``data`` %names% stand for what is known only then (``play.py``)."""

    kind: Kind
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Case:
    """What is tried at once. ``name`` tells it from others: of a file, or ``mode/seed/number``."""

    name: str
    steps: tuple[Step, ...]

    def as_bytes(self) -> bytes:
        """Return what stands in a file: each step begins with a line ``#> kind`` and is raw up to the next."""
        return b"".join(_MARK + step.kind.encode() + b"\n" + step.data for step in self.steps)[1:] + b"\n"


def parse_case(name: str, data: bytes) -> Case:
    """
    Read what ``as_bytes`` wrote; bytes without any mark are one message that is sent.

    Raises:
        ValueError: a step of no such kind.
    """
    if not data.startswith(_MARK[1:]):
        return Case(name, (Step("send", data),))
    steps = []
    for part in (b"\n" + data.removesuffix(b"\n")).split(_MARK)[1:]:
        kind, _, content = part.partition(b"\n")
        if kind.decode("latin-1") not in KINDS:
            raise ValueError(f"{name}: no step is called {kind!r}: {', '.join(KINDS)}")
        steps.append(Step(kind.decode(), content))  # type: ignore[arg-type]
    return Case(name, tuple(steps))


def read_cases(folder: Path) -> list[Case]:
    """Return the cases that the files of a folder hold, in order of their names."""
    return [parse_case(path.stem, path.read_bytes()) for path in sorted(folder.glob("*.raw"))]
