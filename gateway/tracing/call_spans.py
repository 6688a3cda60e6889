"""
One call as a trace: which spans its notes begin, tell of and end. Pure.

Theory of operation
-------------------
The journal notes what happens to a call (``call/session/journal.py``); ``take`` gets each note with its time and
returns the spans that it ended. Nothing is measured here::

    call inbound            from the INVITE to the end
      setup                 to the answer; the attempts to get a session are events of it
      turn                  the greeting
      turn                  from the caller's first word to the last of the agent's answer that was heard
        execute_tool hours  from the model's call of it to its answer
      reconnect, hold, transfer

*Turns.* The caller's speech may be the next turn, or a cough (``false_start``), which is known only when it is over. So
it begins a span of its own at ``speech_started``; notes go on to the turn before until the speech has stopped; the
first note after that, unless it says that it was a false start, makes it the turn. A caller who goes on before any
answer was heard is still in the same turn. A turn ends with the last thing that was heard of it.

*Names* follow OpenTelemetry's conventions where there are any (``gen_ai.*``, ``error.type``, ``network.*``); there are
none for telephony, so the rest is ``gateway.*``. No number of a caller, no address, no word that was said and no
argument of a tool is in a trace: those are in the record, with its retention and who may read it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gateway.call.events import Scalar
from gateway.call.outcome import Fault
from gateway.tracing.context import TraceContext
from gateway.tracing.spans import Span, SpanKind

Fields = Mapping[str, Scalar]
MAX_OPEN = 32
"""Tools of a call that are followed at once."""

_FAILURES = frozenset({Fault.CARRIER, Fault.UPSTREAM, Fault.CONFIGURATION, Fault.GATEWAY})
"""Faults that make the call's span a failed one; a caller who hangs up is none."""
_OF_THE_CALL = (
    *("route", "trunk", "dialplan", "codec", "direction", "end_reason", "ended_by", "fault", "sip_code", "mos"),
    *("limit_exceeded", "announcement", "rx_lost", "tx_lost", "underruns", "late_frames", "cost_usd"),
)
"""Fields of the record that become attributes ``gateway.*`` of the call."""
_TOLD: Mapping[str, tuple[str, ...]] = {
    "leg_ringing": ("code",),
    "session": ("open_ms", "ready_ms", "attempt"),
    "agent_retry": ("attempt", "delay_ms", "code", "http_status", "close_code"),
    "session_ended": ("by", "code", "close_code"),
    "sessions_full": ("then",),
    "upstream_error": ("code", "client_event"),
    "response_failed": ("code",),
    "answer_missing": ("why", "owed_for", "tries", "then"),
    "answer_late": (),
    "answer_came": (),
    "interruption": ("interruption_ms", "played_ms"),
    "false_start": (),
    "second_ringing": ("code",),
    "second_up": (),
    "second_closed": ("code",),
    "transfer_ended": ("code", "refused"),
    "joined": (),
    "step": ("action",),
    "digit_pressed": (),
    "hang_up_asked": (),
    "recording_saved": ("seconds",),
    "recording_failed": (),
    "announcement_heard": (),
}
"""Notes that become events of a span -> the fields that go with them. None of these has words or numbers of people."""


class CallSpans:
    """
    The spans of one call.

    Args:
        call_id: our id of the call.
        context: ids of the call's own span.
        parent_id: of the span it continues; empty for none.
        at: Unix seconds of its beginning.
        direction: inbound or outbound.
        new_id: makes ids of spans.
    """

    def __init__(
        self,
        call_id: str,
        context: TraceContext,
        parent_id: str,
        at: float,
        direction: str,
        new_id: Callable[[], str],
    ) -> None:
        self._new_id = new_id
        outbound = direction == "outbound"
        kind = SpanKind.CLIENT if outbound else SpanKind.SERVER
        self._call = Span(f"call {'outbound' if outbound else 'inbound'}", context, parent_id, at, kind)
        self._call.say(gateway__call__id=call_id, gen_ai__conversation__id=call_id)
        self._agent = ""
        self._setup: Span | None = self._child("setup", at)
        self._turn: Span | None = None
        self._next: Span | None = None  # speech that may become the turn
        self._stopped_at: float | None = None  # when it, or the turn's speech, stopped
        self._heard_at: float | None = None  # when the agent was last heard in the turn
        self._turns = 0
        self._tools: dict[str, Span] = {}
        self._away: dict[str, Span] = {}  # reconnect, hold, transfer
        self._done: list[Span] = []

    def take(self, event: str, fields: Fields, at: float) -> list[Span]:
        """Take a note and return the spans that are over."""
        self._tell_call(fields)
        self._settle_speech(event, at)
        self._follow_speech(event, fields, at)
        if event in _TOLD:
            told = {f"gateway__{name}": fields.get(name) for name in _TOLD[event]}
            self._current(event).happened(event, at, **told)
        self._follow_tools(event, fields, at)
        self._follow_absences(event, fields, at)
        if "answered_at" in fields and self._setup is not None:
            self._end(self._setup, at)
            self._setup = None
            self._begin_turn(self._child("turn", at))
        if fields.get("state") == "ended":
            self._end_call(fields, at)
        done, self._done = self._done, []
        return done

    def context_of(self, tool_call_id: str) -> TraceContext:
        """Return where the request of a tool belongs: to its use, if that is followed, else to the call."""
        return self._tools.get(tool_call_id, self._call).context

    def _child(self, name: str, at: float, parent: Span | None = None) -> Span:
        above = parent or self._call
        context = TraceContext(above.context.trace_id, self._new_id(), above.context.sampled)
        return Span(name, context, above.context.span_id, at)

    def _end(self, span: Span, at: float) -> None:
        span.ended_at = max(at, span.began_at)
        self._done.append(span)

    def _current(self, event: str) -> Span:
        """Return the span that an event is told in."""
        if event.startswith(("second_", "transfer_", "joined")):
            return self._away.get("transfer", self._call)
        if event in ("agent_retry", "session"):
            return self._away.get("reconnect") or self._setup or self._call
        return self._turn or self._setup or self._call

    # The call

    def _tell_call(self, fields: Fields) -> None:
        for name in _OF_THE_CALL:
            if name in fields:
                self._call.say(**{f"gateway__{name}": fields[name]})
        if "agent" in fields:
            self._agent = str(fields["agent"])
            self._call.say(gen_ai__agent__name=self._agent)
        if "transport" in fields:
            over = "udp" if fields["transport"] == "udp" else "tcp"
            self._call.say(network__protocol__name="sip", network__transport=over)

    def _end_call(self, fields: Fields, at: float) -> None:
        for span in (*self._tools.values(), *self._away.values()):
            span.fail("call_ended")
            self._end(span, at)
        self._tools.clear()
        self._away.clear()
        self._end_turn(at)
        reason, fault = str(fields.get("end_reason", "")), str(fields.get("fault", ""))
        if self._setup is not None:
            if fault in _FAILURES:
                self._setup.fail(reason)
            self._end(self._setup, at)
        if fault in _FAILURES:
            self._call.fail(reason)
        self._call.say(
            gen_ai__usage__input_tokens=fields.get("tokens_in"), gen_ai__usage__output_tokens=fields.get("tokens_out")
        )
        self._end(self._call, at)

    # Turns

    def _settle_speech(self, event: str, at: float) -> None:
        """Once speech is over, decide what it was: the next turn, or nothing."""
        if self._next is None or self._stopped_at is None:
            return
        heard, self._next = self._next, None
        if event == "false_start":
            self._stopped_at = None
            return
        stopped_at = self._stopped_at
        self._end_turn(heard.began_at)
        self._begin_turn(heard)
        self._stopped_at = stopped_at

    def _follow_speech(self, event: str, fields: Fields, at: float) -> None:
        turn = self._turn
        match event:
            case "speech_started":
                if turn is not None and self._heard_at is None and self._stopped_at is not None:
                    turn.happened("speech_started", at)  # the caller goes on before any answer
                else:
                    self._next, self._stopped_at = self._child("turn", at), None
            case "speech_stopped":
                self._stopped_at = at
                (self._next or turn or self._call).happened(event, at)
            case "joined":
                self._end_turn(at)
            case "usage":
                self._add_usage(turn or self._call, fields)
        if turn is not None:
            self._follow_answer(turn, event, fields, at)

    def _follow_answer(self, turn: Span, event: str, fields: Fields, at: float) -> None:
        match event:
            case "turn":
                latency_ms = fields.get("turn_latency_ms")
                turn.say(gateway__turn__latency_ms=latency_ms)
                if self._stopped_at is not None and isinstance(latency_ms, int | float):
                    turn.happened("first_audio", self._stopped_at + latency_ms / 1000)
            case "agent_heard":
                self._heard_at = at
                turn.say(gateway__turn__cut=bool(fields.get("cut")))
            case "interruption":
                turn.say(gateway__turn__interruption_ms=fields.get("interruption_ms"))
            case "answer_missing":
                turn.fail("answer_missing", str(fields.get("why", "")))

    def _begin_turn(self, turn: Span) -> None:
        self._turn, self._heard_at, self._stopped_at = turn, None, None

    def _end_turn(self, at: float) -> None:
        turn, self._turn = self._turn, None
        if turn is None or (self._heard_at is None and not turn.events):  # the agent waited for the caller's first word
            return
        self._turns += 1
        turn.say(gateway__turn__number=self._turns, gen_ai__agent__name=self._agent)
        turn.say(gen_ai__operation__name="invoke_agent")
        self._end(turn, at if self._heard_at is None else min(self._heard_at, at))

    def _add_usage(self, span: Span, fields: Fields) -> None:
        for name, kinds in (
            ("gen_ai.usage.input_tokens", ("text_in", "audio_in")),
            ("gen_ai.usage.cache_read.input_tokens", ("cached_text_in", "cached_audio_in")),
            ("gen_ai.usage.output_tokens", ("text_out", "audio_out")),
        ):
            used = sum(count for kind in kinds if isinstance(count := fields.get(kind), int))
            before = span.attributes.get(name, 0)
            if used and isinstance(before, int):
                span.attributes[name] = before + used

    # Tools

    def _follow_tools(self, event: str, fields: Fields, at: float) -> None:
        key = str(fields.get("tool_call_id") or fields.get("item_id") or "")
        match event:
            case "tool_asked" | "mcp_call_began" if len(self._tools) < MAX_OPEN and key not in self._tools:
                name = str(fields.get("name", ""))[:64]
                if self._turn is not None:
                    self._turn.happened(event, at)
                tool = self._child(f"execute_tool {name}", at, self._turn)
                tool.say(gen_ai__operation__name="execute_tool", gen_ai__tool__name=name, gen_ai__tool__call__id=key)
                own = event == "tool_asked"
                tool.say(gen_ai__tool__type="function" if own else "extension")
                tool.say(gateway__mcp__server=fields.get("server_label"))
                self._tools[key] = tool
            case "tool_finished" | "mcp_call_ended" | "mcp_call_given_up":
                if (tool_span := self._tools.pop(key, None)) is not None:
                    if fields.get("failed") or event == "mcp_call_given_up":
                        tool_span.fail("tool_failed")
                    self._end(tool_span, at)

    # Away: reconnects, holds, transfers

    def _follow_absences(self, event: str, fields: Fields, at: float) -> None:
        begins = {"agent_away": "reconnect", "held": "hold", "transfer_asked": "transfer"}
        ends = {"agent_back": "reconnect", "resumed": "hold", "joined": "transfer"}
        ends |= dict.fromkeys(("transfer_ended", "second_closed"), "transfer")
        if (name := begins.get(event)) is not None and name not in self._away:
            self._away[name] = self._child(name, at)
            if name == "transfer":
                self._away[name].say(gateway__transfer__warm=bool(fields.get("warm")))
        elif (name := ends.get(event)) is not None and (span := self._away.pop(name, None)) is not None:
            code = fields.get("code")
            if isinstance(code, int) and code >= 300:
                span.say(gateway__sip_code=code)
                span.fail(f"sip_{code}")
            self._end(span, at)
