"""
Ephemeral client secrets: short-lived keys that the service mints for one session's configuration.

``POST /v1/realtime/client_secrets`` (Realtime API). A secret opens any number of sessions until it expires; a session
outlives the secret it was opened with. The stored configuration is where a session begins, not a lock on it.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import aiohttp
from pydantic import BaseModel, Field, SecretStr, ValidationError

from gateway.errors import AgentError, AgentLost, AgentRefused, WireError
from gateway.settings.sections import RealtimeSettings
from gateway.upstream.realtime.address import handshake_headers, redactor
from gateway.upstream.realtime.wire.codec import parse_http_refusal
from gateway.upstream.realtime.wire.objects import ErrorDetails
from gateway.upstream.realtime.wire.session import SessionConfig

SHORTEST_S, LONGEST_S = 10, 7200
"""Lifetimes that the service accepts."""
REFRESH_AT = 0.8
"""A kept secret is used for this share of its life; then a new one is minted."""
MAX_KEPT = 256
MAX_ANSWER_BYTES = 1 << 20
TRY_AGAIN_STATUSES = frozenset({408, 409, 425, 429})


class MintedSecret(NamedTuple):
    """A key ``ek_...`` and when it ends, in Unix seconds of the service's clock."""

    value: SecretStr
    expires_at: float


class _Minted(BaseModel):
    value: SecretStr = Field(min_length=1)
    expires_at: float = Field(gt=0, allow_inf_nan=False)


@dataclass(eq=False, slots=True)
class _KeptSecret:
    """A secret that is used again, and the lock of those who want it."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    secret: MintedSecret | None = None
    fresh_until: float = 0.0


class SecretMinter:
    """
    Mints client secrets with the long-lived key, which goes to no one else. Thread: loop.

    Args:
        settings: where the service is, and the key.
        now: Unix seconds.
        monotonic: seconds that never run backwards; the life of kept secrets is measured with it.
    """

    def __init__(
        self,
        settings: RealtimeSettings,
        *,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._url = secrets_url(settings)
        self._redact = redactor(settings)
        self._now = now
        self._monotonic = monotonic
        self._kept: OrderedDict[tuple[str, int, str | None], _KeptSecret] = OrderedDict()
        self._http: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Get ready; nothing is connected yet."""
        self._http = http_session(self._settings, self._url)

    async def close(self) -> None:
        """Close the connections and forget the secrets; safe more than once."""
        self._kept.clear()
        if self._http is not None:
            await self._http.close()
            self._http = None

    async def __aenter__(self) -> Self:
        """Open it."""
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        await self.close()

    async def mint(
        self,
        session: SessionConfig,
        *,
        model: str | None = None,
        seconds: int = 600,
        safety_identifier: str | None = None,
    ) -> MintedSecret:
        """
        Mint a secret.

        Args:
            session: the configuration that sessions opened with it begin with.
            model: model of these sessions; None leaves it to who opens them.
            seconds: its life, 10 to 7200.
            safety_identifier: hash of the end user, sent as ``OpenAI-Safety-Identifier``.

        Raises:
            ValueError: a life that the service does not grant.
            AgentRefused: the service said no; trying again is useless.
            AgentLost: it could not be reached, has too much to do, or failed. No answer within ``connect_timeout_s``.
            WireError: its answer holds no secret.
        """
        if not SHORTEST_S <= seconds <= LONGEST_S:
            raise ValueError(f"seconds {seconds} is outside {SHORTEST_S} to {LONGEST_S}")
        body = {"expires_after": {"anchor": "created_at", "seconds": seconds}, "session": _session(session, model)}
        status, answer = await self._post(body, self._headers(safety_identifier))
        if status != 200:
            raise self._refusal(status, answer)
        try:
            minted = _Minted.model_validate_json(answer)
        except ValidationError:
            raise WireError("the service answered a request for a client secret without one") from None
        return MintedSecret(minted.value, minted.expires_at)

    async def cached(
        self,
        session: SessionConfig,
        *,
        model: str | None = None,
        seconds: int = 600,
        safety_identifier: str | None = None,
    ) -> MintedSecret:
        """
        Return a secret that has at least a fifth of its life left, minted now or before. Arguments, errors: ``mint``.

        However many ask at once for the same configuration, one request is made.
        """
        key = (session.model_dump_json(exclude_unset=True) + (model or ""), seconds, safety_identifier)
        kept = self._kept.setdefault(key, _KeptSecret())
        self._kept.move_to_end(key)
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        async with kept.lock:
            if kept.secret is None or self._monotonic() >= kept.fresh_until:
                asked_at = self._monotonic()
                kept.secret = await self.mint(
                    session, model=model, seconds=seconds, safety_identifier=safety_identifier
                )
                kept.fresh_until = asked_at + REFRESH_AT * self._life_s(kept.secret, seconds)
            return kept.secret

    def _life_s(self, secret: MintedSecret, asked_s: int) -> float:
        """Return how long a fresh secret lives: as asked, or shorter when the service says so."""
        told_s = secret.expires_at - self._now()
        return min(told_s, asked_s) if told_s > 0 else asked_s  # not above 0: the clocks differ, not the life

    async def _post(self, body: dict[str, Any], headers: dict[str, str]) -> tuple[int, bytes]:
        if self._http is None:
            raise RuntimeError("the minter is not open")
        proxy = str(self._settings.proxy) if self._settings.proxy is not None else None
        try:
            async with self._http.post(
                self._url, json=body, headers=headers, allow_redirects=False, proxy=proxy
            ) as response:
                answer = bytearray()
                async for chunk in response.content.iter_chunked(65_536):
                    answer += chunk
                    if len(answer) > MAX_ANSWER_BYTES:
                        raise WireError("the service's answer to a request for a client secret is too long")
                return response.status, bytes(answer)
        except TimeoutError:
            limit_s = self._settings.connect_timeout_s
            raise AgentLost(f"the service minted no client secret within {limit_s:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise AgentLost(self._redact(f"cannot reach the service to mint a client secret: {error}")) from None

    def _headers(self, safety_identifier: str | None) -> dict[str, str]:
        if self._settings.api_key is None:
            raise AgentRefused("there is no API key to mint client secrets with")
        headers = handshake_headers(self._settings, minted=None, caller="")
        if safety_identifier is not None:
            headers["OpenAI-Safety-Identifier"] = safety_identifier
        return headers

    def _refusal(self, status: int, answer: bytes) -> AgentError:
        said = parse_http_refusal(answer) or ErrorDetails()
        words = f": {said.message or said.code}" if said.message or said.code else ""
        param = f" ({said.param})" if said.param else ""
        detail = self._redact(f"the service answered HTTP {status} to a request for a client secret{words}{param}")
        code = self._redact(said.code) if said.code else None
        lost = status in TRY_AGAIN_STATUSES or status >= 500
        return (AgentLost if lost else AgentRefused)(detail, code=code, http_status=status)


def secrets_url(settings: RealtimeSettings) -> str:
    """
    Return where secrets are minted: ``secrets_url``, or what follows from ``url``.

    ``wss://host/v1/realtime?model=m`` -> ``https://host/v1/realtime/client_secrets``; other parameters stay.
    """
    if settings.secrets_url is not None:
        return str(settings.secrets_url)
    return url_beside(settings, "/client_secrets")


def url_beside(settings: RealtimeSettings, path: str, *, instead_of: str = "") -> str:
    """
    Return an HTTP address of the service: its WebSocket's with another path, without the model.

    Args:
        settings: where the WebSocket is.
        path: what follows its path.
        instead_of: the end of its path that ``path`` takes the place of.
    """
    parts = urlsplit(str(settings.url))
    unwanted = {"model", settings.model_parameter}
    query = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name not in unwanted]
    return urlunsplit(
        (
            "https" if parts.scheme == "wss" else "http",
            parts.netloc.rpartition("@")[2],  # the key is the only login
            parts.path.rstrip("/").removesuffix(instead_of) + path,
            urlencode(query),
            "",
        )
    )


def http_session(settings: RealtimeSettings, url: str) -> aiohttp.ClientSession:
    """Return a client for requests to the service beside its WebSocket; nothing is connected yet."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=_tls_context() if url.startswith("https:") else True),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=settings.connect_timeout_s),
        trust_env=False,
    )


def _session(session: SessionConfig, model: str | None) -> dict[str, Any]:
    plain = session.model_dump(mode="json", exclude_unset=True)
    return plain if model is None else {**plain, "model": model}


@cache
def _tls_context() -> ssl.SSLContext:
    # Loading the certificates of all authorities takes tens of milliseconds: once, not per minter.
    return ssl.create_default_context()


def prepare_minting(settings: RealtimeSettings) -> None:
    """Load once what all minters need, so that processes forked from this one have it."""
    if secrets_url(settings).startswith("https:"):
        _tls_context()
