"""
Who listens to this worker's calls: what a call's two people say is published while anyone hears it.

Theory of operation. A call is *tapped* while it is wanted: its SIP leg then gives each frame of both sides to a
``BothSides`` as well (the clock fills it, next to the recording, if there is one). Otherwise no frame is touched.

- **Listening** to one call begins with ``listen``, a command from elsewhere. After each 40 ms of frames the loop
  takes what came, brings it to 8 kHz and publishes it as an ``AudioBlock``. However many listen, there is one stream.
  It stops when nobody has received a block for ``GRACE_S``, or after the time that was asked for.
- **Levels** of all calls are for a page that shows them. While a call is up, the worker publishes a message each
  ``ASK_EVERY_S``; if anyone receives it, all its calls are tapped and their levels published each ``LEVELS_EVERY_S``,
  until nobody does. A worker without calls does nothing.

Nothing here waits: messages go into the bounded queue of ``store/audio.py``. Thread: loop, but for what the clock
writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from gateway.audio.both_sides import BothSides, interleaved
from gateway.audio.level import LevelMeter
from gateway.audio.pcm import PHONE, PcmFormat
from gateway.audio.resample import Resampler
from gateway.audio.uplink import UplinkRounds
from gateway.call.ports import Clock, SipLeg, TimerHandle
from gateway.ids import CallId
from gateway.store.audio import AudioBlock, AudioPublisher
from gateway.threads import runs_on

BLOCK_MS = 40
HELD_MS = 1000
"""What waits of a tapped call while the loop is busy; the oldest is lost beyond that."""

GRACE_S = 2.0
"""How long a stream goes on that nobody receives: a listener may be on the way, or connecting anew."""

LEVELS_EVERY_S = 0.25
ASK_EVERY_S = 5.0

_DRIFT_MS = 60
"""By so much may the clock's frames differ from the time that has passed before the blocks' times are set anew."""


class BlockMaker:
    """
    Cuts a call's sound into numbered blocks of 8 kHz. No locks; use it from one thread.

    Args:
        fmt: format of what comes in.
    """

    def __init__(self, fmt: PcmFormat) -> None:
        self._resamplers = [Resampler(fmt.rate_hz, PHONE.rate_hz) for _ in range(2)] if fmt != PHONE else []
        self._rest = (b"", b"")
        self._next_ms: int | None = None
        self.number = 0
        """Of the next block."""

    def restart(self) -> None:
        """Begin anew after a pause: nothing before it belongs to what follows. The numbers go on."""
        for resampler in self._resamplers:
            resampler.reset()
        self._rest, self._next_ms = (b"", b""), None

    def blocks(self, caller: bytes, agent: bytes, ended_ms: int) -> Iterator[AudioBlock]:
        """
        Yield the blocks that are complete with the next part of the call.

        Args:
            caller: the caller's side, of the format.
            agent: what the caller heard meanwhile, equally long.
            ended_ms: from the call's answer to the end of this part, by the machine's clock.
        """
        sides = [caller, agent]
        if self._resamplers:
            sides = [each.process(side) for each, side in zip(self._resamplers, sides, strict=True)]
        left, right = (rest + side for rest, side in zip(self._rest, sides, strict=True))
        at_ms = ended_ms - PHONE.ms(len(left))
        if self._next_ms is None or abs(at_ms - self._next_ms) > _DRIFT_MS:
            self._next_ms = at_ms
        size = PHONE.bytes_of(BLOCK_MS)
        whole = len(left) - len(left) % size
        for at in range(0, whole, size):
            pcm = interleaved(left[at : at + size], right[at : at + size])
            yield AudioBlock(self.number, max(0, self._next_ms), pcm)
            self.number += 1
            self._next_ms += BLOCK_MS
        self._rest = left[whole:], right[whole:]


@dataclass(eq=False, slots=True)
class _Call:
    """A call that may be listened to; times are monotonic seconds, ``until`` is 0 while nobody listens."""

    call_id: CallId
    leg: SipLeg
    maker: BlockMaker
    answered_at: float | None = None
    until: float = 0.0
    heard_at: float = 0.0
    sides: BothSides | None = None
    meters: tuple[LevelMeter, LevelMeter] = field(default_factory=lambda: (LevelMeter(), LevelMeter()))

    @property
    def is_listened_to(self) -> bool:
        return self.until > 0


class Listening:
    """
    The taps of a worker's calls; the module says how. Thread: loop.

    Args:
        worker: name of this worker.
        publisher: sends what is heard; open.
        clock: time.
        rounds: collect frames each ``BLOCK_MS``.
        phone: format of the calls' audio.
    """

    def __init__(
        self, worker: str, publisher: AudioPublisher, clock: Clock, rounds: UplinkRounds, phone: PcmFormat
    ) -> None:
        self._worker = worker
        self._publisher = publisher
        self._clock = clock
        self._rounds = rounds
        self._phone = phone
        self._calls: dict[CallId, _Call] = {}
        self._visits: dict[CallId, partial[None]] = {}
        self._timer: TimerHandle | None = None
        self._watched = False  # somebody receives the levels

    @runs_on("loop")
    def begin(self, call_id: CallId, leg: SipLeg) -> None:
        """Know a call from now on."""
        self._calls[call_id] = _Call(call_id, leg, BlockMaker(self._phone))

    @runs_on("loop")
    def answered(self, call_id: CallId) -> None:
        """Count the call's time from now on; nothing happens the second time."""
        call = self._calls.get(call_id)
        if call is None or call.answered_at is not None:
            return
        call.answered_at = self._clock.monotonic()
        if self._watched:
            self._tap(call)
        elif self._timer is None:
            self._tell_levels()

    @runs_on("loop")
    def end(self, call_id: CallId) -> None:
        """Forget a call; whoever listens is told that it has ended."""
        call = self._calls.pop(call_id, None)
        if call is None:
            return
        if call.is_listened_to:
            self._take(call)
            last = AudioBlock(call.maker.number, self._ms(call, self._clock.monotonic()), b"")
            self._publisher.offer_block(call_id, last, _nobody_minds)
            self._stop_listening(call)
        self._untap(call)

    @runs_on("loop")
    def listen(self, call_id: CallId, seconds: float) -> bool:
        """
        Publish a call's sound while anyone receives it, for ``seconds`` at the longest; False: there is no such call.

        Asked for again while it goes on, it goes on for longer.
        """
        call = self._calls.get(call_id)
        if call is None:
            return False
        now = self._clock.monotonic()
        begins = not call.is_listened_to
        call.until, call.heard_at = max(call.until, now + seconds), now
        if begins:
            self._take(call)  # what was for the levels alone
            call.maker.restart()
            visit = self._visits[call_id] = partial(self._publish, call)
            self._rounds.join(self._tap(call), visit)
        return True

    @runs_on("loop")
    def close(self) -> None:
        """Tap no call any more."""
        for call_id in tuple(self._calls):
            self.end(call_id)
        self._stop_timer()

    # One call

    def _tap(self, call: _Call) -> BothSides:
        if call.sides is None:
            call.sides = BothSides(self._phone, HELD_MS)
            call.leg.listen(call.sides)
        return call.sides

    def _untap(self, call: _Call) -> None:
        if call.sides is not None and not call.is_listened_to:
            call.sides = None
            call.leg.listen(None)

    def _take(self, call: _Call) -> tuple[bytes, bytes]:
        """Take what waits, and measure it."""
        if call.sides is None:
            return b"", b""
        caller, agent = call.sides.take(HELD_MS)
        if self._watched:
            for meter, side in zip(call.meters, (caller, agent), strict=True):
                meter.add(side)
        return caller, agent

    def _publish(self, call: _Call) -> None:
        """Publish what came since the last round; in the end, stop."""
        if call.sides is None:
            return
        now = self._clock.monotonic()
        caller, agent = self._take(call)
        for block in call.maker.blocks(caller, agent, self._ms(call, call.sides.written_at)):
            self._publisher.offer_block(call.call_id, block, partial(self._heard, call))
        if now > call.until or now - call.heard_at > GRACE_S:
            self._stop_listening(call)
            if not self._watched:
                self._untap(call)

    def _heard(self, call: _Call, listeners: int) -> None:
        if listeners:
            call.heard_at = self._clock.monotonic()

    def _stop_listening(self, call: _Call) -> None:
        call.until = 0.0
        visit = self._visits.pop(call.call_id, None)
        if visit is not None:
            self._rounds.leave(visit)

    @staticmethod
    def _ms(call: _Call, at: float) -> int:
        return 0 if call.answered_at is None else max(0, round((at - call.answered_at) * 1000))

    # The levels of all

    def _tell_levels(self) -> None:
        """Publish the levels while anyone receives them, else ask whether anyone does; while there is a call."""
        up = [call for call in self._calls.values() if call.answered_at is not None]
        watched, levels = self._watched, dict[CallId, tuple[float, float]]()
        if watched:
            for call in up:
                if not call.is_listened_to:
                    self._take(call)
                caller, agent = call.meters
                levels[call.call_id] = caller.read(), agent.read()
        self._stop_timer()
        if up:
            self._set_timer()
        else:
            self._watch(watched=False)
        if up or watched:  # whoever watched learns that there is no call any more
            self._publisher.offer_levels(self._worker, levels, self._levels_heard)

    def _levels_heard(self, listeners: int) -> None:
        if bool(listeners) != self._watched and self._timer is not None:
            self._watch(watched=bool(listeners))
            self._stop_timer()
            self._set_timer()

    def _set_timer(self) -> None:
        self._timer = self._clock.call_later(LEVELS_EVERY_S if self._watched else ASK_EVERY_S, self._tell_levels)

    def _watch(self, *, watched: bool) -> None:
        self._watched = watched
        for call in self._calls.values():
            if not watched:
                self._untap(call)
            elif call.answered_at is not None:
                self._tap(call)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _nobody_minds(listeners: int) -> None:
    """Take it as it is."""
