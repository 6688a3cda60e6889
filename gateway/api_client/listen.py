"""The audio of a live call, as the HTTP API passes it on over a WebSocket."""

from __future__ import annotations

import ssl
import struct
from collections.abc import Iterator

from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.sync.client import connect

from gateway.api_client.client import ApiRefused, NoApi, no_api, refusal
from gateway.api_client.place import ApiPlace
from gateway.store.audio import AudioBlock

WAV_RATE_HZ = 8000
_FRAME_BYTES = 4
_LONGEST_GAP_MS = 60_000
_OPEN_LIMIT_S = 10.0
_UNKNOWN_LENGTH = 0xFFFF_FFFF - 44


def heard(place: ApiPlace, call_id: str, *, limit_s: float) -> Iterator[bytes]:
    """
    Yield both sides of a call as it is spoken, until it ends.

    What got lost on the way is silence, so that both sides stay in time.

    Args:
        place: of the API.
        call_id: of a live call.
        limit_s: ends after this long, in seconds of audio.

    Yields:
        signed 16-bit little-endian PCM at 8 kHz, stereo: caller left, agent right.

    Raises:
        NoApi: nothing answers.
        ApiRefused: it refuses; the call does not exist, or the token may not listen.
    """
    scheme, _, rest = place.url.partition("://")
    url = f"{'wss' if scheme == 'https' else 'ws'}://{rest}/v1/calls/{call_id}/listen"
    headers = {"Authorization": f"Bearer {place.token.get_secret_value()}"} if place.token is not None else {}
    tls = ssl.create_default_context(cafile=place.authorities and str(place.authorities)) if scheme == "https" else None
    try:
        with connect(url, additional_headers=headers, ssl=tls, proxy=None, open_timeout=_OPEN_LIMIT_S) as socket:
            yield from in_time((message for message in socket if isinstance(message, bytes)), limit_ms=limit_s * 1000)
    except InvalidStatus as error:
        raise refusal(error.response.status_code, bytes(error.response.body or b"")) from None
    except ConnectionClosed as closed:
        reason = closed.rcvd.reason if closed.rcvd is not None else ""
        raise NoApi(f"the API broke off: {reason or closed}") from None
    except ValueError as error:
        raise ApiRefused(0, "", f"{place.url} sends something else than a call's sound: {error}") from None
    except (OSError, WebSocketException) as error:
        raise NoApi(no_api(place, error)) from None


def in_time(messages: Iterator[bytes], *, limit_ms: float) -> Iterator[bytes]:
    """Yield the PCM of messages, with silence for each that is missing between two others."""
    begin_ms: int | None = None
    written_ms = 0.0
    for message in messages:
        _, at_ms, pcm = AudioBlock.unpacked(message)
        begin_ms = at_ms if begin_ms is None else begin_ms
        missing_ms = min(at_ms - begin_ms - written_ms, _LONGEST_GAP_MS)
        length_ms = len(pcm) * 1000 / (WAV_RATE_HZ * _FRAME_BYTES)
        if missing_ms > length_ms / 2:
            yield bytes(round(missing_ms * WAV_RATE_HZ / 1000) * _FRAME_BYTES)
            written_ms += missing_ms
        yield pcm
        written_ms += length_ms
        if written_ms >= limit_ms:
            return


def wav_header(frames: int | None = None) -> bytes:
    """
    Return the header of a WAV file of such audio (RIFF, ``WAVE_FORMAT_PCM``).

    Args:
        frames: samples of each side; None for a stream, whose end is not known.
    """
    length = _UNKNOWN_LENGTH if frames is None else frames * _FRAME_BYTES
    form = struct.pack("<HHIIHH", 1, 2, WAV_RATE_HZ, WAV_RATE_HZ * _FRAME_BYTES, _FRAME_BYTES, 16)
    return b"".join(
        (
            b"RIFF",
            struct.pack("<I", length + 36),
            b"WAVEfmt ",
            struct.pack("<I", 16),
            form,
            b"data",
            struct.pack("<I", length),
        )
    )
