"""Orders to a session as the agent of a call gives them."""

from __future__ import annotations

from gateway.realtime.debts import Cause
from gateway.realtime.protocol import RealtimeProtocol
from gateway.realtime.wire_client import ResponseOverrides


def greet(protocol: RealtimeProtocol, instructions: str) -> tuple[str, ...]:
    """Owe a greeting; return what is sent because of it now."""
    protocol._owed.owe(Cause.GREETING, ResponseOverrides(instructions=instructions))
    return protocol.go_on()
