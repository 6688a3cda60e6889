"""The caller's turns as the protocol shows them: speech started and stopped, committed, transcribed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from gateway.audio.pcm import MODEL
from gateway.lab.simulator.conversation.items import Item, SimulatedConversation
from gateway.lab.simulator.session.turns import CallerAudio, Stretch
from gateway.lab.simulator.session.vad import VoiceBegan, VoiceEnded
from gateway.lab.simulator.transport.link import Link
from gateway.lab.simulator.wire.session_object import LIVE_TRANSCRIBER
from gateway.lab.simulator.wire.usage import caller_tokens, text_tokens

# As recorded of the service: words while the caller speaks (of a model that listens live) or right behind the commit,
# the whole text when the answer is under way.
FIRST_WORD_S = 0.1
WORD_S = 0.02
TRANSCRIBED_S = 0.5
# What the service says to the model in its own words, recorded in September 2026, comes to this.
IDLE_TEXT = (
    "Nobody was heard for a while. Listen to what was recorded: answer if somebody spoke, else take up what was said "
    "last, or ask whether the caller is still there."
)
_TRANSCRIPTION = "conversation.item.input_audio_transcription"
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
        conversation: SimulatedConversation,
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
        """Tell the model of the silence, and commit it, where it has lasted long enough; return whether it has."""
        if self._idle_at_ms is None or self._audio.clock_ms < self._idle_at_ms or self._announced is not None:
            return False
        self._idle_at_ms = None
        item_id = self._new_item_id()
        stretch = self._audio.take_silence(self._idle_since_ms)
        span = {"audio_start_ms": int(stretch.start_ms), "audio_end_ms": int(stretch.end_ms)}
        self._link.emit({"type": "input_audio_buffer.timeout_triggered", **span, "item_id": item_id})
        note = {"type": "message", "status": "completed", "role": "system"}
        part = {"type": "input_text", "text": IDLE_TEXT}
        self._add(Item({"id": self._new_item_id(), **note, "content": [part]}))
        self._commit(item_id, stretch, 0.0)
        return True

    def speech_started(self, started: VoiceBegan) -> None:
        """Announce the item to come."""
        self.expect_nothing()
        self._announced = self._new_item_id()
        start_ms = self._audio.padded_start_ms(started)
        event_type = "input_audio_buffer.speech_started"
        self._link.emit({"type": event_type, "audio_start_ms": start_ms, "item_id": self._announced})

    def speech_stopped(self, stopped: VoiceEnded) -> None:
        """End the turn and commit it."""
        item_id = self._take_announced()
        words = _words(stopped.spoken_ms)
        live = 0
        if self._transcriber is not None and self._transcriber["model"] == LIVE_TRANSCRIBER:
            live = len(words) - 2  # those that do not tell yet how long it was
            for word in words[:live]:
                self._emit_word(item_id, word)
        event_type = "input_audio_buffer.speech_stopped"
        self._link.emit({"type": event_type, "audio_end_ms": stopped.end_ms, "item_id": item_id})
        self._commit(item_id, self._audio.take_turn(stopped), stopped.spoken_ms, words[live:])

    def commit(self) -> None:
        """
        Commit what is in the buffer because the client asks.

        Raises:
            ClientMistake: there is less than 100 ms.
        """
        stretch = self._audio.commit()
        self._commit(self._take_announced(), stretch, stretch.length_ms, _words(stretch.length_ms))

    def clear(self) -> None:
        """Empty the buffer."""
        self._announced = None
        self._audio.clear()
        self._link.emit({"type": "input_audio_buffer.cleared"})

    def _take_announced(self) -> str:
        item_id, self._announced = self._announced or self._new_item_id(), None
        return item_id

    def _commit(self, item_id: str, stretch: Stretch, spoken_ms: float, words: Sequence[str] = ()) -> None:
        """
        Make an item of audio.

        Args:
            item_id: its id.
            stretch: the audio.
            spoken_ms: speech in it.
            words: of its transcript, those that are still to be sent.
        """
        previous = self._conversation.last_id()
        event_type = "input_audio_buffer.committed"
        self._link.emit({"type": event_type, "item_id": item_id, "previous_item_id": previous})
        part = {"type": "input_audio", "transcript": None}
        wire = {"id": item_id, "type": "message", "status": "completed", "role": "user", "content": [part]}
        start, end = MODEL.bytes_of(int(stretch.start_ms)), MODEL.bytes_of(int(stretch.end_ms))
        recording = self._link.connection.caller_audio
        self._add(Item(wire, stretch.length_ms, recording=lambda: recording.pcm24k()[start:end]))
        if self._transcriber is not None:
            self._spawn(self._transcribe(item_id, self._transcriber, spoken_ms, words))

    def _add(self, item: Item) -> None:
        previous = self._conversation.last_id()
        self._conversation.append(item)
        for name in ("added", "done"):
            self._link.emit({"type": f"conversation.item.{name}", "previous_item_id": previous, "item": item.wire})

    async def _transcribe(
        self, item_id: str, transcriber: dict[str, Any], spoken_ms: float, words: Sequence[str]
    ) -> None:
        """Tell honestly how much was said; what was said, the simulator cannot know."""
        await asyncio.sleep(FIRST_WORD_S)
        for word in words:
            self._emit_word(item_id, word)
            await asyncio.sleep(WORD_S)
        await asyncio.sleep(TRANSCRIBED_S - FIRST_WORD_S - len(words) * WORD_S)
        text = "".join(_words(spoken_ms))
        usage = _transcription_usage(transcriber["model"], spoken_ms, text)
        done = {"content_index": 0, "transcript": text, "logprobs": self._logprobs(text), "usage": usage}
        self._link.emit({"type": f"{_TRANSCRIPTION}.completed", "item_id": item_id, **done})

    def _emit_word(self, item_id: str, word: str) -> None:
        told = {"content_index": 0, "delta": word, "logprobs": self._logprobs(word)}
        self._link.emit({"type": f"{_TRANSCRIPTION}.delta", "item_id": item_id, **told, "obfuscation": "xxxx"})

    def _logprobs(self, text: str) -> list[dict[str, Any]] | None:
        if not self._with_logprobs:
            return None
        return [{"token": text, "logprob": 0.0, "bytes": list(text.encode())}]


def _words(spoken_ms: float) -> list[str]:
    """Return the pieces of a transcript, none of silence."""
    return ["[caller", " spoke", " for", f" {spoken_ms / 1000:.2f}", " s]"] if spoken_ms else []


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
