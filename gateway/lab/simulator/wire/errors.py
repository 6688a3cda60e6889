"""Errors as the protocol shows them: the ``error`` event, and the refusals that come right after the upgrade."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

ERROR_TYPE = "invalid_request_error"


@dataclass(frozen=True, slots=True)
class SessionRefusal:
    """An ``error`` event right after the upgrade, and the CLOSE that follows it."""

    code: str | None
    message: str
    close_code: int

    @property
    def reason(self) -> str:
        """Text of the CLOSE: the error's type, and its code where it has one."""
        return f"{ERROR_TYPE}.{self.code}" if self.code else ERROR_TYPE

    def event(self) -> dict[str, Any]:
        """Return the ``error`` event."""
        return error_event(self.code, self.message)


def error_event(
    code: str | None,
    message: str,
    *,
    param: str | None = None,
    event_id: str | None = None,
    error_type: str = ERROR_TYPE,
) -> dict[str, Any]:
    """Return an ``error`` event; ``event_id`` is that of the client's event at fault."""
    error = {"type": error_type, "code": code, "message": message, "param": param, "event_id": event_id}
    return {"type": "error", "error": error}


REFUSALS = {
    "invalid_api_key": SessionRefusal("invalid_api_key", "Incorrect API key provided.", 3000),
    "insufficient_permissions": SessionRefusal(
        "insufficient_permissions", "The key lacks the scope api.model.request.", 3000
    ),
    "no_authorization": SessionRefusal(None, "Missing bearer authentication in header.", 3000),
    "beta_api_shape_disabled": SessionRefusal(
        "beta_api_shape_disabled", "The beta interface is gone; leave out the OpenAI-Beta header.", 4000
    ),
    "missing_model": SessionRefusal("missing_model", "You must provide a model parameter.", 4000),
    "invalid_model": SessionRefusal("invalid_model", "This model is not available for this endpoint.", 4000),
}
