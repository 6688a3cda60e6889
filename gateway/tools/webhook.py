"""Tools behind HTTP requests."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

import aiohttp
import structlog
from pydantic import SecretStr
from yarl import URL

from gateway.dialplan.model.agent import Webhook
from gateway.errors import ConfigError
from gateway.tools.output import MAX_BYTES, ToolAnswer, failed, succeeded
from gateway.tools.signing import new_message_id, sign, signing_key

MAX_CONNECTIONS = 100
MAX_SECRET_BYTES = 4096
"""The longest that a secret can be in an answer, in whichever way it is written."""

EXCERPT_CHARACTERS = 1000
"""How much of a refusal's text the model is shown."""

_SECRET = re.compile(r"\$\{([A-Za-z0-9_-]{1,64})\}")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110 section 5.6.2
_KEY_NAME = re.compile(r"(?i)auth|key|pass|secret|token")
_OURS = frozenset({"connection", "content-length", "content-type", "host", "transfer-encoding"})
_TEXT = re.compile(r"text/.+|application/(.+\+)?(json|xml)|application/(javascript|x-ndjson|yaml)")

_log = structlog.get_logger(__name__)


def headers_of(webhook: Webhook, secrets: Mapping[str, SecretStr]) -> dict[str, str]:
    """
    Return the webhook's own headers with every ``${NAME}`` replaced.

    Raises:
        ConfigError: a secret that is not there, or a header that cannot be sent; all of them, without any value.
    """
    problems = [f"headers.{name}: {problem}" for name, problem in header_problems(webhook, secrets)]
    problems += [
        f"{'.'.join(path)}: {no_secret(name)}" for path, name in secrets_named(webhook) if name.lower() not in secrets
    ]
    problems += [f"signed_with: {problem}" for problem in signature_problems(webhook, secrets)]
    if problems:
        raise ConfigError(*problems)
    return {name: _filled(template, secrets) for name, template in webhook.headers.items()}


def header_problems(webhook: Webhook, secrets: Mapping[str, SecretStr]) -> Iterator[tuple[str, str]]:
    """Yield the headers that cannot be sent, each with why; secrets that are not there count as empty."""
    for name, template in webhook.headers.items():
        if (
            not _HEADER_NAME.fullmatch(name)
            or name.lower() in _OURS
            or name.lower().startswith(("gateway-", "webhook-"))
        ):
            yield name, "not a header of yours to set; leave it out"
        value = _filled(template, secrets)
        if "${" in _SECRET.sub("", template) or not value.isprintable() or not value.isascii():
            yield name, "no header can have this value; write ASCII text and ${NAME} for a secret"


def signature_problems(webhook: Webhook, secrets: Mapping[str, SecretStr]) -> Iterator[str]:
    """Yield why a secret cannot sign the webhook's requests; a secret that is not there is another matter."""
    secret = secrets.get(webhook.signed_with.lower()) if webhook.signed_with is not None else None
    if secret is not None:
        try:
            signing_key(secret)
        except ValueError as error:
            yield f"the secret {webhook.signed_with!r}: {error}"


def secrets_named(webhook: Webhook) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the secrets that a webhook names, each behind the path of the key that names it."""
    for name, template in webhook.headers.items():
        yield from ((("headers", name), secret) for secret in _SECRET.findall(template))
    if webhook.signed_with is not None:
        yield ("signed_with",), webhook.signed_with


def secrets_sent(webhook: Webhook, secrets: Mapping[str, SecretStr]) -> Iterator[SecretStr]:
    """Yield what the webhook's service must not hand on: secrets by name, and what stands where keys stand."""
    yield from (secrets[name.lower()] for _, name in secrets_named(webhook) if name.lower() in secrets)
    for name, template in webhook.headers.items():
        if _KEY_NAME.search(name):
            yield SecretStr(_filled(template, secrets).rpartition(" ")[2])  # behind Bearer, Basic and the like
    yield from (SecretStr(value) for name, value in webhook.url.query_params() if _KEY_NAME.search(name))


def no_secret(name: str) -> str:
    """Return that a secret is missing, and the cure."""
    return f"there is no secret {name!r}; set it in the section [secrets] or as GATEWAY_SECRETS__{name.upper()}"


def _filled(template: str, secrets: Mapping[str, SecretStr]) -> str:
    return _SECRET.sub(lambda found: _value_of(secrets, found[1]), template)


def _value_of(secrets: Mapping[str, SecretStr], name: str) -> str:
    secret = secrets.get(name.lower())
    return secret.get_secret_value() if secret else ""


def http_session(connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    """
    Return a session for requests to places that an operator configured.

    Cookies are not kept and proxy variables of the environment not obeyed; there is no limit of time, so the caller
    sets one. Redirects are for the caller to refuse: ``allow_redirects=False``.
    """
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        headers={"User-Agent": "sip-voice-gateway", "Accept": "application/json, text/*"},
        trust_env=False,
    )


class WebhookClient:
    """
    The HTTP client of all webhooks of a worker: connections are kept and shared, cookies are not. Thread: loop.

    Proxy variables of the environment are not obeyed, and no redirect is followed: signed requests and headers with
    secrets go to the configured place and nowhere else.
    """

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Get ready; nothing is connected yet."""
        self._session = http_session(aiohttp.TCPConnector(limit=MAX_CONNECTIONS))

    async def close(self) -> None:
        """Close all connections; safe more than once."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def __aenter__(self) -> Self:
        """Open it."""
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        await self.close()

    async def ask(
        self,
        webhook: Webhook,
        arguments: dict[str, Any],
        *,
        call: Mapping[str, str],
        headers: Mapping[str, str],
        signing_secret: SecretStr | None,
        redact: Callable[[str], str],
    ) -> ToolAnswer:
        """
        Send one request and return what to tell the model. Waits without limit: the caller of this sets one.

        Args:
            webhook: where to, and how.
            arguments: checked arguments of the model.
            call: facts of the call, ``call_id`` among them.
            headers: those of ``headers_of``.
            signing_secret: signs the request; None sends it unsigned.
            redact: takes secrets out of what was answered.
        """
        if self._session is None:
            raise RuntimeError("the webhook client is not open")
        url, body = _request(webhook, arguments, call)
        sent = {**headers, "Gateway-Call-Id": call["call_id"], "Gateway-Tool": webhook.name}
        if body is not None:
            sent["Content-Type"] = "application/json"
        if signing_secret is not None:
            signed = url.raw_path_qs.encode() if body is None else body
            sent |= sign(signing_secret, signed, message_id=new_message_id(), at=time.time())
        try:
            async with self._session.request(
                webhook.method, url, data=body, headers=sent, allow_redirects=False
            ) as response:
                return await _answer(response, redact)
        except (aiohttp.ClientError, OSError) as error:
            _log.warning("webhook_unreachable", tool=webhook.name, error=redact(f"{type(error).__name__}: {error}"))
            return failed("the service behind this tool cannot be reached; go on without it or try again later")


def _request(webhook: Webhook, arguments: dict[str, Any], call: Mapping[str, str]) -> tuple[URL, bytes | None]:
    url = URL(str(webhook.url))
    if webhook.method != "GET":
        return url, json.dumps({"tool": webhook.name, "arguments": arguments, "call": dict(call)}).encode()
    query = {name: value if isinstance(value, str) else json.dumps(value) for name, value in arguments.items()}
    return url.update_query({_sendable(name): _sendable(value) for name, value in query.items()}), None


def _sendable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


async def _answer(response: aiohttp.ClientResponse, redact: Callable[[str], str]) -> ToolAnswer:
    data, cut = bytearray(), False
    async for chunk in response.content.iter_chunked(4096):
        data += chunk
        if len(data) > MAX_BYTES + MAX_SECRET_BYTES:
            response.close()  # the rest is not wanted, nor is a connection with it in the way
            cut = True
            break
    text = _text(response, bytes(data), cut=cut)
    if text is not None:
        text = redact(text)[: -MAX_SECRET_BYTES if cut else None]  # the last of it may be half a secret
    status = response.status
    if status >= 500:
        return failed(f"the service behind this tool failed ({status}); go on without it or try again later")
    if status >= 400:
        return failed(f"the service behind this tool refused ({status})", answer=(text or "")[:EXCERPT_CHARACTERS])
    if status >= 300:
        return failed(f"the service behind this tool answered with a redirect ({status}), which is not followed")
    if text is None:
        return failed(f"the service behind this tool answered with {response.content_type}, which is not text")
    return succeeded(text, cut=cut)


def _text(response: aiohttp.ClientResponse, data: bytes, *, cut: bool) -> str | None:
    """Return a body as text; None when it is something else."""
    if data and "Content-Type" in response.headers and not _TEXT.fullmatch(response.content_type):
        return None
    try:
        # The end of a body that is too long may be half a character.
        return data.decode(response.charset or "utf-8", "ignore" if cut else "strict")
    except (UnicodeDecodeError, LookupError):
        return None
