"""
Every error the gateway raises on purpose.

::

    GatewayError
    +-- ConfigError          settings that cannot work
    |   +-- DialplanError    a dialplan file, with the place of each mistake
    +-- SipError             the SIP stack refused or is missing
    +-- AgentError           the upstream voice model
    |   +-- AgentRefused     it said no: trying again the same way is useless
    |   |   +-- SessionsFull its model has as many sessions as the settings allow
    |   +-- AgentLost        it was there, or should be, and is not
    |   +-- WireError        it said something that is not its protocol
    +-- StoreError           Redis
    +-- IllegalEvent         an event that cannot happen in the call's phase

Classes carry fields, not only text. ``call/outcome.py`` alone turns an error into an outcome with a SIP code.
"""

from __future__ import annotations

from dataclasses import dataclass


class GatewayError(Exception):
    """Root of the tree: anything the gateway raises on purpose."""


class ConfigError(GatewayError):
    """
    Settings that cannot work.

    Args:
        problems: one ``place: problem, cure`` line each; all that were found, not only the first.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake in a file a person wrote. ``line`` and ``column`` count from 1; 0 means not known."""

    file: str
    line: int
    column: int
    field: str
    problem: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}: {self.field}: {self.problem}" if self.field else f"{place}: {self.problem}"


class DialplanError(ConfigError):
    """A dialplan that cannot be used; ``mistakes`` holds all of them with their places."""

    def __init__(self, *mistakes: Mistake) -> None:
        super().__init__(*(str(mistake) for mistake in mistakes))
        self.mistakes = mistakes


class SipError(GatewayError):
    """The SIP stack is missing, could not start, or refused an order."""


class AgentError(GatewayError):
    """
    The upstream voice model failed this call.

    Args:
        detail: what happened, in words for the log and the call's record.
        code: the API's error code (``invalid_api_key``), if it gave one.
        close_code: the WebSocket close code, if it came to that.
        http_status: the HTTP status of a refused handshake, if it came to that.
    """

    def __init__(
        self,
        detail: str,
        *,
        code: str | None = None,
        close_code: int | None = None,
        http_status: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code
        self.close_code = close_code
        self.http_status = http_status


class AgentRefused(AgentError):
    """The model's service said no (wrong key, unknown model, bad session): do not try the same again."""


class SessionsFull(AgentRefused):
    """Every model that may speak for the agent has as many sessions as the settings allow; nothing was asked for."""


class AgentLost(AgentError):
    """The model's service cannot be reached, or went away in mid-call."""


class WireError(AgentError):
    """The model's service sent something that is not its protocol."""


class StoreError(GatewayError):
    """Redis cannot be reached or refused a command."""


class IllegalEvent(GatewayError):
    """
    An event reached a call in a phase where it cannot happen: a fault in the gateway itself.

    Args:
        phase: the phase the call was in.
        event: the event's class name.
    """

    def __init__(self, phase: str, event: str) -> None:
        super().__init__(f"{event} cannot happen in phase {phase}")
        self.phase = phase
        self.event = event
