"""
What forked processes write, merged into one stream of whole lines that each name their process.

Every process of the fleet has a pipe for its standard output and error. The supervisor reads them all and writes to its
own standard error, a line at a time. So lines are never mixed, whatever their length, C libraries and tracebacks are
heard too, and the last lines of a process that died are known.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import deque
from collections.abc import Callable
from typing import Literal

KEPT_LINES = 15
LONGEST_LINE_BYTES = 2**20
_AT_ONCE_BYTES = 65536


def named(line: str, name: str, form: Literal["text", "json"]) -> str:
    """
    Return a line of output that names its process, in the form of the log.

    Args:
        line: as it was written, without its end.
        name: of the process.
        form: of the log; a line that has it already stays as it is.
    """
    if form == "text":
        return line if f"worker={name}" in line else f"{name}: {line}"
    if line.startswith("{") and f'"worker": {json.dumps(name)}' in line:
        return line
    return json.dumps({"event": line, "worker": name}, ensure_ascii=False)


class Output:
    """
    Reads what one process writes, until its end. Thread: loop.

    Args:
        reading: descriptor of the pipe; closed here.
        write: takes each line, without its end.
        rest: the beginning of a line that was read already.

    Attributes:
        last_lines: what it wrote last.
    """

    def __init__(self, reading: int, write: Callable[[str], None], rest: str = "") -> None:
        self._loop = asyncio.get_running_loop()
        self._write = write
        self._rest = rest.encode()
        self.fileno = reading
        self.last_lines: deque[str] = deque(maxlen=KEPT_LINES)
        os.set_blocking(reading, False)
        self._loop.add_reader(reading, self._read)

    @property
    def rest(self) -> str:
        """The beginning of a line that is not over."""
        return self._rest.decode(errors="replace")

    def close(self) -> None:
        """Read what is left and close the pipe. Safe more than once."""
        while self.fileno >= 0 and self._read():
            pass
        self._end()

    def _read(self) -> bool:
        """Take what is there; return whether there may be more."""
        try:
            data = os.read(self.fileno, _AT_ONCE_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._end()
            return False
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LONGEST_LINE_BYTES:
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            self._line(line)
        return True

    def _line(self, data: bytes) -> None:
        line = data.decode(errors="replace").rstrip()
        if line:
            self.last_lines.append(line)
            self._write(line)

    def _end(self) -> None:
        if self.fileno >= 0:
            self._loop.remove_reader(self.fileno)
            os.close(self.fileno)
            self.fileno = -1
            self._line(self._rest)
            self._rest = b""
