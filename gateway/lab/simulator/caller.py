"""The caller's turns as the protocol shows them: speech started and stopped, committed, transcribed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from gateway.audio.pcm import MODEL
from gateway.lab.simulator.items import Conversation, Item
from gateway.lab.simulator.link import Link
from gateway.lab.simulator.turns import CallerAudio, Stretch
from gateway.lab.simulator.usage import caller_tokens, text_tokens
from gateway.lab.simulator.vad import SpeechStarted, SpeechStopped

TRANSCRIPTION_S = 0.12
Spawn = Callable[[Coroutine[Any, Any, None]], None]


class CallerTurns:
    """
    Makes items of the conversation from the caller's audio.

    Args:
        audio: the input buffer.
        conversation: receives the items.
        link: where events go.
        new_item_id: makes an id.
        spawn: runs a coroutine beside the session, until its end at the latest.
    """

    def __init__(
        self,
        audio: CallerAudio,
        conversation: Conversation,
        link: Link,
        *,
        new_item_id: Callable[[], str],
        spawn: Spawn,
    ) -> None:
        self._audio = audio
        self._conversation = conversation
        self._link = link
        self._new_item_id = new_item_id
        self._spawn = spawn
        self._announced: str | None = None
        self._transcriber: dict[str, Any] | None = None
        self._with_logprobs = False
        self._idle_since_ms = 0.0
        self._idle_at_ms: float | None = None

    def configure(self, session: dict[str, Any]) -> None:
        """Take over the session's input settings."""
        settings = session["audio"]["input"]
        had_turns = self._audio.turn_detection is not None
        self._audio.configure(settings)
        self._transcriber = settings["transcription"]
        self._with_logprobs = bool(session["include"])
        if had_turns and settings["turn_detection"] is None:
            self._announced = None
            self.expect_nothing()

    def expect_speech(self, playback_ms: float) -> None:
        """Begin to wait for the caller, once a response of that length has been played (``idle_timeout_ms``)."""
        timeout_ms = (self._audio.turn_detection or {}).get("idle_timeout_ms")
        self._idle_since_ms = self._audio.clock_ms + playback_ms
        self._idle_at_ms = None if timeout_ms is None else self._idle_since_ms + timeout_ms

    def expect_nothing(self) -> None:
        """Wait for the caller no more."""
        self._idle_at_ms = None

    def commit_if_idle(self) -> bool:
        """Commit the caller's silence if it has lasted for the time allowed; return whether it has."""
        if self._idle_at_ms is None or self._audio.clock_ms < self._idle_at_ms or self._announced is not None:
            return False
        self._idle_at_ms = None
        item_id = self._new_item_id()
        stretch = self._audio.take_silence(self._idle_since_ms)
        span = {"audio_start_ms": int(stretch.start_ms), "audio_end_ms": int(stretch.end_ms)}
        self._link.emit({"type": "input_audio_buffer.timeout_triggered", **span, "item_id": item_id})
        self._commit(item_id, stretch, 0.0)
        return True

    def speech_started(self, started: SpeechStarted) -> None:
        """Announce the item to come."""
        self.expect_nothing()
        self._announced = self._new_item_id()
        start_ms = self._audio.padded_start_ms(started)
        event_type = "input_audio_buffer.speech_started"
        self._link.emit({"type": event_type, "audio_start_ms": start_ms, "item_id": self._announced})

    def speech_stopped(self, stopped: SpeechStopped) -> None:
        """End the turn and commit it."""
        item_id = self._take_announced()
        event_type = "input_audio_buffer.speech_stopped"
        self._link.emit({"type": event_type, "audio_end_ms": stopped.end_ms, "item_id": item_id})
        self._commit(item_id, self._audio.take_turn(stopped), stopped.spoken_ms)

    def commit(self) -> None:
        """
        Commit what is in the buffer because the client asks.

        Raises:
            ClientMistake: there is less than 100 ms.
        """
        stretch = self._audio.commit()
        self._commit(self._take_announced(), stretch, stretch.length_ms)

    def clear(self) -> None:
        """Empty the buffer."""
        self._announced = None
        self._audio.clear()
        self._link.emit({"type": "input_audio_buffer.cleared"})

    def _take_announced(self) -> str:
        item_id, self._announced = self._announced or self._new_item_id(), None
        return item_id

    def _commit(self, item_id: str, stretch: Stretch, spoken_ms: float) -> None:
        previous = self._conversation.last_id()
        event_type = "input_audio_buffer.committed"
        self._link.emit({"type": event_type, "item_id": item_id, "previous_item_id": previous})
        part = {"type": "input_audio", "transcript": None}
        wire = {"id": item_id, "type": "message", "status": "completed", "role": "user", "content": [part]}
        start, end = MODEL.bytes_of(int(stretch.start_ms)), MODEL.bytes_of(int(stretch.end_ms))
        recording = self._link.connection.caller_audio
        self._conversation.append(Item(wire, stretch.length_ms, recording=lambda: recording.pcm24k()[start:end]))
        for name in ("added", "done"):
            self._link.emit({"type": f"conversation.item.{name}", "previous_item_id": previous, "item": wire})
        if self._transcriber is not None:
            self._spawn(self._transcribe(item_id, self._transcriber, spoken_ms))

    async def _transcribe(self, item_id: str, transcriber: dict[str, Any], spoken_ms: float) -> None:
        """Tell honestly how much was said; what was said, the simulator cannot know."""
        await asyncio.sleep(TRANSCRIPTION_S)
        text = f"[caller spoke for {spoken_ms / 1000:.2f} s]"
        logprobs = [{"token": text, "logprob": 0.0, "bytes": list(text.encode())}] if self._with_logprobs else None
        kind = "conversation.item.input_audio_transcription"
        place = {"item_id": item_id, "content_index": 0}
        self._link.emit({"type": f"{kind}.delta", **place, "delta": text, "logprobs": logprobs, "obfuscation": "xxxx"})
        usage = _transcription_usage(transcriber["model"], spoken_ms, text)
        self._link.emit(
            {"type": f"{kind}.completed", **place, "transcript": text, "logprobs": logprobs, "usage": usage}
        )


def _transcription_usage(model: str, spoken_ms: float, text: str) -> dict[str, Any]:
    """Return tokens for the models billed by token, seconds for the others."""
    if not model.startswith("gpt-4o"):
        return {"type": "duration", "seconds": round(spoken_ms / 1000, 2)}
    heard, written = caller_tokens(spoken_ms), text_tokens(text)
    return {
        "type": "tokens",
        "total_tokens": heard + written,
        "input_tokens": heard,
        "output_tokens": written,
        "input_token_details": {"text_tokens": 0, "audio_tokens": heard},
    }
