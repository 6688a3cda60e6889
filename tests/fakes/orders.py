"""Orders to a session as the agent of a call gives them."""

from __future__ import annotations

from gateway.upstream.debts import Cause
from gateway.upstream.realtime.dialect import RealtimeProtocol
from gateway.upstream.realtime.wire.client import ResponseOverrides


def greet(protocol: RealtimeProtocol, instructions: str) -> tuple[str, ...]:
    """Owe a greeting; return what is sent because of it now."""
    protocol._owed.owe(Cause.GREETING, ResponseOverrides(instructions=instructions))
    return protocol.go_on()
