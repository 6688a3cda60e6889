"""
Plain HTTP beside the WebSocket, on the same port: client secrets, the list of models, and control of the simulator.

Control takes JSON bodies only: a web page of another origin cannot send those without being asked first.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any

from aiohttp import web

from gateway.cost.model_life import shipped_shutdown_dates
from gateway.errors import ConfigError
from gateway.lab.simulator.faults.fault import Fault
from gateway.lab.simulator.faults.faults import faults_for, parse_fault
from gateway.lab.simulator.server.admission import bearer, is_key
from gateway.lab.simulator.server.client_secrets import ClientSecrets
from gateway.lab.simulator.transport.connection import Connection
from gateway.lab.simulator.wire.errors import REFUSALS, SessionRefusal
from gateway.lab.simulator.wire.schema import ClientMistake
from gateway.lab.simulator.wire.validate import decode

SECRETS_PATH = "/v1/realtime/client_secrets"
MODELS_PATH = "/v1/models"
CONTROL_PATH = "/control"
MOST_FAULTS = 100
MODELS = (
    *(
        "gpt-realtime-2.1",
        "gpt-realtime-2.1-mini",
        "gpt-realtime-2",
        "gpt-realtime-1.5",
        "gpt-realtime",
        "gpt-realtime-mini",
    ),
    "gpt-realtime-whisper",
)
_STOP_S = 0.5


class HttpSide:
    """
    Answers HTTP requests.

    Args:
        key: the only key that mints; None accepts any that is not empty.
        secrets: where client secrets are kept.
        faults: for the connections to come, in the words of ``--fault``; ``PUT /control/faults`` changes them.
        connections: every connection so far.
        shutdown: model -> the day on which it goes; empty for none.
        add_fault: lets a fault begin on the connection of that number; False where it has ended.
    """

    def __init__(
        self,
        *,
        key: str | None,
        secrets: ClientSecrets,
        faults: list[str],
        connections: Iterable[Connection],
        shutdown: Mapping[str, str],
        add_fault: Callable[[int, Fault], bool],
    ) -> None:
        self._key = key
        self._secrets = secrets
        self._faults = faults
        self._connections = connections
        known = {model: str(day) for model, day in shipped_shutdown_dates().items()}
        self._models = dict.fromkeys(MODELS, "") | known | dict(shutdown)
        self._add_fault = add_fault
        self._minted = 0
        app = web.Application(middlewares=[_told_as_json])
        app.router.add_post(SECRETS_PATH, self._mint)
        app.router.add_get(MODELS_PATH, self._list_models)
        app.router.add_get(MODELS_PATH + "/{model}", self._show_model)
        app.router.add_get(f"{CONTROL_PATH}/connections", self._list)
        app.router.add_get(CONTROL_PATH + r"/connections/{number:\d+}", self._show)
        app.router.add_post(CONTROL_PATH + r"/connections/{number:\d+}/fault", self._fault)
        app.router.add_get(f"{CONTROL_PATH}/faults", self._list_faults)
        app.router.add_put(f"{CONTROL_PATH}/faults", self._set_faults)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=_STOP_S)

    async def start(self) -> None:
        """Get ready."""
        await self._runner.setup()

    async def stop(self) -> None:
        """Close what is open."""
        await self._runner.cleanup()

    def protocol(self) -> asyncio.Protocol:
        """Return the protocol of one TCP connection."""
        if self._runner.server is None:
            raise RuntimeError("the HTTP side is not running")
        return self._runner.server()

    async def _mint(self, request: web.Request) -> web.Response:
        self._minted += 1
        for fault in faults_for(self._faults, self._minted):
            status = fault.mint_status()
            if status is not None:
                return _error(status, status.name.lower(), status.phrase, retry_after_s=fault.retry_after_s())
        if (refusal := self._not_let_in(request)) is not None:
            return refusal
        text = await request.text()
        try:
            secret = self._secrets.mint(
                decode(text) if text.strip() else {},
                safety_identifier=request.headers.get("OpenAI-Safety-Identifier"),
                now_s=time.time(),
            )
        except ClientMistake as mistake:
            return _error(HTTPStatus.BAD_REQUEST, mistake.code, mistake.message, param=mistake.param)
        return web.json_response(secret.reply())

    async def _list_models(self, request: web.Request) -> web.Response:
        if (refusal := self._not_let_in(request)) is not None:
            return refusal
        return web.json_response({"object": "list", "data": [_model(*each) for each in self._models.items()]})

    async def _show_model(self, request: web.Request) -> web.Response:
        if (refusal := self._not_let_in(request)) is not None:
            return refusal
        model = request.match_info["model"]
        if model not in self._models:
            return _error(
                HTTPStatus.NOT_FOUND, "model_not_found", f"The model '{model}' does not exist.", param="model"
            )
        return web.json_response(_model(model, self._models[model]))

    def _not_let_in(self, request: web.Request) -> web.Response | None:
        given = bearer(request.headers)
        if given is None:
            return _refusal(REFUSALS["no_authorization"])
        return None if is_key(given, self._key) else _refusal(REFUSALS["invalid_api_key"])

    async def _list(self, request: web.Request) -> web.Response:
        return web.json_response({"connections": [each.summary() for each in self._connections]})

    async def _show(self, request: web.Request) -> web.Response:
        number = int(request.match_info["number"])
        for connection in self._connections:
            if connection.number == number:
                return web.json_response(connection.detail())
        return _error(HTTPStatus.NOT_FOUND, "not_found", f"There is no connection {number}.")

    async def _fault(self, request: web.Request) -> web.Response:
        number = int(request.match_info["number"])
        if not any(connection.number == number for connection in self._connections):
            return _error(HTTPStatus.NOT_FOUND, "not_found", f"There is no connection {number}.")
        told = (await _json(request)).get("fault")
        if not isinstance(told, str):
            raise ConfigError("give an object with the key fault, as in --fault")
        if not self._add_fault(number, parse_fault(told)):
            return _error(HTTPStatus.CONFLICT, "ended", f"Connection {number} has no session any more.")
        return web.json_response({"number": number, "fault": told})

    async def _list_faults(self, request: web.Request) -> web.Response:
        return web.json_response({"faults": self._faults})

    async def _set_faults(self, request: web.Request) -> web.Response:
        wanted = (await _json(request)).get("faults")
        if not isinstance(wanted, list) or not all(isinstance(told, str) for told in wanted):
            raise ConfigError("give an object with the key faults: a list, each as in --fault")
        if len(wanted) > MOST_FAULTS:
            raise ConfigError(f"more than {MOST_FAULTS} faults")
        for told in wanted:
            parse_fault(told)
        self._faults[:] = wanted
        return web.json_response({"faults": self._faults})


def _model(model: str, shutdown: str) -> dict[str, Any]:
    return {
        "id": model,
        "object": "model",
        "created": 1_750_000_000,
        "owned_by": "system",
        "shutdown_date": shutdown or None,
    }


@web.middleware
async def _told_as_json(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except ConfigError as error:
        return _error(HTTPStatus.BAD_REQUEST, "invalid_fault", str(error))
    except web.HTTPException as error:
        status = HTTPStatus(error.status)
        return _error(status, status.name.lower(), status.phrase)


async def _json(request: web.Request) -> dict[str, Any]:
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType
    try:
        body = json.loads(await request.text())
    except ValueError:
        raise ConfigError("the body is not JSON") from None
    if not isinstance(body, dict):
        raise ConfigError("the body is not an object")
    return body


def _refusal(refusal: SessionRefusal) -> web.Response:
    return _error(HTTPStatus.UNAUTHORIZED, refusal.code, refusal.message)


def _error(
    status: HTTPStatus, code: str | None, message: str, *, param: str | None = None, retry_after_s: int | None = None
) -> web.Response:
    error = {"type": "invalid_request_error", "code": code, "message": message, "param": param}
    headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
    return web.json_response({"error": error}, status=status, headers=headers)
