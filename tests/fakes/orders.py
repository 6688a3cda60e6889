"""Orders to a session as the agent of a call gives them."""

from __future__ import annotations

from gateway.upstream.core.debts import Ask, Cause
from gateway.upstream.realtime.dialect import RealtimeDialect


def greet(dialect: RealtimeDialect, instructions: str) -> tuple[str, ...]:
    """Owe a greeting; return what is sent because of it now."""
    dialect._owed.owe(Cause.GREETING, Ask(instructions))
    return dialect.go_on()
