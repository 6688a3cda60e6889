"""The models that the service lists, and until when each is offered: ``GET /v1/models``, beside the Realtime API."""

from __future__ import annotations

import aiohttp

from gateway.cost.model_life import Listed, read_listed
from gateway.errors import AgentLost, AgentRefused, WireError
from gateway.settings.sections import RealtimeSettings
from gateway.upstream.realtime.access.secrets import MAX_ANSWER_BYTES, http_session, url_beside
from gateway.upstream.realtime.address import handshake_headers, redactor


async def list_models(settings: RealtimeSettings) -> Listed:
    """
    Ask the service which models it offers, and until when.

    Raises:
        AgentRefused: there is no key, or the service does not take it.
        AgentLost: it cannot be reached, or does not answer within ``connect_timeout_s``.
        WireError: its answer is no list of models.
    """
    if settings.api_key is None:
        raise AgentRefused("there is no API key to ask for the models with")
    url, redact = url_beside(settings, "/models", instead_of="/realtime"), redactor(settings)
    headers = handshake_headers(settings, minted=None, caller="")
    proxy = str(settings.proxy) if settings.proxy is not None else None
    try:
        async with (
            http_session(settings, url) as http,
            http.get(url, headers=headers, allow_redirects=False, proxy=proxy) as response,
        ):
            body = await response.content.read(MAX_ANSWER_BYTES)
            while len(body) < MAX_ANSWER_BYTES and (more := await response.content.read(MAX_ANSWER_BYTES - len(body))):
                body += more
            status = response.status
    except TimeoutError:
        raise AgentLost(f"no list of models within {settings.connect_timeout_s:g} s") from None
    except (aiohttp.ClientError, OSError) as error:
        raise AgentLost(redact(f"cannot ask for the models: {error}")) from None
    if status != 200:
        kind = AgentRefused if status in (401, 403, 404) else AgentLost
        raise kind(f"the service answered HTTP {status} to a request for its models", http_status=status)
    try:
        return read_listed(body)
    except ValueError as error:
        raise WireError(str(error)) from None
