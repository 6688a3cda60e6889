"""The events a client sends, and the conversation items it may create."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from gateway.upstream.realtime.wire.session import (
    AudioFormat,
    CustomVoice,
    MaxOutputTokens,
    Outgoing,
    OutputModalities,
    Prompt,
    Reasoning,
    SessionConfig,
    Tool,
    ToolChoice,
)

ItemStatus = Literal["completed", "incomplete", "in_progress"]
MetadataKey = Annotated[str, StringConstraints(max_length=64)]
MetadataValue = Annotated[str, StringConstraints(max_length=512)]
Metadata = Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16)]


class NewItem(Outgoing):
    """What all items a client creates may carry; ``id`` must be unique in the session."""

    id: str | None = None
    object: Literal["realtime.item"] | None = None
    status: ItemStatus | None = None


class InputText(Outgoing):
    """Text of the system or the caller."""

    type: Literal["input_text"] = "input_text"
    text: str


class InputAudio(Outgoing):
    """Recorded audio of the caller: base64 in the session's input format."""

    type: Literal["input_audio"] = "input_audio"
    audio: str
    transcript: str | None = None


class InputImage(Outgoing):
    """A picture as a data URI."""

    type: Literal["input_image"] = "input_image"
    image_url: str
    detail: Literal["auto", "low", "high"] | None = None


class OutputText(Outgoing):
    """What the agent said before, as text; its audio cannot be put in."""

    type: Literal["output_text"] = "output_text"
    text: str


class SystemMessage(NewItem):
    """Instructions in the course of the conversation."""

    type: Literal["message"] = "message"
    role: Literal["system"] = "system"
    content: tuple[InputText, ...]


class UserMessage(NewItem):
    """A turn of the caller."""

    type: Literal["message"] = "message"
    role: Literal["user"] = "user"
    content: tuple[Annotated[InputText | InputAudio | InputImage, Field(discriminator="type")], ...]


class AssistantMessage(NewItem):
    """A turn of the agent, to seed the history."""

    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    content: tuple[OutputText, ...]


class FunctionCall(NewItem):
    """A function call of the past; ``arguments`` is JSON text."""

    type: Literal["function_call"] = "function_call"
    name: str
    arguments: str
    call_id: str | None = None


class FunctionCallOutput(NewItem):
    """What a function returned."""

    type: Literal["function_call_output"] = "function_call_output"
    call_id: str
    output: str


class McpApprovalResponse(NewItem):
    """Yes or no to the use of a tool server."""

    type: Literal["mcp_approval_response"] = "mcp_approval_response"
    approval_request_id: str
    approve: bool
    reason: str | None = None


class ItemReference(Outgoing):
    """An item of the conversation, by id, as context of one response."""

    type: Literal["item_reference"] = "item_reference"
    id: str


Message = Annotated[SystemMessage | UserMessage | AssistantMessage, Field(discriminator="role")]
ClientItem = Message | FunctionCall | FunctionCallOutput | McpApprovalResponse


class ClientEvent(Outgoing):
    """An event from client to server. ``event_id`` comes back as ``error.event_id`` if the event fails."""

    event_id: Annotated[str, StringConstraints(max_length=512)] | None = None


class SessionUpdate(ClientEvent):
    """Configure the session; answered by ``session.updated`` or ``error``."""

    type: Literal["session.update"] = "session.update"
    session: SessionConfig


class InputAudioBufferAppend(ClientEvent):
    """Caller audio, base64. The audio path writes this one with ``encode_append`` instead."""

    type: Literal["input_audio_buffer.append"] = "input_audio_buffer.append"
    audio: str


class InputAudioBufferCommit(ClientEvent):
    """End the caller's turn by hand."""

    type: Literal["input_audio_buffer.commit"] = "input_audio_buffer.commit"


class InputAudioBufferClear(ClientEvent):
    """Forget the audio that is not committed."""

    type: Literal["input_audio_buffer.clear"] = "input_audio_buffer.clear"


class ConversationItemCreate(ClientEvent):
    """Add an item: at the end, first (``previous_item_id`` ``"root"``) or after another."""

    type: Literal["conversation.item.create"] = "conversation.item.create"
    item: ClientItem
    previous_item_id: str | None = None


class ConversationItemRetrieve(ClientEvent):
    """Ask for an item with its audio."""

    type: Literal["conversation.item.retrieve"] = "conversation.item.retrieve"
    item_id: str


class ConversationItemDelete(ClientEvent):
    """Remove an item."""

    type: Literal["conversation.item.delete"] = "conversation.item.delete"
    item_id: str


class ConversationItemTruncate(ClientEvent):
    """Tell that only the first ``audio_end_ms`` of the agent's item were heard; never more than it has."""

    type: Literal["conversation.item.truncate"] = "conversation.item.truncate"
    item_id: str
    content_index: int = Field(ge=0)
    audio_end_ms: int = Field(ge=0)


class ResponseAudioOutput(Outgoing):
    """Voice and format of one response."""

    format: AudioFormat | None = None
    voice: str | CustomVoice | None = None


class ResponseAudio(Outgoing):
    """Audio of one response."""

    output: ResponseAudioOutput | None = None


class ResponseOverrides(Outgoing):
    """What differs from the session for one response. ``instructions`` replace the session's, not add to them."""

    audio: ResponseAudio | None = None
    conversation: Literal["auto", "none"] | None = None
    input: tuple[ClientItem | ItemReference, ...] | None = None
    instructions: str | None = None
    max_output_tokens: MaxOutputTokens | None = None
    metadata: Metadata | None = None
    output_modalities: OutputModalities | None = None
    parallel_tool_calls: bool | None = None
    prompt: Prompt | None = None
    reasoning: Reasoning | None = None
    tool_choice: ToolChoice | None = None
    tools: tuple[Tool, ...] | None = None


class ResponseCreate(ClientEvent):
    """Let the agent speak; refused while another response is active."""

    type: Literal["response.create"] = "response.create"
    response: ResponseOverrides | None = None


class ResponseCancel(ClientEvent):
    """Stop the active response."""

    type: Literal["response.cancel"] = "response.cancel"
    response_id: str | None = None


class OutputAudioBufferClear(ClientEvent):
    """Drop queued speech on legs where the service plays it (WebRTC, SIP); refused on a plain WebSocket."""

    type: Literal["output_audio_buffer.clear"] = "output_audio_buffer.clear"


AnyClientEvent = (
    SessionUpdate
    | InputAudioBufferAppend
    | InputAudioBufferCommit
    | InputAudioBufferClear
    | ConversationItemCreate
    | ConversationItemRetrieve
    | ConversationItemDelete
    | ConversationItemTruncate
    | ResponseCreate
    | ResponseCancel
    | OutputAudioBufferClear
)
