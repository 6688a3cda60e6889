"""A session store in a list."""

from __future__ import annotations

from gateway.call.events import Scalar
from gateway.ids import CallId

CALL = CallId("call")


class FakeStore:
    """Keeps every note in order."""

    def __init__(self) -> None:
        self.notes: list[tuple[CallId, str, dict[str, Scalar]]] = []
        self.raises: Exception | None = None

    def note(self, call_id: CallId, event: str, /, **fields: Scalar) -> None:
        if self.raises is not None:
            raise self.raises
        self.notes.append((call_id, event, fields))

    def record(self, call_id: CallId = CALL) -> dict[str, Scalar]:
        """All fields of a call, the later note winning."""
        return {key: value for noted, _, fields in self.notes if noted == call_id for key, value in fields.items()}

    def events(self, call_id: CallId = CALL) -> list[str]:
        """The names of a call's notes, in order."""
        return [event for noted, event, _ in self.notes if noted == call_id]

    def fields_of(self, event: str) -> dict[str, Scalar]:
        """The fields of the last note of this name."""
        return next(fields for _, noted, fields in reversed(self.notes) if noted == event)
