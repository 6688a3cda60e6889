"""What was said in one session, as the service writes it down: into the call's history, and told as facts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from gateway.call.events import AgentSpoke, CallerSpoke, Noted
from gateway.ids import CallId
from gateway.upstream.core.dialect import UpstreamEvent
from gateway.upstream.core.history import History
from gateway.upstream.realtime.problems import Problems
from gateway.upstream.realtime.responses import EndedResponses
from gateway.upstream.realtime.usage import transcription_fields
from gateway.upstream.realtime.wire import server
from gateway.upstream.realtime.wire.objects import ErrorDetails


class Transcripts:
    """
    Takes the events that carry words.

    Args:
        call_id: goes into every event.
        history: what was said; outlives the session.
        ended: responses that are over; their words were not heard.
        problems: told of turns that could not be written down.
    """

    def __init__(self, call_id: CallId, history: History, ended: EndedResponses, problems: Problems) -> None:
        self._call_id = call_id
        self._history = history
        self._ended = ended
        self._problems = problems

    def take(self, event: server.ServerEvent) -> list[UpstreamEvent]:
        """Take one of the events in ``HANDLERS``."""
        return self.HANDLERS[type(event)](self, event)

    def _on_item(self, event: server.ItemChanged) -> list[UpstreamEvent]:
        item = event.item
        if item is None or not item.id or event.type != "conversation.item.added":
            return []
        if item.role == "assistant":
            self._history.agent_turn(item.id, event.previous_item_id)
        elif item.type == "mcp_list_tools":
            self._problems.mcp_announced(item.id, item.server_label or "")
        return []

    def _on_caller_transcript(self, event: server.CallerTranscriptCompleted) -> list[UpstreamEvent]:
        if event.status == "in_progress":  # what was understood so far; all of it follows
            return []
        self._history.caller_said(event.item_id, event.transcript)
        facts: list[UpstreamEvent] = []
        if event.transcript.strip():
            facts.append(CallerSpoke(self._call_id, event.item_id, event.transcript))
        if event.usage:
            used = transcription_fields(event.usage)
            if "transcription_seconds" not in used:
                self._problems.transcription_unpriced()
            facts.append(Noted(self._call_id, "usage", used))
        return facts

    def _on_transcript_failed(self, event: server.CallerTranscriptFailed) -> list[UpstreamEvent]:
        if event.item_id:
            self._history.caller_said(event.item_id, "")
        error = self._problems.cleaned(event.error or ErrorDetails())
        return [*self._problems.tell("transcription_failed", error)]

    def _on_agent_delta(self, event: server.OutputTranscriptDelta) -> list[UpstreamEvent]:
        if event.item_id and event.delta and event.response_id not in self._ended:
            self._history.agent_says(event.item_id, event.delta, event.content_index or 0)
        return []

    def _on_agent_transcript(self, event: server.OutputTranscriptDone) -> list[UpstreamEvent]:
        if event.transcript.strip() and event.response_id not in self._ended:  # else it is more than was said
            self._history.agent_said(event.item_id, event.transcript, event.content_index or 0)
        return [AgentSpoke(self._call_id, event.item_id, event.transcript)] if event.transcript.strip() else []

    HANDLERS: ClassVar[dict[type, Callable[[Transcripts, Any], list[UpstreamEvent]]]] = {
        server.ItemChanged: _on_item,
        server.CallerTranscriptCompleted: _on_caller_transcript,
        server.CallerTranscriptFailed: _on_transcript_failed,
        server.OutputTranscriptDelta: _on_agent_delta,
        server.OutputTranscriptDone: _on_agent_transcript,
    }
