"""
Commands of an operator to one call: what each asks of the call, and how it is written down.

Theory of operation
-------------------
A command comes from outside (the HTTP API, the page, ``gateway calls``) through Redis to the worker that has the call
(``worker/commands.py``). ``command_event`` makes the event of it, or says what is wrong with it; what it holds comes
from the network and is checked here in full. The event goes to the call's inbox like any other, and its rule in
``call/machine/`` decides what the call does. Each command gets exactly one answer, ``AnswerCommand``: at once, or, for
a transfer and a take-over, when it is known what became of it. A call that ends first refuses what is not answered.

Whoever gave it, and what it was, stands in the call's history: ``command``, then ``command_done`` or
``command_refused``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from gateway.call.builtin_tools import DIGITS
from gateway.call.events import CallEvent, Scalar, StampedEvent
from gateway.ids import CallId

MOST_TEXT: Final = 2000
"""Characters of a sentence, or of an instruction to the agent."""
MOST_TARGET: Final = 256
MOST_BY: Final = 100

_NUMBER = re.compile(r"\+?[0-9*#]{1,40}")
_URI = re.compile(r"(sips?|tel):[!#-;=@-~]+", re.IGNORECASE)
_BETWEEN_DIGITS = re.compile(r"[\s().\-/]")


@dataclass(frozen=True, slots=True)
class CommandGiven(StampedEvent):
    """
    An operator gave the call a command.

    Attributes:
        kind: its name, as it is sent.
        command_id: its id; ``AnswerCommand`` bears it.
        by: who gave it.
    """

    note = "command"
    kind: ClassVar[str]

    command_id: str
    by: str

    def fields(self) -> dict[str, Scalar]:
        """Return what is written down of it."""
        return {"command": self.kind, **CallEvent.fields(self)}


@dataclass(frozen=True, slots=True)
class HangUpCommanded(CommandGiven):
    """The call is to end: at once, or once the agent has said goodbye."""

    kind = "hang_up"

    goodbye: bool = False


@dataclass(frozen=True, slots=True)
class TransferCommanded(CommandGiven):
    """The caller is to be transferred to the SIP or tel URI ``target``, as by the agent."""

    kind = "transfer"

    target: str


@dataclass(frozen=True, slots=True)
class DigitsCommanded(CommandGiven):
    """DTMF digits are to be sent to the caller's side."""

    kind = "send_digits"

    digits: str


@dataclass(frozen=True, slots=True)
class SayCommanded(CommandGiven):
    """The agent is to say this sentence to the caller, instead of what it says now."""

    kind = "say"

    text: str


@dataclass(frozen=True, slots=True)
class WhisperCommanded(CommandGiven):
    """The agent is to know this; the caller hears nothing of it."""

    kind = "whisper"

    text: str


@dataclass(frozen=True, slots=True)
class TakeOverCommanded(CommandGiven):
    """A person, at a number or SIP URI, is to speak with the caller in the agent's place."""

    kind = "take_over"

    target: str


@dataclass(frozen=True, slots=True)
class GiveBackCommanded(CommandGiven):
    """The person who took the call over is to leave; the caller speaks with the agent again."""

    kind = "give_back"


@dataclass(frozen=True, slots=True)
class TraceCommanded(CommandGiven):
    """The SIP messages of this call are to be kept from now on."""

    kind = "trace"


class _Given:
    """The fields of one command, which somebody sent."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._fields = fields

    def text(self) -> str:
        text = self._fields.get("text", "").strip()
        if not text or len(text) > MOST_TEXT:
            raise ValueError(f"text: give 1 to {MOST_TEXT} characters")
        return text

    def digits(self) -> str:
        digits = self._fields.get("digits", "")
        if DIGITS.fullmatch(digits) is None:
            raise ValueError("digits: give 1 to 64 of 0-9, *, #, A-D; w or a comma is a pause")
        return digits

    def target(self) -> str:
        return target_of(self._fields.get("target", ""))

    def goodbye(self) -> bool:
        return self._fields.get("goodbye", "") == "true"


_COMMANDS: Mapping[str, Callable[[CallId, str, str, _Given], CommandGiven]] = {
    "hang_up": lambda call, known, by, given: HangUpCommanded(call, known, by, given.goodbye()),
    "transfer": lambda call, known, by, given: TransferCommanded(call, known, by, given.target()),
    "send_digits": lambda call, known, by, given: DigitsCommanded(call, known, by, given.digits()),
    "say": lambda call, known, by, given: SayCommanded(call, known, by, given.text()),
    "whisper": lambda call, known, by, given: WhisperCommanded(call, known, by, given.text()),
    "take_over": lambda call, known, by, given: TakeOverCommanded(call, known, by, given.target()),
    "give_back": lambda call, known, by, given: GiveBackCommanded(call, known, by),
    "trace": lambda call, known, by, given: TraceCommanded(call, known, by),
}

KINDS: Final = frozenset(_COMMANDS)
"""The commands to a call."""

EVENTS: tuple[type[CommandGiven], ...] = (
    HangUpCommanded,
    TransferCommanded,
    DigitsCommanded,
    SayCommanded,
    WhisperCommanded,
    TakeOverCommanded,
    GiveBackCommanded,
    TraceCommanded,
)


def command_event(
    call_id: CallId, command_id: str, kind: str, fields: Mapping[str, str], by: str
) -> CommandGiven | str:
    """
    Return the event of a command; else, in words for the person who gave it, what is wrong with it.

    Args:
        call_id: our id of the call.
        command_id: the command's own.
        kind: one of ``KINDS``.
        fields: as they were sent: anything.
        by: who gave it.
    """
    try:
        return _COMMANDS[kind](call_id, command_id, shown_name(by), _Given(fields))
    except ValueError as mistake:
        return str(mistake)


def target_of(text: str) -> str:
    """
    Return whom to call, as a SIP or tel URI; a number, with or without spaces in it, becomes a tel URI.

    Raises:
        ValueError: it is neither; says what is.
    """
    text = text.strip()
    number = _BETWEEN_DIGITS.sub("", text)
    if _NUMBER.fullmatch(number):
        return f"tel:{number}"
    if len(text) > MOST_TARGET or _URI.fullmatch(text) is None:
        raise ValueError("target: give a number, or a SIP or tel URI such as sip:desk@192.0.2.1")
    return text


def shown_name(by: str) -> str:
    """Return who gave a command as it is written down: one line, not long."""
    return "".join(each for each in by if each.isprintable())[:MOST_BY]
