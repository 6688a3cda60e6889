"""
The voice model's side of a call: orders in, events out, and the audio of both sides past the call's control.

``UpstreamAgent`` is the ``Agent`` of ``call/ports.py``. It knows no model: a ``Connector`` (``core/dialect.py``),
chosen by ``worker/build.py``, makes a ``Dialect`` for each session, and what one of them cannot do it says.

::

    call/session  --order-->  UpstreamAgent  -->  Dialect  --text-->  UpstreamLink  -->  service
    call/session  <--event--  UpstreamAgent  <--  Dialect  <--text--  UpstreamLink  <--  service

    UplinkTap  -> CallerVoice -> Dialect.append -> UpstreamLink          the caller's voice
    UpstreamLink -> Dialect.receive -> AgentVoice -> PlayoutBuffer       the agent's speech

``open`` starts one task, ``Sessions.run``, that brings a session up and another whenever one is lost or grows old. A
session that is ready comes to ``on_ready``: it is told what was said before (``core/history.py``) and asked for what
the agent still owes the caller (``core/owed.py``); both outlive it. Orders go to the session in use. Between two
sessions nothing can be sent: then an order changes what the next session is told, or asked for.

What an order changes may set the alarm of what is owed (``Dialect.overdue``), so each goes through ``_order``. An event
of the session in use comes to ``on_event``; those that are the call's go on to its inbox. All of it runs on the loop;
``UplinkRounds`` visits it when frames of the caller wait.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from weakref import proxy

import structlog

from gateway.audio.pcm import PHONE, PcmFormat
from gateway.audio.playout import PlayoutBuffer
from gateway.audio.uplink import UplinkRounds, UplinkTap
from gateway.call.events import (
    AgentBack,
    AgentClosed,
    AgentFailed,
    AgentReady,
    CallEvent,
    Noted,
    SpeechStarted,
    SpeechStopped,
)
from gateway.call.ports import EmitEvent
from gateway.dialplan.model.agent import AgentProfile
from gateway.errors import AgentError
from gateway.ids import CallId
from gateway.settings.sections import RealtimeSettings
from gateway.upstream.audio import AgentVoice, CallerVoice
from gateway.upstream.core import prompts
from gateway.upstream.core.breaker import Breaker
from gateway.upstream.core.debts import Cause
from gateway.upstream.core.dialect import (
    AgentAudio,
    AgentAudioDone,
    Alarm,
    Connector,
    Dialect,
    DialectTimer,
    RenewSession,
    Send,
    UpstreamEvent,
)
from gateway.upstream.core.history import PastMessage, Role
from gateway.upstream.link import UpstreamLink
from gateway.upstream.sessions import Sessions
from gateway.upstream.tasks import Tasks

_log = structlog.get_logger(__name__)

QUIET_S = 1.0
"""How long the caller must have been silent before a session may be replaced: an answer begins within that time."""

QUIET_PEAK = 500
"""Samples of a caller who is quiet stay below it (of 32,767)."""

UNHEARD_S = 0.5
"""A caller who is loud this long after the service's last sign of life was not heard: the service was gone already."""

WORDS_S = 3.0
"""The longest wait for a transcript of the caller's last words before a session is replaced."""


class UpstreamAgent:
    """
    The agent of one call: the ``Agent`` of ``call/ports.py``. Thread: loop.

    Args:
        call_id: our id of the call.
        settings: where the service is and how long to wait for it.
        profile: how the agent behaves.
        connector: opens sessions with the model.
        uplink: the caller's voice, as ``phone`` says.
        playout: the agent's voice on its way to the caller, likewise.
        rounds: of the process; None for rounds of its own.
        breaker: of the upstream, over all calls; None for one of its own.
        phone: the PCM of both.
    """

    def __init__(
        self,
        *,
        call_id: CallId,
        settings: RealtimeSettings,
        profile: AgentProfile,
        connector: Connector,
        uplink: UplinkTap,
        playout: PlayoutBuffer,
        rounds: UplinkRounds | None = None,
        breaker: Breaker | None = None,
        phone: PcmFormat = PHONE,
    ) -> None:
        self._call_id = call_id
        self._rounds = rounds
        self._uplink_ms = settings.uplink_ms
        self._profile = profile
        self._playout = playout
        self._caller_voice = _caller_voice(uplink, settings, profile, phone)
        self._agent_voice = AgentVoice(playout, profile.audio_format, phone=phone)
        self._history, self._owed = connector.history, connector.owed
        self._connector = connector
        me: UpstreamAgent = proxy(self)  # what is ours must not hold us: a full collection alone would free us
        self._tasks = Tasks(call_id, lambda fault, where: me._break_down(fault, where))
        self._sessions = Sessions(
            call_id=call_id,
            settings=settings,
            connector=connector,
            breaker=breaker or Breaker(time.monotonic, settings.breaker_losses),
            profile=profile,
            user=me,
            tasks=self._tasks,
        )
        self._emit: EmitEvent | None = None
        self._muted = self._was_ready = self._over = False  # over: the last event is out, or close was called
        self._closing: asyncio.Task[None] | None = None
        self._timers: set[asyncio.TimerHandle] = set()
        self._alarm: asyncio.TimerHandle | None = None  # when what is owed is to be looked at
        self._former: Dialect | None = None  # of the session that was lost
        self._turn_at = self._loud_at = 0.0  # monotonic seconds: a turn began or ended; the caller was loud in one

    # Orders

    def open(self, emit: EmitEvent) -> None:
        """Connect and configure in the background; ``AgentReady`` or ``AgentFailed`` follows through ``emit``."""
        if self._emit is not None or self._over:
            return
        self._emit = emit
        if self._rounds is None:
            self._rounds = UplinkRounds(asyncio.get_running_loop(), self._uplink_ms)
        self._rounds.join(self._caller_voice.uplink, self._hear)
        self._tasks.start(self._live(), "live")

    def greet(self, text: str = "") -> None:
        """Let the agent speak first, if its profile has a greeting; ``text`` is what it says instead of that."""
        if (ask := prompts.greeting(self._profile, text)) is not None:
            self._owed.owe(Cause.PROMPT if text else Cause.GREETING, ask)
            self._go_on()

    def announce(self) -> None:
        """Let the agent say that the call is recorded, and nothing else."""
        if (ask := prompts.announcement(self._profile)) is not None:
            self._owed.owe(Cause.ANNOUNCEMENT, ask)
            self._go_on()

    def say(self, text: str) -> None:
        """Let the agent say this sentence, word for word, as soon as it says nothing else."""
        self._owed.owe(Cause.PROMPT, prompts.sentence(text))
        self._go_on()

    def truncate(self, item_id: str, played_ms: int) -> None:
        """Tell the upstream how much was heard of the item that was cut off, and of those that waited behind it."""
        heard_ms = {item_id: played_ms} | self._agent_voice.cut_off()
        if (link := self._sessions.current) is not None:
            link.send(link.dialect.truncate(heard_ms))
            if not link.dialect.truncates:
                self._agent_voice.leave_out()
        elif self._former is not None:
            self._former.truncate(heard_ms)  # the next session must know only what was heard

    def cancel(self) -> None:
        """Stop the response that is being generated; nothing happens when there is none."""
        if (link := self._sessions.current) is None:
            return
        if link.dialect.cancels:
            self._order(link, link.dialect.cancel())
        else:
            self._agent_voice.leave_out()

    def answer_tool(self, tool_call_id: str, output: str, *, respond: bool) -> None:
        """Give the model a tool's output; an output that it does not wait for is dropped."""
        if (link := self._sessions.current) is not None:
            self._order(link, link.dialect.answer_tool(tool_call_id, output, respond=respond))
        elif self._former is not None:
            self._former.answer_tool(tool_call_id, output, respond=respond)  # the next session is told of it

    def say_goodbye(self, detail: str) -> None:
        """Let the agent say that the call must end, because of ``detail``; what it says now is cut off."""
        if (link := self._sessions.current) is not None:
            self._order(link, link.dialect.say_goodbye(prompts.goodbye(self._profile, detail)))

    def tell(self, text: str, *, respond: bool) -> None:
        """
        Give the model a message of the gateway's; ``respond`` lets it speak once it says nothing else.

        While there is no session the message waits for the next one. While the caller speaks no response is asked for:
        the answer to that turn will know the message.
        """
        if (link := self._sessions.current) is not None:
            self._order(link, link.dialect.tell(text, respond=respond))
            return
        self._history.told(text)
        if respond:
            self._owed.owe(Cause.MESSAGE)

    def mute_caller(self) -> None:
        """Send nothing of the caller (or silence, as the profile says) and let turn detection rest."""
        self._muted = True
        self._caller_voice.take_early()  # what was said and not sent is forgotten
        if (link := self._sessions.current) is not None:
            link.send(link.dialect.mute())

    def unmute_caller(self) -> None:
        """Send the caller's voice again, from now on, with turn detection as the profile says."""
        if self._muted:
            self._caller_voice.take_early()
        self._muted = False
        if (link := self._sessions.current) is not None:
            link.send(link.dialect.unmute())

    @property
    def responding(self) -> bool:
        """Whether a response is wanted or being generated."""
        return self._owed.is_open and not self._over

    async def close(self) -> None:
        """
        Close with a CLOSE frame; safe in any state and more than once.

        Waits for the other side ``close_timeout_s`` at the longest, then cuts the connection. Nothing is emitted once
        this was called; on return no task or connection is left.
        """
        self._over = True
        if self._closing is None:
            self._closing = asyncio.create_task(self._shut_down(), name=f"agent close {self._call_id}")
        await asyncio.shield(self._closing)

    async def _shut_down(self) -> None:
        self._stop_hearing()
        self._set_alarm(Alarm(None))
        for timer in self._timers:
            timer.cancel()
        try:
            await self._tasks.cancel_all()
            await self._sessions.close()
        finally:
            self._connector.close()

    async def _live(self) -> None:
        ending = await self._sessions.run()
        if ending is None:
            return
        if ending.error is not None:
            self._finish(AgentFailed(self._call_id, ending.error))
        else:
            self._finish(AgentClosed(self._call_id, ending.close_code or 1000, ending.reason))

    # What the sessions report

    def on_ready(self, link: UpstreamLink, replaced: UpstreamLink | None, attempt: int) -> None:
        """Go on in this ready session: it receives the conversation, and from now on the audio."""
        dialect = link.dialect
        self._agent_voice.begin_session()
        if replaced is not None:
            replaced.dialect.retire()
        if self._muted:
            link.send(dialect.mute())
        interrupted = self._was_ready and replaced is None
        note = (PastMessage(Role.GATEWAY, prompts.RESUMED),) if interrupted else ()
        link.send(dialect.seed((*self._history.items(), *note)))
        link.on_room = self._hear
        if replaced is None and not self._muted:
            link.send(dialect.append(self._caller_voice.take_early()))
        times = {"open_ms": link.open_ms, "ready_ms": link.ready_ms, "attempt": attempt}
        self.report(Noted(self._call_id, "session", {"session_id": link.session_id, **times}))
        if not self._was_ready:
            self.report(AgentReady(self._call_id, link.session_id))
        elif replaced is None:
            self.report(AgentBack(self._call_id, link.session_id))
        self._was_ready = True
        self._order(link, dialect.go_on())

    def on_lost(self, link: UpstreamLink) -> None:
        """Go on without this session, which ended."""
        self._former = link.dialect
        events = link.dialect.lose(unheard=self._loud_at > link.heard_at + UNHEARD_S)
        self._mind_alarm()
        for event in events:
            self.on_event(link, event)

    def _later(self, seconds: float, callback: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        self._timers = {timer for timer in self._timers if timer.when() > loop.time()}
        self._timers.add(loop.call_later(seconds, callback))

    def _timer_fired(self, link: UpstreamLink, key: str) -> None:
        if link is self._sessions.current:
            link.report(link.dialect.timer_fired(key))

    def on_event(self, link: UpstreamLink, event: UpstreamEvent) -> None:
        """Take an event of the current session."""
        match event:
            case AgentAudio(item_id, audio, place):
                if not self._over:  # another agent may speak with the caller by now
                    self._agent_voice.play(item_id, audio, place)
            case AgentAudioDone(item_id):
                self._agent_voice.end(item_id)
            case Send(text):
                link.send((text,))
            case Alarm():
                self._set_alarm(event)
            case RenewSession(detail):
                self._sessions.renew(link, detail)
            case DialectTimer(after_s, key):
                self._later(after_s, lambda: self._timer_fired(link, key))
            case CallEvent():
                if isinstance(event, SpeechStarted | SpeechStopped):
                    self._turn_at = time.monotonic()
                self.report(event)

    def is_quiet(self, link: UpstreamLink, *, hurry: bool) -> bool:
        """Whether both sides pause; if not in a ``hurry``, all is played out and written down too."""
        heard_at = self._turn_at if link.dialect.detects_turns else self._loud_at
        since_s = time.monotonic() - heard_at
        if not link.dialect.is_quiet or since_s < QUIET_S:
            return False
        unwritten = self._profile.transcription is not None and self._history.waits_for_words
        return hurry or (self._playout.queued_ms == 0 and not (unwritten and since_s < WORDS_S))

    def report(self, event: CallEvent) -> None:
        """Put an event into the call's inbox, unless the last is out."""
        if self._emit is not None and not self._over:
            self._emit(event)

    # What is owed

    def _go_on(self) -> None:
        """Ask for what is owed, if there is a session to ask."""
        if (link := self._sessions.current) is not None:
            self._order(link, link.dialect.go_on())

    def _order(self, link: UpstreamLink, texts: tuple[str, ...]) -> None:
        """Send what an order comes to, and look at what is owed when it says so."""
        link.send(texts)
        self._mind_alarm()

    def _mind_alarm(self) -> None:
        """Reset the alarm, if an order changed it."""
        if (alarm := self._owed.take_alarm()) is not None:
            self._set_alarm(Alarm(*alarm))

    def _set_alarm(self, alarm: Alarm) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if alarm.after_s is not None and not self._over:
            self._alarm = asyncio.get_running_loop().call_later(alarm.after_s, self._look_at_owed)

    def _look_at_owed(self) -> None:
        self._alarm = None
        if (link := self._sessions.current) is not None:
            link.report(link.dialect.overdue(self._playout.queued_ms))

    # Audio and endings

    def _stop_hearing(self) -> None:
        if self._rounds is not None:
            self._rounds.leave(self._hear)

    def _hear(self) -> None:
        """Send what the caller said; hold it while there is no session, leave it in the tap while the link is full."""
        link = self._sessions.current
        try:
            if self._muted:
                self._hear_nothing(link)
            elif link is None:
                self._caller_voice.hold()
                if self._was_ready and self._caller_voice.peak > QUIET_PEAK and not self._owed.is_open:
                    self._owed.owe(Cause.TURN)  # not heard; the next session is to ask what it was
            elif link.has_room:
                link.send(link.dialect.append(self._caller_voice.take()))
                if self._caller_voice.peak > QUIET_PEAK:
                    self._loud_at = time.monotonic()
                elif link.dialect.caller_speaks:
                    self._look_for_silence(link)
        except Exception as fault:
            self._break_down(fault, "hear")
            raise

    def _look_for_silence(self, link: UpstreamLink) -> None:
        """End a turn of which the service does not tell the end, though the caller is quiet."""
        if time.monotonic() - max(self._loud_at, self._turn_at) > link.dialect.longest_pause_s:
            link.report(link.dialect.end_turn())

    def _hear_nothing(self, link: UpstreamLink | None) -> None:
        """Forget what the caller said; silence takes its place, if the profile wants it."""
        if self._profile.on_hold == "silence" and link is not None and link.has_room:
            link.send(link.dialect.append_silence(len(self._caller_voice.take())))
        else:
            self._caller_voice.take_early()

    def _break_down(self, fault: BaseException, where: str) -> None:
        """End the agent: a fault of the gateway must not leave a caller in silence."""
        _log.error("agent_failed", call_id=self._call_id, where=where, fault=type(fault).__name__)
        error = AgentError(f"fault in the gateway: {type(fault).__name__}")
        self._finish(AgentFailed(self._call_id, error))
        if (link := self._sessions.current) is not None:
            link.break_off(error)

    def _finish(self, event: CallEvent) -> None:
        """Report the last event, once."""
        self.report(event)
        self._over = True
        self._stop_hearing()


def _caller_voice(
    uplink: UplinkTap, settings: RealtimeSettings, profile: AgentProfile, phone: PcmFormat
) -> CallerVoice:
    early_ms = profile.early_audio_ms if profile.early_audio == "hold" else 0
    return CallerVoice(uplink, profile.audio_format, early_ms=early_ms, phone=phone)
