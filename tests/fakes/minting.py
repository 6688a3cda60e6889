"""A service that mints client secrets, or answers as a test tells it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer


class MintingService:
    """``POST /v1/realtime/client_secrets``: mints, or answers as told."""

    def __init__(self) -> None:
        self.requests: list[web.Request] = []
        self.bodies: list[Any] = []
        self.status = 200
        self.answer: Any = None
        self.delay_s = 0.0
        self.life_s: float | None = None
        app = web.Application()
        app.router.add_post("/v1/realtime/client_secrets", self._mint)
        self.server = TestServer(app)

    async def _mint(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.requests.append(request)
        self.bodies.append(body)
        await asyncio.sleep(self.delay_s)
        if self.status != 200 or self.answer is not None:
            if isinstance(self.answer, str):
                return web.Response(status=self.status, text=self.answer)
            return web.json_response(self.answer, status=self.status)
        life_s = body["expires_after"]["seconds"] if self.life_s is None else self.life_s
        value = f"ek_{len(self.requests)}"
        return web.json_response({"value": value, "expires_at": int(time.time() + life_s), "session": {}})
