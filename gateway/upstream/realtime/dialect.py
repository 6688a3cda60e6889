"""
One session of the Realtime API without its socket: messages in, events out; orders give text to send. Pure.

A message goes one way through: ``wire/codec`` makes a typed event of it, ``gaps.py`` fills in ids that the service left
out, and the table at the end of this file names what takes it. State is kept by response id and item id, since
responses and items overlap on the wire; each subject has a part of its own::

    turns of the caller        turn_detection.py    open or not, muted, who interrupts
    responses                  responses.py         how they are asked for and how they ended
    what is owed               core/owed.py         who waits for which response; outlives the session
    the agent's audio          received_audio.py    by item and part, how much of it may be cut
    function calls             function_calls.py    put together, carried out once; outlive the session
    calls of MCP servers       mcp.py               made by the service itself; outlive the session
    what was said              transcripts.py       into core/history.py, which outlives the session
    errors and oddities        problems.py          each told once; failures.py says what follows

``configure`` sends ``session.update``; the session is ready when ``session.updated`` echoes it and ``config.py`` finds
nothing in the echo that spoils a call. Before that nothing else is sent or heard. A response that has ended, was
cancelled or was cut off is *stale*: what still comes of it is dropped. An order that changes what is owed ends in
``go_on``, which asks for at most one response at a time. After ``lose`` or ``retire`` nothing is sent any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import structlog

from gateway.call.builtin_tools import OfferedTools
from gateway.call.events import (
    AgentFailed,
    AgentReady,
    CallEvent,
    Noted,
    SpeechStarted,
    SpeechStopped,
)
from gateway.errors import AgentError, AgentRefused
from gateway.ids import CallId
from gateway.upstream.core.debts import Ask, Cause
from gateway.upstream.core.dialect import Alarm, Send, SessionBegan, UpstreamEvent
from gateway.upstream.core.history import History, PastItem
from gateway.upstream.core.owed import EndedResponses, Owed
from gateway.upstream.realtime.config import CONFIGURE_ID, beta_field, configure_event, find_differences
from gateway.upstream.realtime.failures import FailureSource, error_class, error_of_close, find_row
from gateway.upstream.realtime.function_calls import CalledFunctions, Rejected
from gateway.upstream.realtime.gaps import Gaps, is_unnamed
from gateway.upstream.realtime.mcp import McpEvent
from gateway.upstream.realtime.problems import Problems, client_event_of, words_of
from gateway.upstream.realtime.received_audio import SpokenItems
from gateway.upstream.realtime.responses import ResponseRequests, Responses
from gateway.upstream.realtime.transcripts import Transcripts, items_of, system_message
from gateway.upstream.realtime.turn_detection import TurnDetectionState
from gateway.upstream.realtime.usage import rate_limit_fields, usage_fields
from gateway.upstream.realtime.wire import server
from gateway.upstream.realtime.wire.client import (
    ClientEvent,
    ClientItem,
    ConversationItemCreate,
    ConversationItemTruncate,
    FunctionCallOutput,
    McpApprovalResponse,
    ResponseCancel,
)
from gateway.upstream.realtime.wire.codec import encode, encode_append, parse_server_event
from gateway.upstream.realtime.wire.objects import ErrorDetails, ServerItem
from gateway.upstream.realtime.wire.repair import Oddity
from gateway.upstream.realtime.wire.session import PcmAudio, SessionConfig

_log = structlog.get_logger(__name__)

E = TypeVar("E", bound=server.ServerEvent)

EARLY_EVENTS = (
    *(server.SessionCreated, server.SessionUpdated, server.ErrorReported, server.UnknownServerEvent),
    *(server.ItemChanged, server.McpListTools),
)
"""What is heard before readiness; nothing else concerns a session that is not in use."""

BETA = "the service answers with a session of the beta interface"
BETA_CURE = "Connect to its GA interface instead, without OpenAI-Beta or api-version: see docs/realtime.md, Upstreams"


class RealtimeDialect:
    """
    The client's side of one session. Orders return the messages to send now, in order; often none.

    Args:
        call_id: goes into every call event.
        config: the session wanted; ready means that the server echoed it.
        redact: takes secrets out of what the server said, before it is logged or reported.
        interrupts: the caller's speech interrupts the agent; None: as the session says.
        history: what was said; outlives the session.
        calls: the tools called; outlives the session.
        owed: what the agent owes the caller; outlives the session.
        requests: asks for responses; outlives the session.
        lay_out: puts the fields of a ``session.update`` to where this service has them.
    """

    detects_turns = truncates = cancels = rolls_over = True
    longest_session_s = 3600.0

    def __init__(
        self,
        call_id: CallId,
        config: SessionConfig,
        *,
        redact: Callable[[str], str] = lambda text: text,
        interrupts: bool | None = None,
        history: History | None = None,
        calls: CalledFunctions | None = None,
        owed: Owed | None = None,
        requests: ResponseRequests | None = None,
        lay_out: Callable[[str], str] = lambda text: text,
    ) -> None:
        self._call_id = call_id
        self._config = config
        self._redact = redact
        self._lay_out = lay_out
        self._turns = TurnDetectionState(config, interrupts)
        self._history = history if history is not None else History()
        self._calls = calls if calls is not None else CalledFunctions(call_id, OfferedTools(), self._history)
        output = config.audio.output.format if config.audio and config.audio.output else None
        self.longest_pause_s = self._turns.longest_pause_s
        self._speech = SpokenItems(48 if output is None or isinstance(output, PcmAudio) else 8)
        self._owed = owed if owed is not None else Owed()
        self._ended = EndedResponses()
        self._gaps = Gaps()
        self._problems = Problems(call_id, redact)
        self._requests = requests if requests is not None else ResponseRequests()
        self._responses = Responses(call_id, self._owed, self._requests, self._ended, self._problems)
        self._transcripts = Transcripts(call_id, self._history, self._ended, self._problems)
        self.ready = False
        self._session_id = ""
        self._turn_id: str | None = None  # of the turn whose end was told last
        self._early_notes: list[CallEvent] = []  # held until readiness: nothing takes them before
        self._over = False  # it failed, or another session took its place
        self._last_error: ErrorDetails | None = None  # set while an error is the last thing heard
        self._count = 0
        self.unknown_events = 0
        self.odd_messages = 0

    @property
    def responding(self) -> bool:
        """Whether a response is wanted or being generated."""
        return self._owed.is_open and not self._over

    @property
    def is_quiet(self) -> bool:
        """Whether neither side speaks and no tool runs, as far as the service tells."""
        return self.ready and not (self.responding or self._turns.caller_speaks or self._calls.pending)

    # Orders

    def configure(self) -> tuple[str, ...]:
        """Ask for the session; everything else waits for the answer."""
        return self._encoded((configure_event(self._config),))

    def append(self, audio: bytes) -> tuple[str, ...]:
        """Hand over caller audio, whole samples. Before the session is ready it is refused: none to send."""
        return (encode_append(audio),) if self.ready and audio else ()

    def append_silence(self, size_bytes: int) -> tuple[str, ...]:
        """Hand over silence in place of caller audio of that size; the service's buffer is emptied now and then."""
        silence, more = self._turns.silence(size_bytes)
        return (*self.append(silence), *self._encoded(more))

    def mute(self) -> tuple[str, ...]:
        """Let turn detection rest and forget what the service heard of an open turn. Before readiness: none to send."""
        return self._encoded(self._turns.mute()) if self.ready else ()

    def unmute(self) -> tuple[str, ...]:
        """Detect the caller's turns again, as the session was asked for; nothing when it does."""
        return self._encoded(self._turns.unmute())

    def tell(self, text: str, *, respond: bool) -> tuple[str, ...]:
        """
        Put in a message of the gateway's; with ``respond`` the agent speaks as soon as no response is active.

        While the caller speaks nothing is asked for: the service's own answer to that turn will know the message, and
        where none comes it is asked for then.
        """
        self._history.told(text)
        if respond:
            self._owed.owe(Cause.MESSAGE)
        return (self._create(system_message(text)), *self.go_on())

    def say_goodbye(self, ask: Ask) -> tuple[str, ...]:
        """Let the agent speak for the last time: what it says now is cut off, and it calls no tool any more."""
        cancel = self.cancel()
        self._owed.owe_goodbye(ask)
        return (*cancel, *self.go_on())

    def cancel(self) -> tuple[str, ...]:
        """Stop the response that is being generated; nothing when there is none, or the server stops it itself."""
        active = self._owed.active_id
        if active is None or active in self._ended:
            return ()
        self._owed.give_up_active()
        return self._cancel(active)

    def _cancel(self, response_id: str) -> tuple[str, ...]:
        self._ended.add(response_id)
        named = {} if is_unnamed(response_id) else {"response_id": response_id}
        return (encode(ResponseCancel(event_id=self._next_id("cancel"), **named)),)

    def truncate(self, heard_ms: Mapping[str, int]) -> tuple[str, ...]:
        """
        Tell how much was heard of the items that were cut off; nothing of one that is unknown or was heard in full.

        Audio of cut items that still comes is dropped.
        """
        events = []
        for cut in self._speech.cut(heard_ms):
            self._history.cut(cut.item_id, cut.share)
            if is_unnamed(cut.item_id):
                continue
            for content_index, end_ms in cut.end_ms.items():
                events.append(
                    ConversationItemTruncate(
                        event_id=self._next_id("cut"),
                        item_id=cut.item_id,
                        content_index=content_index,
                        audio_end_ms=end_ms,
                    )
                )
        return self._encoded(events)

    def answer_tool(self, tool_call_id: str, output: str, *, respond: bool) -> tuple[str, ...]:
        """Give a tool's output, once; when all of its response are there and one wants it, the agent speaks."""
        if not self._calls.answer(tool_call_id, output, respond=respond):
            return ()
        return (self._create(FunctionCallOutput(call_id=tool_call_id, output=output)), *self._respond_if_due())

    def seed(self, items: Iterable[PastItem]) -> tuple[str, ...]:
        """Tell a new session what was said before."""
        return tuple(self._create(item) for past in items for item in items_of(past))

    def go_on(self) -> tuple[str, ...]:
        """Ask for what is owed, if it may be asked for now."""
        if not self.ready or self._over:
            return ()
        wish = self._owed.next(listening=self._turns.caller_speaks, tools=not self._calls.exhausted)
        if wish is None:
            return ()
        create, hint = self._requests.make(wish)
        return (*((self._create(system_message(hint)),) if hint else ()), encode(create))

    def retire(self) -> None:
        """Take no more of the session: another has taken its place."""
        self._over = True

    def lose(self, *, unheard: bool = False) -> list[UpstreamEvent]:
        """
        Take note that the session is gone: what the agent owed in it, the next session owes.

        Args:
            unheard: the caller spoke when the service had gone silent; the next session owes an answer to that.

        Returns:
            The MCP calls that nothing more will be heard of, and what may still be played of the session's speech.
        """
        self._over = True
        waits = unheard or self._turns.caller_speaks or self._history.is_unanswered or self._calls.mcp.pending
        self._owed.session_ended(unanswered=waits)
        return [*self._calls.end_session(), *self._speech.end_all()]

    @property
    def caller_speaks(self) -> bool:
        """Whether a turn of the caller is open, as far as the service tells."""
        return self._turns.caller_speaks

    def end_turn(self) -> list[UpstreamEvent]:
        """Take a turn for over of which the service does not tell the end."""
        ended = self._turn_ended(told=False)
        return self._with_reports(ended)

    def overdue(self, queued_ms: int) -> list[UpstreamEvent]:
        """Take the end of the alarm; ``queued_ms`` of speech wait to be played."""
        if self._over:
            return []
        if self._calls.mcp.running and (active := self._owed.active_id) is not None:
            self._owed.moved(active)  # it may wait for its call in silence, as long as the call may take
            return self._with_reports([])
        stalled = self._owed.overdue(queued_ms=queued_ms, speaking=self._turns.caller_speaks)
        sends = self._sends(self._cancel(stalled)) if stalled is not None else []
        return self._with_reports([*sends, *self._sends(self.go_on())])

    def error_of_close(self, close_code: int | None, reason: str) -> AgentError | None:
        """Judge the end of the connection, as ``failures.error_of_close`` does; None: an orderly end."""
        return error_of_close(close_code, self._redact(reason), self._last_error, ready=self.ready)

    # What the server says

    def receive(self, text: str | bytes) -> list[UpstreamEvent]:
        """
        Take one message of the server and return what it means, in order.

        Nothing is raised, whatever it is: what in it is odd is left out, noted once for each kind and counted
        (``odd_messages``).
        """
        if self._over:
            return []
        event, odd = parse_server_event(text)
        if not self.ready and not isinstance(event, EARLY_EVENTS):
            event = None  # turns and responses of a session that is not in use yet
        heard, inferred = self._gaps.fill(event) if event is not None else ((), ())
        events = self._on_odd((*odd, *inferred)) if odd or inferred else []
        for each in heard:
            if not isinstance(each, server.ErrorReported):
                self._last_error = None
            handle = _HANDLERS.get(type(each))
            events += handle(self, each) if handle is not None else []
        return self._with_reports(events)

    def _with_reports(self, events: list[UpstreamEvent]) -> list[UpstreamEvent]:
        """Add what the call is to learn of its debts, and when they are to be looked at."""
        reports = self._responses.reports()
        if any(isinstance(each, AgentFailed) for each in reports):
            self._over = True
        alarm = self._owed.take_alarm()
        if reports or alarm is not None:
            return [*events, *reports, *([] if alarm is None else [Alarm(*alarm)])]
        return events

    def _on_odd(self, odd: tuple[Oddity, ...]) -> list[UpstreamEvent]:
        self.odd_messages += 1
        notes = self._problems.odd(odd)
        if self.ready:
            return [*notes]
        self._early_notes += notes
        return []

    def _on_unknown(self, event: server.UnknownServerEvent) -> list[UpstreamEvent]:
        self.unknown_events += 1
        self._problems.unknown(event.type)
        return []

    def _on_session_created(self, event: server.SessionCreated) -> list[UpstreamEvent]:
        self._session_id = event.session.id or ""
        return [SessionBegan(self._session_id, event.session.expires_at)]

    def _on_session_updated(self, event: server.SessionUpdated) -> list[UpstreamEvent]:
        echo = event.session
        if self.ready:
            return [SpeechStopped(self._call_id)] if self._turns.updated(echo) else []
        if (field := beta_field(echo)) is not None:
            return self._fail(AgentRefused(self._redact(f"{BETA} ({field}). {BETA_CURE}")))
        differences = find_differences(self._config, echo)
        if spoiling := [str(each) for each in differences if each.spoils]:
            detail = f"the service did not accept the session: {'; '.join(spoiling)}"
            return self._fail(AgentRefused(self._redact(detail)))
        self.ready = True
        self._turns.confirmed(echo)
        self._session_id = echo.id or self._session_id
        notes = [*self._early_notes, *map(self._problems.differs, differences)]
        return [AgentReady(self._call_id, self._session_id), *notes]

    def _on_error(self, event: server.ErrorReported) -> list[UpstreamEvent]:
        error = self._problems.cleaned(event.error)
        if not self.ready and error != ErrorDetails():  # one that says nothing refuses nothing
            subject = "the session's configuration" if error.event_id == CONFIGURE_ID else "the session"
            kind = error_class(find_row(FailureSource.EARLY_ERROR, error.code, error.type).kind)
            return self._fail(kind(f"the service refused {subject}: {words_of(error)}", code=error.code))
        self._last_error = error
        events: list[UpstreamEvent] = []
        events += self._problems.tell("upstream_error", error, client_event=client_event_of(error.event_id))
        events += self._responses.refused(error)
        again = (*self._encoded(self._turns.refused(error.event_id)), *self.go_on())
        return [*events, *self._sends(again)]

    def _on_speech_started(self, _event: server.InputSpeechStarted) -> list[UpstreamEvent]:
        if self._turns.server_interrupts:
            # The server cancels the active response by itself; what still comes of it is stale.
            self._ended.add(self._owed.active_id, *self._speech.open_responses)
        self._calls.spoke()
        if not self._turns.speech_started():
            return []
        self._owed.turn_began()
        return [SpeechStarted(self._call_id, interrupts=self._turns.interrupts)]

    def _on_speech_stopped(self, event: server.InputSpeechStopped) -> list[UpstreamEvent]:
        return [] if self._is_over(event.item_id) else self._turn_ended()

    def _is_over(self, item_id: str | None) -> bool:
        """Note the end of a turn; return whether it was reported before."""
        if item_id and item_id == self._turn_id and not self._turns.caller_speaks:
            return True
        self._turn_id = item_id
        return False

    def _turn_ended(self, *, told: bool = True) -> list[UpstreamEvent]:
        if not self._turns.speech_stopped():
            return []
        self._owed.turn_ended(cut=self._turns.server_interrupts, told=told)
        return [SpeechStopped(self._call_id), *self._sends(self.go_on())]

    def _on_committed(self, event: server.InputCommitted) -> list[UpstreamEvent]:
        self._calls.spoke()
        if event.item_id:
            self._history.caller_turn(event.item_id, event.previous_item_id)
        known = self._is_over(event.item_id)
        events = self._turn_ended() if self._turns.caller_speaks else []
        if not (known or events or self._turns.muted or self._owed.is_open):  # of silence, at the idle timeout
            self._owed.turn_ended(cut=True)
        return events

    def _on_mcp_list(self, event: server.McpListTools) -> list[UpstreamEvent]:
        return [*self._problems.mcp_failed(event.item_id)] if event.type == "mcp_list_tools.failed" else []

    def _on_response_created(self, event: server.ResponseCreated) -> list[UpstreamEvent]:
        response_id = event.response.id
        if response_id in self._ended and response_id != self._owed.active_id:  # an id that the service uses again
            self._ended.remove(response_id)
            self._speech.forget_response(response_id)
        self._speech.begin_response(response_id)
        unwanted = self._owed.began(response_id)
        self._calls.mcp.response_began()
        return self._sends(self.cancel()) if unwanted else []

    def _on_text(self, event: server.OutputTextDelta | server.OutputTextDone) -> list[UpstreamEvent]:
        self._responses.wrote(event.response_id)
        return []

    def _on_audio(self, event: server.OutputAudioDelta) -> list[UpstreamEvent]:
        if event.response_id in self._ended:
            return []
        self._owed.moved(event.response_id, speech=bool(event.delta))
        told = self._speech.receive(
            event.item_id,
            event.delta,
            response_id=event.response_id,
            output_index=event.output_index,
            content_index=event.content_index or 0,
        )
        self._calls.mcp.heard(event.item_id, event.response_id)
        if told:
            self._calls.spoke()
        return [*told]

    def _on_audio_done(self, event: server.OutputAudioDone) -> list[UpstreamEvent]:
        whole = event.response_id not in self._ended
        self._owed.speech_ended(event.response_id, whole=whole)
        return [*self._speech.end_part(event.item_id, event.content_index or 0, whole=whole)]

    def _on_part(self, event: server.ContentPartChanged) -> list[UpstreamEvent]:
        is_audio = event.part is not None and event.part.type in ("audio", "output_audio")
        if not event.item_id or not is_audio or event.response_id in self._ended:
            return []
        if event.type == "response.content_part.added":
            self._speech.begin_part(event.item_id, event.content_index or 0)
            return []
        return [*self._speech.end_part(event.item_id, event.content_index or 0, whole=True)]

    def _on_message(self, event: server.OutputItemChanged, item: ServerItem) -> list[UpstreamEvent]:
        """Take an item that may have audio: it has its place from its beginning, and brings no more from its end."""
        over = event.response_id in self._ended
        if not item.id or item.role not in ("assistant", None):
            return []
        if event.type == "response.output_item.done":
            whole = not over and item.status != "incomplete"
            self._owed.speech_ended(event.response_id, whole=whole)
            return [*self._speech.end(item.id, whole=whole)]
        if not over:
            self._speech.announce(item.id, event.response_id, event.output_index)
        return []

    def _on_output_item(self, event: server.OutputEvent) -> list[UpstreamEvent]:
        if isinstance(event, server.OutputItemChanged) and event.item is not None and event.item.type == "message":
            return self._on_message(event, event.item)
        response_id = event.response_id or self._owed.active_id
        self._owed.moved(response_id)
        self._calls.take(event, response_id)
        if not isinstance(event, server.OutputItemChanged):
            return []
        begins = event.type == "response.output_item.added"
        return self._of_mcp(self._calls.mcp.take_item(event.item, response_id, event.output_index, begins=begins))

    def _on_item(self, event: server.ItemChanged) -> list[UpstreamEvent]:
        begins = event.type != "conversation.item.done"
        events = self._calls.mcp.take_item(event.item, self._owed.active_id, begins=begins)
        return [*self._transcripts.on_item(event), *self._of_mcp(events)]

    def _on_mcp_call(self, event: server.McpCallProgress) -> list[UpstreamEvent]:
        return self._of_mcp(self._calls.mcp.take_progress(event, self._owed.active_id))

    def timer_fired(self, key: str) -> list[UpstreamEvent]:
        """Take the end of an ``DialectTimer``."""
        active = self._owed.active_id
        events = self._of_mcp(self._calls.mcp.take_timer(key, stale=active in self._ended))
        if active is not None or not self._calls.take_due():
            return events
        self._owed.owe(Cause.TOOL)
        return self._with_reports([*events, *self._end_round(), *self._sends(self.go_on())])

    def _of_mcp(self, events: list[McpEvent]) -> list[UpstreamEvent]:
        return [Send(self._create(each)) if isinstance(each, McpApprovalResponse) else each for each in events]

    def _end_round(self) -> list[UpstreamEvent]:
        """Note that a response used tools, and whether it was the last that may until there is speech."""
        if not self._calls.end_round():
            return []
        _log.warning("tool_rounds_exhausted", call_id=self._call_id)
        return [Noted(self._call_id, "tool_rounds_exhausted", {"detail": "the next answer may call no tool"})]

    def _reject(self, call: Rejected) -> list[UpstreamEvent]:
        """Note a function call that is not carried out, and tell the model."""
        fields = {"tool": call.name[:64], "tool_call_id": call.tool_call_id, "detail": call.detail}
        _log.warning("tool_rejected", call_id=self._call_id, **fields)
        noted = Noted(self._call_id, "tool_rejected", fields)
        if not self._calls.answer(call.tool_call_id, call.output, respond=call.respond):
            return [noted]
        output = FunctionCallOutput(call_id=call.tool_call_id, output=call.output)
        return [noted, Send(self._create(output))]

    def _on_response_done(self, event: server.ResponseDone) -> list[UpstreamEvent]:
        response = event.response
        stale = response.id in self._ended
        events: list[UpstreamEvent] = [*self._speech.end_response(response.id, whole=response.status == "completed")]
        if usage := response.usage or event.usage:
            events.append(Noted(self._call_id, "usage", usage_fields(usage)))
        asked = self._calls.end_response(response, stale=stale)
        for each in asked:
            events += self._reject(each) if isinstance(each, Rejected) else [each]
        if asked:
            events += self._end_round()
        events += self._of_mcp(self._calls.mcp.response_ended(response, stale=stale))
        called = self._calls.called(response.id)
        events += self._responses.done(response, called=called, speaking=self._turns.expects_no_answer)
        if any(isinstance(each, AgentFailed) for each in events):
            self._over = True
            return events
        return [*events, *self._sends(self._respond_if_due())]

    def _on_rate_limits(self, event: server.RateLimitsUpdated) -> list[UpstreamEvent]:
        fields = rate_limit_fields(event.rate_limits or ())
        return [Noted(self._call_id, "rate_limits", fields)] if fields else []

    # State

    def _fail(self, error: AgentError) -> list[UpstreamEvent]:
        self._over = True
        return [AgentFailed(self._call_id, error)]

    def _respond_if_due(self) -> tuple[str, ...]:
        if self._calls.take_due():
            self._owed.owe(Cause.TOOL)
        return self.go_on()

    def _create(self, item: ClientItem) -> str:
        return encode(ConversationItemCreate(event_id=self._next_id("item"), item=item))

    def _next_id(self, kind: str) -> str:
        """Return an event id that tells, when it comes back in an error, what it was the id of."""
        self._count += 1
        return f"{kind}-{self._count}"

    def _encoded(self, events: Iterable[ClientEvent]) -> tuple[str, ...]:
        return tuple(self._lay_out(encode(event)) for event in events)

    @staticmethod
    def _sends(texts: tuple[str, ...]) -> list[UpstreamEvent]:
        return [Send(text) for text in texts]


def _rule(
    kind: type[E], handle: Callable[[RealtimeDialect, E], list[UpstreamEvent]]
) -> tuple[type, Callable[[RealtimeDialect, Any], list[UpstreamEvent]]]:
    """Pair a kind of event with what takes it, so that the types of both are checked against each other."""
    return kind, handle


_HANDLERS = dict(
    (
        _rule(server.UnknownServerEvent, RealtimeDialect._on_unknown),
        _rule(server.SessionCreated, RealtimeDialect._on_session_created),
        _rule(server.SessionUpdated, RealtimeDialect._on_session_updated),
        _rule(server.ErrorReported, RealtimeDialect._on_error),
        _rule(server.InputSpeechStarted, RealtimeDialect._on_speech_started),
        _rule(server.InputSpeechStopped, RealtimeDialect._on_speech_stopped),
        _rule(server.InputCommitted, RealtimeDialect._on_committed),
        _rule(server.CallerTranscriptCompleted, lambda self, event: self._transcripts.on_caller_transcript(event)),
        _rule(server.CallerTranscriptFailed, lambda self, event: self._transcripts.on_transcript_failed(event)),
        _rule(server.OutputTranscriptDelta, lambda self, event: self._transcripts.on_agent_delta(event)),
        _rule(server.OutputTranscriptDone, lambda self, event: self._transcripts.on_agent_transcript(event)),
        _rule(server.ItemChanged, RealtimeDialect._on_item),
        _rule(server.McpListTools, RealtimeDialect._on_mcp_list),
        _rule(server.ResponseCreated, RealtimeDialect._on_response_created),
        _rule(server.OutputTextDelta, RealtimeDialect._on_text),
        _rule(server.OutputTextDone, RealtimeDialect._on_text),
        _rule(server.OutputAudioDelta, RealtimeDialect._on_audio),
        _rule(server.OutputAudioDone, RealtimeDialect._on_audio_done),
        _rule(server.FunctionArgumentsDelta, RealtimeDialect._on_output_item),
        _rule(server.FunctionArgumentsDone, RealtimeDialect._on_output_item),
        _rule(server.OutputItemChanged, RealtimeDialect._on_output_item),
        _rule(server.ContentPartChanged, RealtimeDialect._on_part),
        _rule(server.McpCallProgress, RealtimeDialect._on_mcp_call),
        _rule(server.ResponseDone, RealtimeDialect._on_response_done),
        _rule(server.RateLimitsUpdated, RealtimeDialect._on_rate_limits),
    )
)
"""Events that are not listed are of no concern."""
