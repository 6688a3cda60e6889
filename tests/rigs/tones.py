"""Tones that tell apart who hears whom, and the gateway's own waiting tone."""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt

from gateway.audio.pcm import PHONE
from gateway.lab.callers.rtp_peer import RtpPeer
from tests.rigs.waiting import until

CALLER_HZ, CALLEE_HZ = 900.0, 1500.0
WAITING_HZ = (440.0, 554.37)
_WINDOW_S = 0.1
_LOUD = 100.0  # RMS of a sample; silence in G.711 is far below
_MOST = 0.7  # share of a window's energy that is the tone itself

_NOTE_WIDTH_HZ = 25
_NEARLY_ALL = 0.85

Samples = npt.NDArray[np.float64]


def tone(hz: float, seconds: float = 1.0) -> bytes:
    """A sine wave, PCM at 8 kHz; whole seconds of it can be looped."""
    count = round(seconds * PHONE.rate_hz)
    wave = 8000 * np.sin(2 * np.pi * hz * np.arange(count) / PHONE.rate_hz)
    return bytes(np.rint(wave).astype("<i2"))


def _windows(peer: RtpPeer) -> list[Samples]:
    """Return what came in, cut into windows, without the silent ones."""
    samples = np.frombuffer(peer.reception.received_pcm(), "<i2").astype(np.float64)
    size = round(_WINDOW_S * PHONE.rate_hz)
    cut = [samples[at : at + size] for at in range(0, len(samples) - size + 1, size)]
    return [window for window in cut if np.sqrt(np.mean(window**2)) > _LOUD]


def _is_tone(window: Samples, hz: float) -> bool:
    """Tell whether most of a window is one tone, whatever its swell."""
    at = np.arange(len(window)) / PHONE.rate_hz
    shape = np.hanning(len(window))
    found = 2 * abs(np.dot(window * shape, np.exp(-2j * np.pi * hz * at))) / shape.sum()
    return bool(found**2 / 2 > _MOST * np.mean(window**2 * shape) / shape.mean())


def _of_waiting(window: Samples) -> bool:
    return any(_is_tone(window, hz) for hz in WAITING_HZ)


def hears_only_waiting(peer: RtpPeer) -> bool:
    """Tell whether nearly all that was heard, by its energy, is the waiting tone, and something was."""
    samples = np.frombuffer(peer.reception.received_pcm(), "<i2").astype(np.float64)
    power = np.abs(np.fft.rfft(samples)) ** 2
    hz = np.fft.rfftfreq(len(samples), 1 / PHONE.rate_hz)
    notes = np.any([np.abs(hz - note) < _NOTE_WIDTH_HZ for note in WAITING_HZ], axis=0)
    return bool(_windows(peer)) and bool(power[notes].sum() > _NEARLY_ALL * power.sum())


def hears_speech(peer: RtpPeer) -> bool:
    """Tell whether half a second of something that is no tone of ours was heard."""
    other = [
        window
        for window in _windows(peer)
        if not any(_is_tone(window, hz) for hz in (*WAITING_HZ, CALLER_HZ, CALLEE_HZ))
    ]
    return len(other) * _WINDOW_S >= 0.5


def hears(peer: RtpPeer, hz: float) -> bool:
    """Tell whether half a second of this tone was heard."""
    return sum(_is_tone(window, hz) for window in _windows(peer)) * _WINDOW_S >= 0.5


async def until_waiting_is_heard(peer: RtpPeer) -> None:
    """Wait until some of the waiting tone was heard."""
    await until(lambda: sum(map(_of_waiting, _windows(peer))) >= 3, what="the waiting tone")


async def until_they_hear_each_other(caller: RtpPeer, callee: RtpPeer) -> None:
    """Let both sound their tones, and wait until each is heard at the other end."""
    caller.say(tone(CALLER_HZ))
    callee.say(tone(CALLEE_HZ))
    for peer, hz in ((caller, CALLEE_HZ), (callee, CALLER_HZ)):
        peer.reception.clear()
        await until(partial(hears, peer, hz), what=f"{hz:g} Hz")
