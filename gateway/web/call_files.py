"""
What a call left on disk: ladder and capture of its SIP messages, recording, waveform; its transcript; all in one zip.

The files are on the machine of the worker that had the call. They are served where this process finds them at the path
in the record, inside the folder of the settings (``recording.folder``, ``sip.trace_folder``): on the same machine, or
with the folder mounted at the same place. Otherwise the answer says where the file is.
"""

from __future__ import annotations

import json
import os
import tempfile
import wave
import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import IO, Annotated, Literal

import numpy as np
from fastapi import APIRouter, Query
from fastapi.responses import FileResponse, PlainTextResponse, StreamingResponse
from pydantic import BaseModel, Field
from starlette.responses import Response

from gateway.store.record import CallRecord
from gateway.store.transcript import transcript_json, transcript_of, transcript_text
from gateway.threads import run_in_pool
from gateway.web.auth import allowed
from gateway.web.calls import STREAM, KnownCall
from gateway.web.errors import ApiError, file_response, problem_responses
from gateway.web.services import Served, Services
from gateway.web.views import typed, view_of

READ = [allowed("read")]
MOST_BUCKETS = 4000
SHORTEST_BUCKET_MS = 20
PCAP = "application/vnd.tcpdump.pcap"
_CHUNK_BYTES = 1 << 16
_FULL_SCALE = 32_768

router = APIRouter(prefix="/v1/calls/{call_id}", tags=["files of calls"], responses=problem_responses(404))


class Waveform(BaseModel):
    """How loud both sides were: the peak of each stretch of ``bucket_ms``, 0 to 1."""

    bucket_ms: int
    caller: list[float]
    agent: list[float]


class Said(BaseModel):
    """Something that was said, as the caller heard it."""

    at_s: float = Field(description="seconds from the answer to its beginning")
    speaker: Literal["caller", "agent", "sound"]
    text: str
    cut: bool = Field(description="the caller interrupted it")
    agent: str
    item_id: str


class Transcript(BaseModel):
    """What was said in a call, in order."""

    entries: list[Said]


@dataclass(frozen=True, slots=True)
class _Left:
    """The files that a call left; None for what there is not, or not here."""

    ladder: Path | None
    capture: Path | None
    recording: Path | None


@router.get("/ladder", dependencies=READ, response_class=PlainTextResponse)
async def ladder(services: Served, record: KnownCall) -> FileResponse:
    """Return the SIP ladder of a call as text."""
    path = await _file(services, record, record.sip_trace, services.traces, "trace")
    return FileResponse(path, media_type="text/plain; charset=utf-8")


@router.get("/pcap", dependencies=READ, response_class=Response, responses=file_response(PCAP))
async def pcap(services: Served, record: KnownCall) -> FileResponse:
    """Return the SIP messages of a call as a capture for Wireshark."""
    told = str(Path(record.sip_trace).with_suffix(".pcap")) if record.sip_trace else None
    path = await _file(services, record, told, services.traces, "trace")
    return FileResponse(path, media_type=PCAP, filename=f"{record.call_id}.pcap")


@router.get("/recording", dependencies=READ, response_class=Response, responses=file_response("audio/wav"))
async def recording(services: Served, record: KnownCall) -> FileResponse:
    """Return the recording: WAV, the caller on the left, the agent on the right. `Range` is understood."""
    path = await _file(services, record, record.recording, services.recordings, "recording")
    return FileResponse(
        path, media_type="audio/wav", filename=f"{record.call_id}.wav", content_disposition_type="inline"
    )


@router.get("/waveform", dependencies=READ)
async def waveform(services: Served, record: KnownCall) -> Waveform:
    """Return how loud both sides of the recording are, for drawing."""
    path = await _file(services, record, record.recording, services.recordings, "recording")
    try:
        return await run_in_pool(lambda: peaks_of(path))
    except (wave.Error, EOFError, OSError):
        raise ApiError(404, "unreadable_recording", "the recording is no stereo WAV file of 16 bits") from None


@router.get("/transcript", dependencies=READ, responses=file_response("text/plain"))
async def transcript(
    services: Served,
    record: KnownCall,
    form: Annotated[Literal["json", "text"], Query(alias="format", description="text: a line for each entry")] = "json",
) -> Transcript:
    """Return what was said, as the caller heard it."""
    entries = transcript_of(await _all_events(services, record))
    if form == "text":
        return PlainTextResponse(transcript_text(entries))  # type: ignore[return-value]  # FastAPI takes a response too
    return Transcript.model_validate({"entries": transcript_json(entries)})


@router.get("/bundle", dependencies=STREAM, response_class=Response, responses=file_response("application/zip"))
async def bundle(services: Served, record: KnownCall) -> StreamingResponse:
    """Return all there is of a call as a zip: record, events, transcript, and the files that are found here."""
    events = await _all_events(services, record)
    left = _Left(
        _found(record.sip_trace, services.traces),
        _found(str(Path(record.sip_trace).with_suffix(".pcap")) if record.sip_trace else None, services.traces),
        _found(record.recording, services.recordings),
    )
    file = await run_in_pool(lambda: _zipped(record, events, left))
    headers = {
        "Content-Disposition": f'attachment; filename="{record.call_id}.zip"',
        "Content-Length": str(file.seek(0, os.SEEK_END)),
    }
    file.seek(0)
    return StreamingResponse(_chunks(file), media_type="application/zip", headers=headers)


async def _file(services: Services, record: CallRecord, told: str | None, folder: Path, what: str) -> Path:
    """Return the file at a path of the record. Raises ``ApiError``, 404, that says where it is."""
    if not told:
        raise ApiError(404, f"no_{what}", f"this call has no {what}")
    path = _found(told, folder)
    if path is None:
        hosts = {worker.condition.worker: worker.host for worker in await services.reader.workers()}
        host = hosts.get(record.worker or "") or f"the machine of worker {record.worker}"
        raise ApiError(404, f"{what}_elsewhere", f"the {what} is not on this machine; it is on {host}: {told}")
    return path


def _found(told: str | None, folder: Path) -> Path | None:
    """Return the file at a path that a record has; None outside the folder, through symbolic links too, or if gone."""
    if not told:
        return None
    try:
        path, inside = Path(told).resolve(), folder.resolve()
        return path if path.is_relative_to(inside) and path.is_file() else None
    except (OSError, ValueError):
        return None


def peaks_of(path: Path) -> Waveform:
    """
    Return the peaks of a stereo recording; waits for the disk.

    Raises:
        wave.Error: not WAV, or not stereo of 16 bits.
        OSError: it cannot be read.
    """
    with wave.open(str(path)) as file:
        if (file.getnchannels(), file.getsampwidth()) != (2, 2):
            raise wave.Error("not stereo of 16 bits")
        rate_hz = file.getframerate()
        bucket_ms = max(SHORTEST_BUCKET_MS, 10 * ceil(file.getnframes() * 100 / rate_hz / MOST_BUCKETS))
        frames = rate_hz * bucket_ms // 1000
        sides: list[list[float]] = [[], []]
        while data := file.readframes(frames):
            samples = np.frombuffer(data, "<i2").reshape(-1, 2).astype(np.int32)
            for side, peak in zip(sides, np.abs(samples).max(axis=0), strict=True):
                side.append(round(float(peak) / _FULL_SCALE, 4))
    return Waveform(bucket_ms=bucket_ms, caller=sides[0], agent=sides[1])


async def _all_events(services: Services, record: CallRecord) -> list[dict[str, str]]:
    events: list[dict[str, str]] = []
    after = "0"
    while entries := await services.reader.events_of(record.call_id, after):
        events += [{"id": entry.id, **entry.fields} for entry in entries]
        after = entries[-1].id
    return events


def _zipped(record: CallRecord, events: list[dict[str, str]], left: _Left) -> IO[bytes]:
    """Return a temporary file that is gone when it is closed. Waits for the disk."""
    said = transcript_of(events)
    texts = {
        "call.json": json.dumps(view_of(record).model_dump(exclude_none=True), indent=2, ensure_ascii=False),
        "events.jsonl": "".join(f"{json.dumps(typed(event), ensure_ascii=False)}\n" for event in events),
        "transcript.json": json.dumps(transcript_json(said), indent=2, ensure_ascii=False),
        "transcript.txt": transcript_text(said),
    }
    files = {"sip.txt": left.ladder, "sip.pcap": left.capture, "recording.wav": left.recording}
    file = tempfile.TemporaryFile()  # noqa: SIM115 - it is closed when it was sent
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts.items():
            archive.writestr(name, text)
        for name, path in files.items():
            if path is not None:
                archive.write(path, name)
    return file


async def _chunks(file: IO[bytes]) -> AsyncIterator[bytes]:
    with file:
        while chunk := await run_in_pool(lambda: file.read(_CHUNK_BYTES)):
            yield chunk
