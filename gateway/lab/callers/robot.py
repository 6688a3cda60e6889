"""
A caller without a person: places one SIP call, speaks a WAV file, records what it hears and reports what happened.

How it works. It is the gateway's own SIP leg with a file instead of an agent behind it, so it runs in a process of its
own. The SIP thread's events set two asyncio events (answered, closed); between them the robot listens to the
loudness of what it hears, speaks when the other side is silent, and writes both sides into a stereo WAV file.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import re
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from pathlib import Path

from gateway.audio.pcm import PHONE
from gateway.audio.playout import PlayoutBuffer
from gateway.audio.uplink import UplinkTap
from gateway.audio.wav import read_wav, write_wav
from gateway.call.events import CallEvent, LegClosed, LegFailed, LegRinging, MediaUp
from gateway.errors import ConfigError
from gateway.ids import new_call_id
from gateway.lab.figures.turns import TURN_END_S, TurnListener
from gateway.settings.sip import SipSettings
from gateway.sip.thread import SipThread

FIRST_WORD_S = 3.0  # an agent that has said nothing by then lets the caller speak first
PATIENCE_S = 6.0  # an agent that has not answered by then will not
_TICK_S = 0.02
_OUR_ITEM = "robot"
_RTP_PORTS = (20000, 21998)
_SIP_URI = re.compile(r"sips?:(?:[^@\s]+@)?(?P<host>[^@:;?\s]+)(?::(?P<port>\d{1,5}))?(?:[;?]\S*)?")


class RobotExit(IntEnum):
    """What the command's exit code says."""

    HEARD = 0
    FAILED = 1
    REFUSED = 3
    NO_ANSWER = 4
    SILENCE = 5
    CUT_OFF = 6


EXIT_MEANINGS = {
    RobotExit.HEARD: "the agent was heard and the call ended in order",
    RobotExit.FAILED: "the call could not be placed (bad address, file or port)",
    RobotExit.REFUSED: "the far end refused the call",
    RobotExit.NO_ANSWER: "no answer within the limit",
    RobotExit.SILENCE: "answered, but the agent was never heard",
    RobotExit.CUT_OFF: "the far end hung up before the robot had spoken",
}


@dataclass(frozen=True, slots=True)
class RobotOptions:
    """
    One call to make.

    Attributes:
        uri: SIP URI to call.
        play: WAV file to speak (16-bit mono, 8 kHz); None listens only.
        record: stereo WAV to write: caller left, agent right.
        answer_limit_s: give up ringing after this.
        length_s: hang up this long after the answer at the latest.
        talk_at_s: start speaking this long after the answer; None waits for the agent to finish its greeting.
        hang_up_when_done: hang up when the agent has answered what was spoken; else stay for ``length_s``.
    """

    uri: str
    play: Path | None = None
    record: Path | None = None
    answer_limit_s: float = 30
    length_s: float = 30
    talk_at_s: float | None = None
    hang_up_when_done: bool = True


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that happened in the call; ``at`` in Unix seconds."""

    at: float
    what: str
    detail: str = ""


@dataclass
class RobotReport:
    """
    The story of one call.

    Attributes:
        exit_code: see ``EXIT_MEANINGS``.
        happenings: what happened, in order.
        ended_by: ``robot`` or ``far end``; empty when there was no call.
        sip_code: last SIP status.
        audio_at: Unix seconds of the recording's first sample; 0 without audio.
        turns: (start, end) of each stretch of agent speech, in seconds of the recording.
    """

    exit_code: RobotExit = RobotExit.FAILED
    happenings: list[Happening] = field(default_factory=list)
    ended_by: str = ""
    sip_code: int = 0
    audio_at: float = 0.0
    turns: list[tuple[float, float]] = field(default_factory=list)

    def to_json(self) -> str:
        """Return the report as JSON, for other programs."""
        return json.dumps({**asdict(self), "verdict": EXIT_MEANINGS[self.exit_code]}, indent=1)


class Robot:
    """
    One call and everything said and heard in it. Thread: loop.

    Args:
        options: the call to make.
        tell: takes each happening as it comes.

    Raises:
        ConfigError: the URI or the WAV file cannot be used.
    """

    def __init__(self, options: RobotOptions, tell: Callable[[Happening], None]) -> None:
        self._options = options
        self._tell = tell
        self._local_host = local_address_towards(options.uri)
        self._speech = phone_speech(options.play) if options.play else b""
        self._uplink = UplinkTap(capacity_frames=500)
        self._playout = PlayoutBuffer(PHONE)
        self._listener = TurnListener()
        self._heard = bytearray()
        self._speech_from_s: float | None = None
        self._answered = asyncio.Event()
        self._closed = asyncio.Event()
        self.report = RobotReport()

    async def call(self) -> RobotReport:
        """
        Make the call, to its end.

        Raises:
            SipError: pjsua2 is missing or could not start.
        """
        first, last = _RTP_PORTS
        sip = SipThread(
            SipSettings(host=self._local_host, port=0, rtp_port_min=first, rtp_port_max=last, no_rtp_timeout_s=0),
            self._on_event,
        )
        try:
            await sip.start()
            leg = sip.new_call(new_call_id(time.time_ns()), self._options.uri, self._uplink, self._playout)
            self._note("dialled", self._options.uri)
            leg.dial()
            await _first_of(self._answered, self._closed, limit_s=self._options.answer_limit_s)
            if self._answered.is_set():
                await self._talk()
            leg.hang_up(487, "Robot is done")
            await _first_of(self._closed, limit_s=3)
        finally:
            await sip.stop()
        self._listener.close()
        self.report.turns = self._listener.turns
        self.report.exit_code = self._verdict()
        if self._options.record and self._heard:
            write_wav(self._options.record, PHONE.rate_hz, self._said(), bytes(self._heard))
        return self.report

    async def _talk(self) -> None:
        """Listen frame by frame, speak when it is our turn, return when the conversation is over."""
        while not self._closed.is_set() and not self._done():
            await asyncio.sleep(_TICK_S)
            heard = self._uplink.read()
            for start in range(0, len(heard), PHONE.frame_bytes):
                self._hear(heard[start : start + PHONE.frame_bytes])
            if self._speech and self._speech_from_s is None and self._our_turn():
                self._speech_from_s = self._now_s()
                self._playout.write(_OUR_ITEM, self._speech)
                self._playout.complete(_OUR_ITEM)
                self._note("robot speaks", f"{len(self._speech) / PHONE.bytes_per_ms / 1000:.1f} s")

    def _hear(self, frame: bytes) -> None:
        at_s = self._now_s()
        if not self._heard:
            self.report.audio_at = time.time()
        was_speaking = self._listener.started_at is not None
        loud = self._listener.hear(at_s, frame)
        self._heard += frame
        if loud and not was_speaking:
            self._note(
                "agent speaks" if self._listener.turns else "first agent audio",
                f"{at_s:.2f} s into the audio",
            )

    def _now_s(self) -> float:
        """Return the length of the recording so far: the robot's clock while it talks."""
        return len(self._heard) / PHONE.bytes_per_ms / 1000

    def _our_turn(self) -> bool:
        if self._options.talk_at_s is not None:
            return self._now_s() >= self._options.talk_at_s
        if self._listener.started_at is not None:
            return False
        return bool(self._listener.turns) or self._now_s() >= FIRST_WORD_S

    def _done(self) -> bool:
        now_s = self._now_s()
        if now_s >= self._options.length_s:
            return True
        if not self._options.hang_up_when_done or self._listener.started_at is not None:
            return False
        if self._speech:
            if self._speech_from_s is None:
                return False
            our_end_s = self._speech_from_s + len(self._speech) / PHONE.bytes_per_ms / 1000
        else:
            our_end_s = 0.0
        answered = any(end > our_end_s + TURN_END_S / 2 for _, end in self._listener.turns)
        return answered or now_s > our_end_s + PATIENCE_S

    def _said(self) -> bytes:
        silence = bytes(PHONE.bytes_of(int((self._speech_from_s or 0.0) * 1000)))
        spoken = self._speech if self._speech_from_s is not None else b""
        return (silence + spoken)[: len(self._heard)]

    def _verdict(self) -> RobotExit:
        if not self._answered.is_set():
            return RobotExit.REFUSED if self.report.sip_code >= 300 and self._was_refused() else RobotExit.NO_ANSWER
        if not self._listener.turns:
            return RobotExit.SILENCE
        if self._speech and self._speech_from_s is None:
            return RobotExit.CUT_OFF
        return RobotExit.HEARD

    def _was_refused(self) -> bool:
        return self.report.ended_by == "far end" and self.report.sip_code != 408

    def _on_event(self, event: CallEvent) -> None:
        match event:
            case LegRinging(code=code):
                self._note("ringing" if code == 180 else "progress", str(code))
            case MediaUp(codec=codec):
                self._note("answered", codec)
                self._answered.set()
            case LegFailed(detail=detail):
                self._note("failed", detail)
            case LegClosed(by_caller=by_far_end, code=code, reason=reason):
                # "Caller" is whoever is at the far end of a leg; of this one it is the gateway.
                self.report.ended_by = "far end" if by_far_end else "robot"
                self.report.sip_code = code
                what = "hang-up" if self._answered.is_set() else "call over"
                self._note(f"{what} by the {self.report.ended_by}", f"{code} {reason}")
                self._closed.set()

    def _note(self, what: str, detail: str = "") -> None:
        happening = Happening(time.time(), what, detail)
        self.report.happenings.append(happening)
        self._tell(happening)


def phone_speech(path: Path) -> bytes:
    """
    Return a WAV file's samples as the phone takes them.

    Raises:
        ConfigError: not a mono 16-bit WAV file at 8 kHz; names the file and the cure.
    """
    rate_hz, pcm = read_wav(path)
    if rate_hz != PHONE.rate_hz:
        raise ConfigError(f"{path}: {rate_hz} Hz; the phone wants 8000: sox {path} -r 8000 -c 1 -b 16 out.wav")
    return pcm


def local_address_towards(uri: str) -> str:
    """
    Return our own IPv4 address on the way to a SIP URI's host.

    Raises:
        ConfigError: not a SIP URI, or its host cannot be found.
    """
    found = _SIP_URI.fullmatch(uri)
    if found is None:
        raise ConfigError(f"{uri!r} is not a SIP URI; write it like sip:1000@127.0.0.1:5060")
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((found["host"], int(found["port"] or 5060)))  # sends nothing
            return str(ipaddress.ip_address(probe.getsockname()[0]))
    except (OSError, OverflowError) as error:
        raise ConfigError(f"{uri}: the host {found['host']!r} cannot be reached: {error}") from error


async def _first_of(*events: asyncio.Event, limit_s: float) -> None:
    """Wait until one of the events is set, ``limit_s`` seconds at most."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
