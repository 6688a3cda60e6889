"""Ephemeral client secrets: minted for a session configuration, good for some time."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from gateway.lab.simulator.wire.schema import ClientMistake
from gateway.lab.simulator.wire.session_object import MODEL_NAMES, check_update, default_session, merged
from gateway.lab.simulator.wire.validate import check_secret_request

SECRET_PREFIX = "ek_"
DEFAULT_MODEL = "gpt-realtime"
DEFAULT_LIFE_S = 600
KEPT = 1000


@dataclass(frozen=True, slots=True)
class ServedSecret:
    """
    One secret.

    Attributes:
        value: what a client gives in place of a key.
        expires_at: unix seconds; connections made before live on.
        session: the whole session a connection starts with; its id and ``expires_at`` are the connection's own.
        safety_identifier: ``OpenAI-Safety-Identifier`` of the request.
    """

    value: str
    expires_at: int
    session: dict[str, Any]
    safety_identifier: str | None

    @property
    def model(self) -> str:
        """The model of the session."""
        return str(self.session["model"])

    def reply(self) -> dict[str, Any]:
        """Return the body of the answer."""
        return {"value": self.value, "expires_at": self.expires_at, "session": self.session}


class ClientSecrets:
    """
    The secrets given out; the newest thousand are kept.

    Attributes:
        minted: all of them, in order.
    """

    def __init__(self) -> None:
        self.minted: list[ServedSecret] = []

    def mint(self, body: dict[str, Any], *, safety_identifier: str | None, now_s: float) -> ServedSecret:
        """
        Give a secret.

        Args:
            body: of the request.
            safety_identifier: its header.
            now_s: unix seconds.

        Raises:
            ClientMistake: the body is not what the API takes.
        """
        check_secret_request(body)
        wanted = body.get("session", {})
        model = wanted.get("model", DEFAULT_MODEL)
        if not MODEL_NAMES.fullmatch(model):
            raise ClientMistake(
                "invalid_model", f"Model '{model}' is not available for this endpoint.", "session.model"
            )
        start = default_session(f"sess_{secrets.token_hex(10)}", model, now_s=now_s)
        check_update(start, wanted, has_spoken=False, is_responding=False)
        session = merged(start, wanted) | {"expires_at": 0}
        life_s = body.get("expires_after", {}).get("seconds", DEFAULT_LIFE_S)
        value = f"{SECRET_PREFIX}{secrets.token_hex(16)}"
        minted = ServedSecret(value, int(now_s) + life_s, session, safety_identifier)
        self.minted.append(minted)
        del self.minted[:-KEPT]
        return minted

    def find(self, value: str, now_s: float) -> ServedSecret | None:
        """Return the secret if it is good at ``now_s``, or None."""
        found = next((each for each in self.minted if each.value == value), None)
        return found if found is not None and now_s < found.expires_at else None
