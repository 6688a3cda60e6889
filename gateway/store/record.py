"""The record of one call: typed here, a flat hash of strings in Redis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import structlog
from pydantic import BaseModel, ConfigDict, Field

_log = structlog.stdlib.get_logger(__name__)

MAX_TEXT = 8192
"""Characters kept of one value: what a stranger puts into a header cannot fill Redis or the backlog."""


class CallRecord(BaseModel):
    """
    One call. A field is None as long as it is not known; times are Unix seconds.

    The names are those of the hash ``{{prefix}}:call:{call_id}`` and of ``SessionStore.note``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    call_id: str = Field(description="our id of the call")
    sip_call_id: str | None = Field(None, description="the Call-ID header, chosen by the caller's side")
    from_uri: str | None = Field(None, description="SIP URI of the caller")
    to_uri: str | None = Field(None, description="SIP URI that was called")
    caller: str | None = Field(None, description="the caller's number as the dialplan sees it: E.164 if known")
    called: str | None = Field(None, description="the called number, likewise")
    source: str | None = Field(None, description="address:port the INVITE came from; behind an edge, its sender's")
    transport: str | None = Field(None, description="what the INVITE came over: udp, tcp or tls")
    tls_name: str | None = Field(None, description="name in its sender's certificate, as the edge verified it")
    worker: str | None = Field(None, description="worker process that has the call")
    route: str | None = Field(None, description="name of the dialplan's route that matched")
    dialplan: str | None = Field(None, description="version of the dialplan the call began with")
    limit_exceeded: str | None = Field(None, description="limit of the route that was exceeded, as in the plan")
    metadata: str | None = Field(None, description="the route's metadata, as a JSON object")
    agent: str | None = Field(None, description="name of the dialplan's agent that answers")
    agents: str | None = Field(
        None, description="names of all its agents, in the order in which they came: reception, sales"
    )
    state: str | None = Field(None, description="phase of the call; `ended` closes the record")
    codec: str | None = Field(None, description="codec towards the caller, as in SDP: PCMU/8000")
    upstream_session_id: str | None = Field(None, description="id of the session at the voice model's service")
    created_at: float | None = Field(None, description="time of the INVITE, or of the order to call")
    ringing_at: float | None = Field(None, description="when 180 was sent; for an outbound call, when it first came")
    answered_at: float | None = Field(None, description="when the call was up and audio flowed")
    ended_at: float | None = Field(None, description="when everything of the call was released")
    heartbeat_at: float | None = Field(None, description="when the worker last wrote this record of a live call")
    setup_ms: int | None = Field(None, description="milliseconds from INVITE to answer")
    first_audio_ms: int | None = Field(None, description="milliseconds from answer to the agent's first frame")
    talk_ms: int | None = Field(None, description="milliseconds from answer to the end")
    turns: int | None = Field(None, description="answers of the agent that the caller heard after having spoken")
    turn_latency_median_ms: int | None = Field(
        None, description="median of the milliseconds from the end of the caller's speech to the agent's answer"
    )
    turn_latency_worst_ms: int | None = Field(None, description="the longest of them")
    interruptions: int | None = Field(None, description="how often the caller interrupted the agent")
    interruptions_taken_back: int | None = Field(
        None, description="how often the agent went on after a sound too short to interrupt"
    )
    keys_pressed: int | None = Field(
        None, description="how many keys the caller pressed; which ones is not in the record"
    )
    tool_calls: int | None = Field(None, description="how often the agent called a tool")
    tool_calls_failed: int | None = Field(None, description="how many of those calls failed or were refused")
    transcript_entries: int | None = Field(
        None, description="what was said, in entries: the transcript is in the events of the call"
    )
    end_reason: str | None = Field(None, description="why it ended, one of a fixed list: caller_hung_up, no_rtp, ...")
    end_detail: str | None = Field(None, description="the same in words")
    ended_by: str | None = Field(None, description="caller, agent, operator or gateway")
    privacy: str | None = Field(None, description="counts where nothing of the call is kept but counts; else none")
    cdr: str | None = Field(None, description="id of its CDR in the stream of CDRs; set by Redis when the call ends")
    fault: str | None = Field(
        None, description="whose fault the end was: nobody, caller, carrier, upstream, configuration or gateway"
    )
    sip_code: int | None = Field(
        None, description="SIP status a call was refused with, as the refusing side sent it; 200 for an answered one"
    )
    trunk: str | None = Field(None, description="name of the trunk; none for a call from or to no trunk")
    direction: str | None = Field(None, description="inbound or outbound")
    recording: str | None = Field(None, description="path of the recording")
    announcement: str | None = Field(
        None, description="whether the caller heard that the call is recorded: heard or not_heard; none without one"
    )
    traceparent: str | None = Field(
        None, description="W3C trace context of the call's trace; none without `tracing.endpoint`"
    )
    sip_trace: str | None = Field(None, description="path of the SIP ladder; the capture is beside it (.pcap)")
    rx_packets: int | None = Field(None, description="RTP packets that came from the caller")
    rx_lost: int | None = Field(None, description="RTP packets of the caller that were lost")
    rx_jitter_ms: float | None = Field(None, description="mean interarrival jitter of the caller's RTP (RFC 3550)")
    tx_packets: int | None = Field(None, description="RTP packets we sent")
    tx_lost: int | None = Field(None, description="of those, lost as the caller's RTCP says")
    rtt_ms: float | None = Field(None, description="round trip to the caller by RTCP")
    mos: float | None = Field(None, description="estimated mean opinion score of what we heard (E-model, ITU-T G.107)")
    late_frames: int | None = Field(None, description="frames of the caller that came too late or too early to be used")
    underruns: int | None = Field(
        None, description="frames that were due and not there: silence or concealment instead"
    )
    answers_missing: int | None = Field(None, description="how often the agent owed speech that did not come")
    answer_missing_why: str | None = Field(
        None, description="what came instead the last time: failed, incomplete, empty, text, stalled, ..."
    )
    tokens_in: int | None = Field(None, description="tokens the model read, cached ones too")
    tokens_out: int | None = Field(None, description="tokens the model made")
    text_tokens_in: int | None = Field(None, description="of tokens_in, text")
    audio_tokens_in: int | None = Field(None, description="of tokens_in, audio")
    cached_text_tokens_in: int | None = Field(None, description="of text_tokens_in, those billed as cached")
    cached_audio_tokens_in: int | None = Field(None, description="of audio_tokens_in, those billed as cached")
    text_tokens_out: int | None = Field(None, description="of tokens_out, text")
    audio_tokens_out: int | None = Field(None, description="of tokens_out, audio")
    cost_usd: float | None = Field(None, description="estimated cost so far, by the price table; none without a price")

    def to_hash(self) -> dict[str, str]:
        """Return the flat form: field name -> text, unknown fields left out."""
        return {name: as_text(value) for name, value in self if value is not None}

    @classmethod
    def from_hash(cls, flat: Mapping[str, str]) -> Self:
        """
        Read the flat form. Unknown names (a newer gateway's) are ignored.

        Raises:
            ValueError: no ``call_id``, or a malformed number.
        """
        return cls.model_validate({name: value for name, value in flat.items() if name in RECORD_FIELDS})


RECORD_FIELDS = frozenset(CallRecord.model_fields)


def as_text(value: object) -> str:
    """Return a value's form in Redis: floats to the microsecond, valid UTF-8, at most ``MAX_TEXT`` characters."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(round(value, 6))
    # Half a surrogate pair (from bytes that were no UTF-8) cannot be sent and must not stop the writer.
    return str(value)[:MAX_TEXT].encode("utf-8", "replace").decode()


def readable(flat: dict[str, str]) -> CallRecord | None:
    """Return the record; None for an expired one or one that something else wrote."""
    if not flat:
        return None
    try:
        return CallRecord.from_hash(flat)
    except ValueError as error:
        _log.warning("unreadable call record ignored", call_id=flat.get("call_id"), error=str(error))
        return None
