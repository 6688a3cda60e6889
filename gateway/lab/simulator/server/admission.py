"""Who is let in: judged after the WebSocket upgrade, as the service does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gateway.lab.simulator.server.client_secrets import SECRET_PREFIX, ServedSecret
from gateway.lab.simulator.wire.errors import REFUSALS, SessionRefusal
from gateway.lab.simulator.wire.session_object import MODEL_NAMES

KEY_SUBPROTOCOL = "openai-insecure-api-key."


@dataclass(frozen=True, slots=True)
class Admitted:
    """
    A connection that is let in.

    Attributes:
        model: the model it talks to.
        secret: the client secret it came with, None where it came with a key.
    """

    model: str
    secret: ServedSecret | None


def judge(
    headers: Mapping[str, str],
    query: Mapping[str, Sequence[str]],
    key: str | None,
    find_secret: Callable[[str], ServedSecret | None],
) -> SessionRefusal | Admitted:
    """
    Decide on a connection.

    Args:
        headers: of the handshake, looked up without regard to case.
        query: of its URL.
        key: the only key accepted; None accepts any that is not empty.
        find_secret: returns a client secret that is good now, or None.
    """
    given = bearer(headers)
    if given is None:
        return REFUSALS["no_authorization"]
    secret = find_secret(given) if given.startswith(SECRET_PREFIX) else None
    if secret is None and not is_key(given, key):
        return REFUSALS["invalid_api_key"]
    if "realtime=v1" in headers.get("OpenAI-Beta", ""):
        return REFUSALS["beta_api_shape_disabled"]
    model = query.get("model", [""])[0] or (secret.model if secret is not None else "")
    if not model:
        return REFUSALS["missing_model"]
    return Admitted(model, secret) if MODEL_NAMES.fullmatch(model) else REFUSALS["invalid_model"]


def is_key(given: str, key: str | None) -> bool:
    """Return whether a text is an accepted key; a client secret is not."""
    return bool(given) and not given.startswith(SECRET_PREFIX) and key in (None, given)


def bearer(headers: Mapping[str, str]) -> str | None:
    """Return the key given, or None; a browser cannot set headers and offers it as a subprotocol."""
    scheme, _, key = headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return key.strip()
    if "api-key" in headers:  # as Azure OpenAI has it
        return headers["api-key"].strip()
    for offered in headers.get("Sec-WebSocket-Protocol", "").split(","):
        if offered.strip().startswith(KEY_SUBPROTOCOL):
            return offered.strip().removeprefix(KEY_SUBPROTOCOL)
    return None
