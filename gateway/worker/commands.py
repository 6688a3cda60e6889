"""
What an operator's commands do on this worker.

``CommandInbox`` (``store/commands.py``) reads the commands and takes each once; ``carry_out`` does it and
says what became of it. A command to a call becomes an event of that call (``call/commands.py``) and is answered by the
call's machine. The others are about the worker itself::

    dial         place a call on this worker
    drain        take no new calls, until ``undrain``; live ones go on, and so does the worker
    undrain      take calls again
    reload       read the dialplan again
    probe_trunk  ask a trunk's server whether it is there (OPTIONS)
    listen       publish the sound of a call while anyone hears it

What a command holds came from outside and is checked before anything is done. Every command to a call, and every call
that is dialled, has the command in its history, with who gave it.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from gateway.call.commands import KINDS, command_event, shown_name, target_of
from gateway.call.outcome import Outcome
from gateway.call.ports import SessionStore
from gateway.errors import GatewayError
from gateway.ids import CallId, new_call_id
from gateway.store.commands import CarryOut, Command, CommandAnswer, done, refused
from gateway.worker.live_plan import Reloaded
from gateway.worker.switchboard import DialOrder, Switchboard

PROBE_LIMIT_S: Final = 4.0
"""Shorter than a sender waits: no answer is an answer, too."""
LISTEN_LIMIT_S: Final = 3600.0
_CALL_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
_CALLER_ID = re.compile(r"\+?[0-9A-Za-z*#._-]{0,64}")
_SPACES = re.compile(r"[\s().\-/]")


@dataclass(frozen=True, slots=True)
class Control:
    """
    What of a worker is controlled, beside its calls.

    Attributes:
        pause: takes whether new calls are refused for the moment.
        leaves: whether the worker is ending, and takes no calls any more.
        reload: reads the dialplan again.
        probe_trunk: sends OPTIONS to a trunk's server, and waits so many seconds; the status is 0 without an answer.
        listen: publishes a call's sound for so many seconds, while anyone receives it; False: there is no such call.
    """

    pause: Callable[[bool], None]
    leaves: Callable[[], bool]
    reload: Callable[[], Awaitable[Reloaded]]
    probe_trunk: Callable[[str, float], Awaitable[tuple[int, str]]]
    listen: Callable[[CallId, float], bool]


class WorkerCommands:
    """
    Carries out the commands to one worker. Thread: loop.

    Args:
        switchboard: the calls of the worker.
        store: where the history of calls is written.
        control: what else of the worker is controlled.
    """

    def __init__(self, switchboard: Switchboard, store: SessionStore, control: Control) -> None:
        self._control = control
        self._switchboard = switchboard
        self._store = store
        self._kinds: dict[str, CarryOut] = {
            "dial": self._dial,
            "drain": self._drain,
            "undrain": self._undrain,
            "reload": self._reload,
            "probe_trunk": self._probe,
            "listen": self._listen,
        }

    def carry_out(self, command: Command) -> Awaitable[CommandAnswer]:
        """Carry out a command; return what became of it."""
        carry_out: Callable[[Command], Awaitable[CommandAnswer]] | None = self._kinds.get(command.kind)
        if command.kind in KINDS:
            carry_out = self._to_call
        return (carry_out or self._unknown)(command)

    async def _to_call(self, command: Command) -> CommandAnswer:
        call_id = CallId(command.call_id)
        event = command_event(call_id, command.command_id, command.kind, command.fields, command.by)
        if isinstance(event, str):
            if self._switchboard.knows(call_id):
                self._note(call_id, command, done=False, detail=event)
            return refused(command, event)
        answer = await self._switchboard.command(event)
        return (done if answer.done else refused)(command, answer.detail)

    async def _dial(self, command: Command) -> CommandAnswer:
        order = _order_of(command)
        if isinstance(order, str):
            return refused(command, order)
        if self._switchboard.knows(order.call_id):
            return done(command, "the call is being placed already", call_id=order.call_id)
        if not self._switchboard.takes_calls:
            return refused(command, "the worker takes no new calls")
        if self._switchboard.is_full:
            return refused(command, f"all {self._switchboard.capacity} lines of the worker are in use")
        try:
            placed = await self._switchboard.place(order)
        except GatewayError as error:
            return refused(command, str(error))
        if isinstance(placed, Outcome):
            return refused(command, f"{placed.reason}: {placed.detail}")
        self._note(order.call_id, command, done=True)
        return done(command, call_id=order.call_id)

    async def _drain(self, command: Command) -> CommandAnswer:
        self._control.pause(True)
        return done(command, live_calls=str(self._switchboard.live_calls))

    async def _undrain(self, command: Command) -> CommandAnswer:
        if self._control.leaves():
            return refused(command, "the worker is ending, and takes no calls any more")
        self._control.pause(False)
        return done(command, live_calls=str(self._switchboard.live_calls))

    async def _reload(self, command: Command) -> CommandAnswer:
        reloaded = await self._control.reload()
        if reloaded.mistakes:
            return refused(command, "; ".join(reloaded.mistakes[:3]), version=reloaded.version)
        return done(command, version=reloaded.version, changed=str(reloaded.changed).lower())

    async def _probe(self, command: Command) -> CommandAnswer:
        began = time.monotonic()
        code, reason = await self._control.probe_trunk(command.fields.get("trunk", ""), PROBE_LIMIT_S)
        if not code:
            return refused(command, reason)
        took_ms = round((time.monotonic() - began) * 1000)
        return done(command, f"{code} {reason}".rstrip(), code=str(code), took_ms=str(took_ms))

    async def _listen(self, command: Command) -> CommandAnswer:
        try:
            seconds = float(command.fields.get("seconds", "60"))
        except ValueError:
            seconds = math.nan
        if not 0 < seconds <= LISTEN_LIMIT_S:
            return refused(command, f"seconds: give a number up to {LISTEN_LIMIT_S:g}")
        call_id = CallId(command.call_id)
        if not self._control.listen(call_id, seconds):
            return refused(command, "there is no such call here: it has ended, or was not answered yet")
        self._note(call_id, command, done=True)
        return done(command)

    async def _unknown(self, command: Command) -> CommandAnswer:
        return refused(command, f"this worker knows no command {command.kind!r}: it may be older than what sent it")

    def _note(self, call_id: CallId, command: Command, *, done: bool, detail: str = "") -> None:
        """Write down a command that the call itself does not see."""
        told = {"command": command.kind, "command_id": command.command_id}
        self._store.note(call_id, "command", **told, by=shown_name(command.by))
        why = {"detail": detail} if detail else {}
        self._store.note(call_id, "command_done" if done else "command_refused", command_id=command.command_id, **why)


def _order_of(command: Command) -> DialOrder | str:
    """Return the call to be placed; else what is wrong with the command."""
    given = command.fields
    call_id = command.call_id or given.get("call_id", "") or new_call_id(time.time_ns())
    if _CALL_ID.fullmatch(call_id) is None:
        return "call_id: give at most 64 letters, digits, - and _"
    caller_id = given.get("caller_id", "")
    if _CALLER_ID.fullmatch(caller_id) is None:
        return "caller_id: give a number, such as +493012345"
    try:
        uri = target_of(given.get("target", ""))
    except ValueError as mistake:
        return str(mistake)
    target = _SPACES.sub("", given["target"]) if uri.startswith("tel:") else uri
    return DialOrder(target, given.get("agent", ""), given.get("trunk", ""), caller_id, CallId(call_id))
