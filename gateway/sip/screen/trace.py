"""The SIP trace: the messages of each call, kept until it is known whether they are wanted, then written to files."""

from __future__ import annotations

import os
import re
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import structlog

from gateway.privacy import PrivacyMode, shortener_for, users_in
from gateway.rate_limit import TokenBuckets
from gateway.settings.sip import SipSettings
from gateway.sip.core.ladder import TracedMessage, capture, draw
from gateway.sip.core.message import Message
from gateway.sip.core.source import Source
from gateway.threads import new_thread, runs_on

_log = structlog.get_logger(__name__)
_WAITING = 256  # calls without an answer
_ANSWERED = 64  # calls with one: a flood of others cannot push them out
_FIRST = _LAST = 100  # messages kept of a call
_MOST_CHARACTERS = 8000  # of a message
_LINGER_S = 2.0  # for what follows the end: the answer to a BYE, the ACK of a refusal
_QUEUED = 200  # files that wait for a slow disk
_UNANSWERED_A_MINUTE = 30  # strangers must not fill the disk
_NAME = re.compile(r"\d{8}T\d{6}\.\d{3}Z-[A-Za-z0-9_@-]{1,64}\.(txt|pcap)")
_DAY_S = 86_400
_FILE_MODE, _FOLDER_MODE = 0o640, 0o750  # numbers stand in them


@dataclass(slots=True)
class _TracedCall:
    call_id: str
    first: list[TracedMessage] = field(default_factory=list)
    last: deque[TracedMessage] = field(default_factory=lambda: deque(maxlen=_LAST))
    count: int = 0
    peer: str = ""  # behind an edge: who sent the newest request
    path: Path | None = None

    def add(self, message: TracedMessage) -> None:
        self.count += 1
        (self.first if len(self.first) < _FIRST else self.last).append(message)


class Tracer:
    """
    Keeps the messages of calls. Everything but the writing of files: thread sip; a thread ``trace`` writes.

    Args:
        settings: ``trace``, ``trace_folder``, the address we listen on.
        privacy: whether numbers and names are shortened, or no trace is written at all.
    """

    def __init__(self, settings: SipSettings, privacy: PrivacyMode = "full") -> None:
        self._mode = settings.trace
        self._keeps_none = privacy == "counts"
        self._shortener = shortener_for(privacy)
        self._folder = settings.trace_folder
        self._local = (settings.public_address or settings.host, settings.port)
        self._waiting: OrderedDict[str, _TracedCall] = OrderedDict()
        self._answered: OrderedDict[str, _TracedCall] = OrderedDict()
        self._followed: OrderedDict[str, _TracedCall] = OrderedDict()  # wanted, whatever the settings say
        self._follows_new = False
        self._ending: OrderedDict[str, _TracedCall] = OrderedDict()
        self._unanswered = TokenBuckets(_UNANSWERED_A_MINUTE / 60, _UNANSWERED_A_MINUTE)
        self._queue: deque[tuple[float, _TracedCall]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._failing = False
        self._thread: threading.Thread | None = None

    @runs_on("sip")
    def listens_on(self, port: int) -> None:
        """Say which port SIP has, for the captures."""
        self._local = (self._local[0], port)

    @runs_on("sip")
    def saw(self, at: float, sent: bool, other: Source, message: Message, text: str) -> None:
        """
        Keep a message. What goes to an edge and comes from it is shown as the far end's, as soon as that is known.

        Args:
            at: Unix seconds.
            sent: by us.
            other: the other side.
            message: what it says.
            text: all of it.
        """
        kept = self._find(message.call_id) or self._begin(message, sent=sent)
        if kept is None:
            return
        if not other.edge:
            kept.peer = str(other)
        peer = (kept.peer if other.edge else "") or str(other)
        with self._changed:
            kept.add(TracedMessage(at, sent, peer, text[:_MOST_CHARACTERS]))
        answers = message.cseq_method == "INVITE" and 200 <= message.code < 300
        if answers and self._waiting.pop(message.call_id, None) is not None:
            self._answered[message.call_id] = kept
            if len(self._answered) > _ANSWERED:
                self._answered.popitem(last=False)

    @runs_on("sip")
    def follow(self, sip_call_id: str) -> None:
        """Keep the messages of a call from now on, and have them written at its end, whatever the settings say."""
        if sip_call_id in self._ending:
            return
        known = self._waiting.pop(sip_call_id, None) or self._answered.pop(sip_call_id, None)
        self._followed.setdefault(sip_call_id, known or _TracedCall(sip_call_id))
        if len(self._followed) > _ANSWERED:
            self._followed.popitem(last=False)

    @runs_on("sip")
    @contextmanager
    def follow_new(self) -> Iterator[None]:
        """Follow the calls that we place inside the block, from their INVITE on."""
        self._follows_new = True
        try:
            yield
        finally:
            self._follows_new = False

    @runs_on("sip")
    def finish(self, sip_call_id: str, keep: bool) -> Path | None:
        """
        Say that a call is over. Never blocks.

        Args:
            sip_call_id: its SIP Call-ID.
            keep: whether it is wanted where only failed calls are.

        Returns:
            The text file that a thread writes soon, its capture beside it; None when there will be none.
        """
        unanswered, followed = self._waiting.pop(sip_call_id, None), self._followed.pop(sip_call_id, None)
        kept = followed or unanswered or self._answered.pop(sip_call_id, None)
        if self._keeps_none or kept is None or not (followed or (kept.first and (keep or self._mode == "all"))):
            return None
        if unanswered and not self._unanswered.take("", time.monotonic()):
            return None
        began = kept.first[0].at if kept.first else time.time()  # our BYE goes out only now
        kept.path = self._folder / f"{_stamp(began)}-{_file_part(self._name_of(kept))}.txt"
        with self._changed:
            if len(self._queue) >= _QUEUED:
                return None
            self._ending[sip_call_id] = kept
            self._queue.append((time.monotonic() + _LINGER_S, kept))
            self._changed.notify()
        if self._thread is None:
            self._thread = new_thread("trace", self._write_all)
            self._thread.start()
        return kept.path

    @runs_on("sip")
    def refused(self, message: Message) -> None:
        """Keep what is known of a call that the screen refused."""
        if message.method == "INVITE" and not message.to_tag:
            self.finish(message.call_id, keep=True)

    @runs_on("sip")
    def close(self) -> None:
        """Write what is left and end the thread. Called once, after ``libDestroy``."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _begin(self, message: Message, *, sent: bool) -> _TracedCall | None:
        """Return a call that begins with this message, if it is to be kept."""
        if message.method != "INVITE":
            return None
        if sent and self._follows_new:
            self.follow(message.call_id)
            return self._followed[message.call_id]
        if self._mode == "off":
            return None
        kept = self._waiting[message.call_id] = _TracedCall(message.call_id)
        if len(self._waiting) > _WAITING:
            self._waiting.popitem(last=False)
        return kept

    def _find(self, call_id: str) -> _TracedCall | None:
        for table in (self._waiting, self._answered, self._followed, self._ending):
            if call_id in table:
                return table[call_id]
        return None

    # --- the thread ``trace`` ---

    def _write_all(self) -> None:
        while (kept := self._next()) is not None:
            self._write(kept)

    def _next(self) -> _TracedCall | None:
        """Wait for the next call whose messages are complete; None at the end."""
        with self._changed:
            while True:
                if self._queue and (self._closing or self._queue[0][0] <= time.monotonic()):
                    kept = self._queue.popleft()[1]
                    self._ending.pop(kept.call_id, None)
                    return kept
                if self._closing:
                    return None
                self._changed.wait(self._queue[0][0] - time.monotonic() if self._queue else None)

    def _name_of(self, kept: _TracedCall) -> str:
        """Return the Call-ID, without the people in it where they are shortened."""
        if self._shortener is None:
            return kept.call_id
        return self._shortener.text(kept.call_id, users_in(kept.first[0].text if kept.first else ""))

    def _write(self, kept: _TracedCall) -> None:
        messages = [*kept.first, *kept.last]
        path = kept.path
        assert path is not None
        if not messages:  # followed from a moment on at which all was over
            return
        if self._shortener is not None:
            messages = [replace(each, text=self._shortener.message(each.text)) for each in messages]
        text = draw(self._name_of(kept), messages, left_out=kept.count - len(messages))
        try:
            self._folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
            _put(path.with_suffix(".pcap"), capture(self._local, messages))
            _put(path, text.encode("utf-8", "replace"))
        except OSError as error:
            if not self._failing:
                _log.error("sip_trace_not_written", path=str(path), detail=str(error))
            self._failing = True
            return
        self._failing = False


def delete_old_traces(folder: Path, keep_days: float, now: float) -> None:
    """
    Delete traces that were written more than ``keep_days`` before ``now`` (Unix seconds); 0 keeps all. Never raises.

    Files of any other name, and links, are left alone. Thread: recorder, or any other that may wait for the disk.
    """
    if not keep_days:
        return
    try:
        with os.scandir(folder) as entries:
            old = [
                entry.path
                for entry in entries
                if _NAME.fullmatch(entry.name)
                and entry.is_file(follow_symlinks=False)
                and entry.stat(follow_symlinks=False).st_mtime < now - keep_days * _DAY_S
            ]
        for path in old:
            Path(path).unlink(missing_ok=True)  # another worker may be at it too
    except FileNotFoundError:
        return  # nothing was traced yet
    except OSError as error:
        _log.warning("old_sip_traces_not_deleted", folder=str(folder), detail=error.strerror or str(error))
    else:
        if old:
            _log.info("old_sip_traces_deleted", files=len(old))


def _put(path: Path, data: bytes) -> None:
    """Write a file that is there whole or not at all."""
    unfinished = path.with_name(f".{path.name}.part")
    unfinished.unlink(missing_ok=True)  # what a process that was killed left
    with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE_MODE), "wb") as file:
        file.write(data)
    os.replace(unfinished, path)


def _stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%S.%f")[:-3] + "Z"


def _file_part(call_id: str) -> str:
    return re.sub(r"[^A-Za-z0-9_@-]", "_", call_id)[:64]
