"""
Many callers at once: ``signalling`` places their calls, ``media`` speaks and listens for all of them.

A patient caller is silent until it hears speech, so that it does not interrupt the greeting; then it speaks in a loop,
each caller from another place of the speech, whether the agent is speaking or not: there are turns and interruptions.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gateway.audio.wav import read_wav
from gateway.lab.callers.media import Media, Voice
from gateway.lab.callers.signalling import CallsFailed, PlacedCall, Signalling
from gateway.lab.speech import caller_wav

CALLER = "caller"
_LOOK_S = 0.1
_STRIDE_FRAMES = 89  # between the places of the speech at which two callers begin


@dataclass(eq=False)
class Phones:
    """
    Callers of one or several SIP addresses, in turn. Made by ``phones``. Thread: loop.

    Attributes:
        servers: IPv4 addresses and ports.
        placed: every call so far, in the order of the INVITEs.
        media: of all.
        is_patient: see above.
    """

    servers: Sequence[tuple[str, int]]
    signalling: Signalling
    media: Media
    is_patient: bool = True
    placed: list[PlacedCall] = field(default_factory=list)
    _voices: dict[str, Voice] = field(default_factory=dict)

    @property
    def up(self) -> list[PlacedCall]:
        """The calls that were answered and have not ended."""
        return [call for call in self.placed if call.answered_ns and not call.has_ended.is_set()]

    @property
    def codes(self) -> Counter[int]:
        """How many calls were refused, by the code."""
        return Counter(call.code for call in self.placed if call.is_settled.is_set() and not call.answered_ns)

    def place(self) -> PlacedCall:
        """Place one more call."""
        number = len(self.placed)
        server = self.servers[number % len(self.servers)]
        call = self.signalling.invite(server, f"{CALLER}{number:05d}", self.media.port)
        self.placed.append(call)
        return call

    async def ramp(self, calls: int, within_s: float) -> list[PlacedCall]:
        """Place calls, evenly within a time; return them, settled or not."""
        loop = asyncio.get_running_loop()
        began, made = loop.time(), []
        for number in range(calls):
            await asyncio.sleep(max(0.0, began + number * within_s / calls - loop.time()))
            made.append(self.place())
            self.look()
        return made

    async def all_heard(self, calls: list[PlacedCall], limit_s: float) -> None:
        """
        Wait until each of these calls is refused, or answered and hears speech.

        Raises:
            CallsFailed: not within the limit.
        """
        try:
            async with asyncio.timeout(limit_s):
                while not all(call.heard_ns or call.has_ended.is_set() for call in calls):
                    await asyncio.sleep(_LOOK_S)
                    self.look()
        except TimeoutError:
            settled = sum(call.is_settled.is_set() for call in calls)
            silent = sum(bool(call.answered_ns) and not call.heard_ns for call in calls)
            raise CallsFailed(
                f"of {len(calls)} calls {len(calls) - settled} got no final answer and {silent} heard no speech "
                f"within {limit_s:g} s"
            ) from None

    def look(self) -> None:
        """Note who has heard speech, and let them speak."""
        for call in self.up:
            if not call.heard_ns and call.media is not None and call.media[1] in self.media.heard_from:
                call.heard_ns = self.media.heard_from[call.media[1]]
                if self.is_patient:
                    self.media.speak(self._voices[call.call_id])

    async def hang_up(self, calls: list[PlacedCall], limit_s: float = 10.0) -> None:
        """End calls and wait until they have ended, for at most the limit."""
        for call in calls:
            self.signalling.hang_up(call)
        ends = [asyncio.ensure_future(call.has_ended.wait()) for call in calls if call.answered_ns]
        if ends:
            _, late = await asyncio.wait(ends, timeout=limit_s)
            for each in late:
                each.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def answered(self, call: PlacedCall) -> None:
        """Let an answered call send."""
        if call.media is None or call.media_port != self.media.port:
            return
        frame = self.placed.index(call) * _STRIDE_FRAMES % self.media.frames
        voice = Voice(call.media, frame, is_speaking=not self.is_patient)
        self._voices[call.call_id] = voice
        self.media.add(voice)

    def ended(self, call: PlacedCall) -> None:
        """Let a call that is over send no more."""
        voice = self._voices.pop(call.call_id, None)
        if voice is not None:
            self.media.remove(voice)


@asynccontextmanager
async def phones(
    ports: Sequence[int], *, is_patient: bool = True, speech: bytes | None = None
) -> AsyncIterator[Phones]:
    """
    Have callers for SIP ports of 127.0.0.1.

    Args:
        ports: UDP; each call goes to the next one.
        is_patient: each caller is silent until it hears speech.
        speech: what they say, 16-bit mono PCM at 8 kHz; None is the voice that ships.
    """
    made: list[Phones] = []
    media = Media(read_wav(caller_wav())[1] if speech is None else speech)
    signalling = Signalling(
        on_answer=lambda call: made[0].answered(call),
        on_end=lambda call: made[0].ended(call),
    )
    async with media, signalling:
        made.append(Phones([("127.0.0.1", port) for port in ports], signalling, media, is_patient))
        yield made[0]
