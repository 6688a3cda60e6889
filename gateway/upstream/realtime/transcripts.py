"""What was said: as the service writes it down, into the call's history and out as events; and back again."""

from __future__ import annotations

from gateway.call.events import AgentSpoke, CallerSpoke, Noted
from gateway.ids import CallId
from gateway.upstream.core.dialect import UpstreamEvent
from gateway.upstream.core.history import History, PastItem, PastToolCall, Role
from gateway.upstream.core.owed import EndedResponses
from gateway.upstream.realtime.problems import Problems
from gateway.upstream.realtime.usage import transcription_fields
from gateway.upstream.realtime.wire import server
from gateway.upstream.realtime.wire.client import (
    AssistantMessage,
    ClientItem,
    FunctionCall,
    FunctionCallOutput,
    InputText,
    OutputText,
    SystemMessage,
    UserMessage,
)
from gateway.upstream.realtime.wire.objects import ErrorDetails


class Transcripts:
    """
    Takes the events that carry words.

    Args:
        call_id: goes into every event.
        history: what was said; outlives the session.
        ended: responses that are over; their words were not heard.
        problems: logs and notes turns that could not be written down.
    """

    def __init__(self, call_id: CallId, history: History, ended: EndedResponses, problems: Problems) -> None:
        self._call_id = call_id
        self._history = history
        self._ended = ended
        self._problems = problems

    def on_item(self, event: server.ItemChanged) -> list[UpstreamEvent]:
        """Place an item of the agent's; take note of the import of a server's tools."""
        item = event.item
        if item is None or not item.id or event.type != "conversation.item.added":
            return []
        if item.role == "assistant":
            self._history.agent_turn(item.id, event.previous_item_id)
        elif item.type == "mcp_list_tools":
            self._problems.mcp_announced(item.id, item.server_label or "")
        return []

    def on_caller_transcript(self, event: server.CallerTranscriptCompleted) -> list[UpstreamEvent]:
        """Take what the caller said."""
        if event.status == "in_progress":  # what was understood so far; all of it follows
            return []
        self._history.caller_said(event.item_id, event.transcript)
        events: list[UpstreamEvent] = []
        if event.transcript.strip():
            events.append(CallerSpoke(self._call_id, event.item_id, event.transcript))
        if event.usage:
            events.append(Noted(self._call_id, "usage", transcription_fields(event.usage)))
        return events

    def on_transcript_failed(self, event: server.CallerTranscriptFailed) -> list[UpstreamEvent]:
        """Take note that a turn of the caller's could not be written down."""
        if event.item_id:
            self._history.caller_said(event.item_id, "")
        error = self._problems.cleaned(event.error or ErrorDetails())
        return [*self._problems.tell("transcription_failed", error)]

    def on_agent_delta(self, event: server.OutputTranscriptDelta) -> list[UpstreamEvent]:
        """Take the next words of the agent."""
        if event.item_id and event.delta and event.response_id not in self._ended:
            self._history.agent_says(event.item_id, event.delta, event.content_index or 0)
        return []

    def on_agent_transcript(self, event: server.OutputTranscriptDone) -> list[UpstreamEvent]:
        """Take what the agent said in a part of its item."""
        if event.transcript.strip() and event.response_id not in self._ended:  # else it is more than was said
            self._history.agent_said(event.item_id, event.transcript, event.content_index or 0)
        return [AgentSpoke(self._call_id, event.item_id, event.transcript)] if event.transcript.strip() else []


def items_of(past: PastItem) -> tuple[ClientItem, ...]:
    """Return the items by which a new session is told of something that was said or done before it."""
    if isinstance(past, PastToolCall):
        call = FunctionCall(name=past.name, arguments=past.arguments, call_id=past.tool_call_id)
        if past.output is None:
            return (call,)
        return call, FunctionCallOutput(call_id=past.tool_call_id, output=past.output)
    if past.role is Role.AGENT:
        return (AssistantMessage(content=(OutputText(text=past.text),)),)
    if past.role is Role.CALLER:
        return (UserMessage(content=(InputText(text=past.text),)),)
    return (system_message(past.text),)


def system_message(text: str) -> SystemMessage:
    """Return a message of the gateway's as an item."""
    return SystemMessage(content=(InputText(text=text),))
