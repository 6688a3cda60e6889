"""
The sessions of one call, one after another: opened, tried again, replaced when lost, rolled over when they grow old.

At any time one session at most is in use (``current``); while it grows old a second one may wait to take its place.
``run`` is the life of them all. An attempt goes through the breaker, the connector (``prepare``) and an
``UpstreamLink``; how it ends says by its ``Retry`` whether another follows. What the call must know goes to its
``SessionUser``, the agent: ``on_ready``, ``on_event``, ``on_lost``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Protocol

import structlog

from gateway.call.events import AgentAway, AgentExpiring, AgentReady, CallEvent, Noted
from gateway.dialplan.model.agent import AgentProfile
from gateway.errors import AgentError, AgentLost
from gateway.ids import CallId
from gateway.settings.sections import RealtimeSettings
from gateway.upstream.core.backoff import Backoff
from gateway.upstream.core.breaker import AttemptResult, Breaker, HeldBack
from gateway.upstream.core.dialect import ConnectionFault, Connector, Retry, SessionEnding, UpstreamEvent
from gateway.upstream.core.expiry import Expiry
from gateway.upstream.link import UpstreamLink
from gateway.upstream.tasks import Tasks

_log = structlog.get_logger(__name__)

POLL_S = 0.05
"""How often it is looked whether both sides pause."""

HELD_BACK_S = 2.0
"""Ceiling of the delay after an attempt that was held back: it costs nothing, and the service may be back soon."""


class SessionUser(Protocol):
    """What the sessions need of the agent that speaks through them."""

    def on_ready(self, link: UpstreamLink, replaced: UpstreamLink | None, attempt: int) -> None:
        """Go on in this ready session, which is the current one from now on, instead of ``replaced``."""

    def on_lost(self, link: UpstreamLink) -> None:
        """Go on without this session, which ended and was the current one."""

    def on_event(self, link: UpstreamLink, event: UpstreamEvent) -> None:
        """Take an event of the current session."""

    def is_quiet(self, link: UpstreamLink, *, hurry: bool) -> bool:
        """Whether this session can be replaced unnoticed; in a ``hurry``, almost unnoticed."""

    def report(self, event: CallEvent) -> None:
        """Put an event into the call's inbox."""


class Sessions:
    """
    The sessions of one call. Thread: loop.

    Args:
        call_id: our id of the call.
        settings: delays and times.
        connector: opens them.
        breaker: holds attempts back while the service is away.
        profile: what happens when a session is lost, or grows old.
        user: speaks through them.
        tasks: runs the tasks.

    Attributes:
        current: the session in use; None when none is.
    """

    def __init__(
        self,
        *,
        call_id: CallId,
        settings: RealtimeSettings,
        connector: Connector,
        breaker: Breaker,
        profile: AgentProfile,
        user: SessionUser,
        tasks: Tasks,
    ) -> None:
        self._call_id = call_id
        self._settings = settings
        self._connector = connector
        self._breaker = breaker
        self._on_loss = profile.on_loss
        self._rolls_over = profile.roll_over
        self._user = user
        self._tasks = tasks
        self._backoff = Backoff(settings.retry_first_s, settings.retry_last_s)
        self._links: set[UpstreamLink] = set()  # not closed yet
        self._candidate: UpstreamLink | None = None  # will replace the current one
        self._aging: asyncio.Task[None] | None = None
        self._attempt = 0
        self._held_back = False  # the newest attempt was
        self._used_at = 0.0  # monotonic seconds: the current session took over
        self._away_s = 0.0  # without a session, since one last stayed
        self._expiring = False
        self._renewing = False  # the current one is to be replaced, whatever the profile says of losses
        self.current: UpstreamLink | None = None

    async def run(self) -> SessionEnding | None:
        """Bring a session up, and another whenever one is lost; return how the last ended when no other can be."""
        ending = await self._bring_up(once=False)
        while ending is None and (link := self.current) is not None:
            await asyncio.wait((link.ended,))
            if link is self.current:  # else it was replaced
                ending = await self._replace(link, link.ended.result())
        return ending

    def renew(self, link: UpstreamLink, detail: str) -> None:
        """Go on in another session than this one, which answers no more."""
        self._renewing = True
        link.end(AgentLost(detail))

    async def close(self) -> None:
        """Close every session that is not closed yet; no other may be opened any more."""
        if self._links:
            await asyncio.gather(*(link.close() for link in tuple(self._links)))
        self._links.clear()  # they refer to us, and so does the task: only a full collection would free them
        self.current = self._candidate = self._aging = None

    # Opening

    async def _bring_up(self, *, once: bool) -> SessionEnding | None:
        """
        Try until a session is in use; it is then the current one.

        Args:
            once: what may be tried again once was tried again already.

        Returns:
            How the last attempt ended, if no other may follow.
        """
        while True:
            ending = await self._open()
            if isinstance(ending, UpstreamLink):
                return None
            if ending.retry is Retry.NEVER or (ending.retry is Retry.ONCE and once):
                return ending
            once = once or ending.retry is Retry.ONCE
            await self._pause(ending, self._backoff)

    async def _open(self) -> UpstreamLink | SessionEnding:
        """Open a session and wait until it is ready, unless the service is known to be away."""
        attempt = self._breaker.admit()
        if isinstance(attempt, HeldBack):
            return self._ending(
                self._connector.judge.connection_error(ConnectionFault.HELD_BACK, attempt.detail), held_back=True
            )
        self._attempt += 1
        opened: UpstreamLink | SessionEnding | None = None
        try:
            opened = await self._try_to_open()
        finally:  # the call may end meanwhile
            ending = opened if isinstance(opened, SessionEnding) else None
            words, wait_s = (ending.words, ending.retry_after_s) if ending is not None else ("", 0.0)
            self._breaker.settle(attempt, _verdict_on(opened), words, wait_s)
        return opened

    async def _try_to_open(self) -> UpstreamLink | SessionEnding:
        """Open a session and wait until it is ready; if that comes to nothing it is closed."""
        try:
            opening = await self._connector.prepare()
        except AgentError as error:
            return self._ending(error)
        link = UpstreamLink(
            call_id=self._call_id,
            settings=self._settings,
            opening=opening,
            connector=self._connector,
            take=self._take,
        )
        self._links.add(link)
        if self.current is not None:
            self._candidate = link
        try:
            await asyncio.wait((link.ready,))
        except asyncio.CancelledError:
            self._drop(link)
            raise
        if link is self.current or not link.ended.done():
            return link
        self._drop(link)
        return link.ended.result()

    def _ending(self, error: AgentError, *, held_back: bool = False) -> SessionEnding:
        return SessionEnding(error, self._connector.judge.retry(error), held_back=held_back)

    async def _pause(self, ending: SessionEnding, backoff: Backoff) -> None:
        """Wait before the next attempt, and note why; of attempts held back in a row only the first is noted."""
        if ending.held_back:
            backoff = Backoff(HELD_BACK_S, HELD_BACK_S)  # no attempt was made: no reason to wait longer each time
        delay_s = backoff.next_s(ending.retry_after_s)
        if not (ending.held_back and self._held_back):
            self._note_retry(ending, delay_s)
        self._held_back = ending.held_back
        await asyncio.sleep(delay_s)

    def _note_retry(self, ending: SessionEnding, delay_s: float) -> None:
        fields: dict[str, str | int | float] = {
            "attempt": self._attempt,
            "detail": ending.words,
            "delay_ms": round(delay_s * 1000),
            **_marks_of(ending),
        }
        self._note("agent_retry", fields)
        _log.info("upstream_retry", call_id=self._call_id, **fields)

    def _take(self, link: UpstreamLink, event: UpstreamEvent) -> None:
        if isinstance(event, AgentReady):
            if link is not self._candidate:
                self._use(link)
        elif link is self.current:
            self._user.on_event(link, event)

    def _use(self, link: UpstreamLink) -> None:
        """Let the call go on in this session, from this moment on."""
        replaced, self.current = self.current, link
        self._candidate, self._held_back, self._used_at = None, False, time.monotonic()
        self._user.on_ready(link, replaced, self._attempt)
        expiry = Expiry.of(
            link.expires_at,
            longest_s=link.dialect.longest_session_s,
            unix_s=time.time(),
            monotonic_s=time.monotonic(),
            roll_over_before_s=self._settings.roll_over_before_s,
            goodbye_s=self._settings.expiry_goodbye_s,
        )
        self._aging = None if expiry is None else self._tasks.start(self._grow_old(link, expiry), "age")

    # Lost

    async def _replace(self, link: UpstreamLink, ending: SessionEnding) -> SessionEnding | None:
        """Go on without a session that ended: find another if the profile wants it, else return how it ended."""
        self.current = None
        if self._aging is not None:
            self._aging.cancel()
        self._drop(link)
        self._user.on_lost(link)
        self._note_end(link, "service", ending.words, _marks_of(ending))
        if self._expiring:  # it was announced; another session now would know nothing of the goodbye
            return SessionEnding(ending.error or AgentLost("the session expired"), Retry.NEVER)
        renewing, self._renewing = self._renewing, False
        if (self._on_loss.action == "hang_up" and not renewing) or ending.retry is Retry.NEVER:
            return ending
        self._user.report(AgentAway(self._call_id, ending.words))
        return await self._come_back(ending)

    async def _come_back(self, ending: SessionEnding) -> SessionEnding | None:
        """
        Find a session in the place of one that was lost.

        One that stayed for ``retry_reset_s`` is replaced at once. After one that was lost sooner there is a pause,
        which grows, and what the losses before took of the time for coming back is gone: a service whose sessions all
        end soon after they begin is not connected to for ever.
        """
        stayed = time.monotonic() - self._used_at >= self._settings.retry_reset_s
        if stayed:
            self._backoff.reset()
            self._attempt, self._away_s = 0, 0.0
        limit_s, began = self._on_loss.give_up_after_s, time.monotonic()
        try:
            async with asyncio.timeout(limit_s - self._away_s):
                if not stayed:
                    await self._pause(ending, self._backoff)
                return await self._bring_up(once=ending.retry is Retry.ONCE)
        except TimeoutError:
            return SessionEnding(AgentLost(f"not back within {limit_s:g} s: {ending.words}"), Retry.NEVER)
        finally:
            self._away_s += time.monotonic() - began

    # Grown old

    async def _grow_old(self, link: UpstreamLink, expiry: Expiry) -> None:
        """Replace a session before its end; where that cannot be done, say that the end comes."""
        if self._rolls_over and link.dialect.rolls_over:
            await _sleep_until(expiry.roll_over_at)
            try:
                async with asyncio.timeout(expiry.goodbye_at - time.monotonic()):
                    if await self._roll_over(link, expiry):
                        return
            except TimeoutError:
                _log.warning("upstream_session_not_replaced", call_id=self._call_id)
        await _sleep_until(expiry.goodbye_at)
        self._expiring = True
        self._user.report(AgentExpiring(self._call_id, round(expiry.ends_at - time.monotonic(), 1)))

    async def _roll_over(self, old: UpstreamLink, expiry: Expiry) -> bool:
        """Open a second session and go over to it in a pause; False if the service refuses one."""
        backoff = Backoff(self._settings.retry_first_s, self._settings.retry_last_s)
        self._attempt = 0
        while True:
            opened = await self._open()
            ending = await self._go_over(old, opened, expiry) if isinstance(opened, UpstreamLink) else opened
            if ending is None:
                return True
            if ending.retry is Retry.NEVER:
                self._note("roll_over_refused", {"detail": ending.words, **_marks_of(ending)})
                return False
            await self._pause(ending, backoff)

    async def _go_over(self, old: UpstreamLink, candidate: UpstreamLink, expiry: Expiry) -> SessionEnding | None:
        """Wait for a pause of both sides and switch; returns how the candidate ended if it did before."""
        try:
            while not candidate.ended.done():
                if self._user.is_quiet(old, hurry=time.monotonic() >= expiry.hurry_at):
                    self._use(candidate)
                    self._drop(old)
                    self._note_end(old, "gateway", "replaced before its end", {})
                    return None
                await asyncio.sleep(POLL_S)
            return candidate.ended.result()
        finally:
            if candidate is not self.current:
                self._drop(candidate)

    # Endings

    def _drop(self, link: UpstreamLink) -> None:
        """Close a session that is not needed any more, in the background."""
        if self._candidate is link:
            self._candidate = None
        self._tasks.start(self._close(link), "drop")

    async def _close(self, link: UpstreamLink) -> None:
        await link.close()
        self._links.discard(link)

    def _note_end(self, link: UpstreamLink, by: str, detail: str, marks: Mapping[str, str | int | float]) -> None:
        self._note("session_ended", {"session_id": link.session_id, "by": by, "detail": detail, **marks})

    def _note(self, name: str, fields: Mapping[str, str | int | float]) -> None:
        self._user.report(Noted(self._call_id, name, fields))


def _marks_of(ending: SessionEnding) -> dict[str, str | int | float]:
    """Return the codes of an ending, as fields of a note."""
    error = ending.error
    marks = {
        "code": error.code if error is not None else None,
        "close_code": error.close_code if error is not None else ending.close_code,
        "http_status": error.http_status if error is not None else None,
    }
    return {name: value for name, value in marks.items() if value is not None}


def _verdict_on(opened: UpstreamLink | SessionEnding | None) -> AttemptResult:
    """Tell what an attempt says of the service; None is one that did not come to its end."""
    if isinstance(opened, UpstreamLink):
        return AttemptResult.READY
    lost = opened is not None and isinstance(opened.error, AgentLost) and opened.retry is not Retry.NEVER
    return AttemptResult.LOST if lost else AttemptResult.NEITHER


async def _sleep_until(at_s: float) -> None:
    await asyncio.sleep(max(0.0, at_s - time.monotonic()))
