"""
The transcript of a call as the caller heard it, out of the call's events.

Who said what stands in ``agent_heard`` (an item of the agent that was played to the caller, cut where they interrupted
it), ``caller_spoke`` and ``announced`` (a sound of the dialplan). What an agent says to a second leg was not heard by
the caller, so it is no part of this. No I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Speaker = Literal["caller", "agent", "sound"]


@dataclass(frozen=True, slots=True)
class TranscriptEntry:
    """
    Something that was said.

    Attributes:
        at_s: seconds from the answer to its beginning (of the caller's: to its transcript, a moment after their last
            word); negative before the answer.
        speaker: who said it; a sound is one of the dialplan.
        text: the words; the file's name of a sound. Empty where the service gave no transcript.
        cut: the caller interrupted it, so the text ends with the last word that was heard.
        agent: name of the agent; empty unless it spoke.
        item_id: of the voice model's conversation; empty for a sound.
    """

    at_s: float
    speaker: Speaker
    text: str
    cut: bool = False
    agent: str = ""
    item_id: str = ""


def transcript_of(events: Iterable[Mapping[str, str]]) -> tuple[TranscriptEntry, ...]:
    """
    Return what was said in a call.

    Args:
        events: of the call, all of them, in the stream's order; their fields as they are in Redis.
    """
    told = list(events)
    began = next((event["answered_at"] for event in told if "answered_at" in event), told[0]["at"] if told else "0")
    return tuple(_entries(told, float(began)))


def transcript_text(entries: Iterable[TranscriptEntry]) -> str:
    """Return a transcript for people: a line for each entry, with minutes and seconds since the answer."""
    return "".join(f"[{_clock(entry.at_s)}] {_name(entry)}: {_words(entry)}\n" for entry in entries)


def transcript_json(entries: Iterable[TranscriptEntry]) -> list[dict[str, Any]]:
    """Return a transcript as plain values, named as the attributes of ``TranscriptEntry``."""
    return [asdict(entry) for entry in entries]


def _entries(events: Iterable[Mapping[str, str]], began: float) -> Iterator[TranscriptEntry]:
    agent = ""
    for event in events:
        agent = event.get("agent", agent)
        if "with" in event:
            continue
        at_s = float(event["at"]) - began
        first_s = round(float(event.get("began_at", event["at"])) - began, 2)
        cut, item_id, text = event.get("cut") == "true", event.get("item_id", ""), event.get("text", "")
        match event.get("event"):
            case "agent_heard":
                yield TranscriptEntry(first_s, "agent", text, cut, agent, item_id)
            case "announced":
                yield TranscriptEntry(first_s, "sound", event.get("sound", ""), cut)
            case "caller_spoke":
                yield TranscriptEntry(round(at_s, 2), "caller", text, item_id=item_id)


def _clock(at_s: float) -> str:
    seconds = abs(int(at_s))
    return f"{'-' if at_s <= -1 else ''}{seconds // 60:02}:{seconds % 60:02}"


def _name(entry: TranscriptEntry) -> str:
    return f"agent {entry.agent}" if entry.agent else entry.speaker


def _words(entry: TranscriptEntry) -> str:
    said = f"({entry.text})" if entry.speaker == "sound" else entry.text or "(no transcript)"
    return f"{said} -- interrupted" if entry.cut else said
