"""
``gateway web`` beside what takes calls: started with it, started again when it ends, and in no call's way.

It inherits the settings; what only this run knows it gets over the environment: a private Redis, a simulator, options
of the command line. Without a token in the settings one is made for this run. So that the user of the gateway can look
at it at once, its address and that token are announced, and written where ``gateway calls`` finds them.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import structlog
from pydantic import SecretStr

from gateway.api_client.place import ApiPlace, written_place
from gateway.child_process import ChildFailed, ChildProcess, dying_with_us
from gateway.settings.sections import Settings
from gateway.settings.sources import CONFIG_VARIABLE, environment_with, variable_of
from gateway.web.tokens import hash_of, new_token

READY_LIMIT_S = 60.0
FIRST_AGAIN_S, LAST_AGAIN_S = 1.0, 60.0
STEADY_S = 60.0
"""One that ran for so long is started again at once."""
WEB = "web"
TOKEN_NAME = "local"
SCOPES = "admin"
_READY = r"ready: (?P<url>http\S+?),? "

_log = structlog.get_logger(__name__)


class WebProcess:
    """
    Keeps one ``gateway web``. Thread: loop, the main thread.

    Args:
        settings: of what takes calls.
        variables: settings that the process cannot find by itself: variable -> value.
        announce: takes the lines a person should see.
        write_line: takes each line that the process writes.
        folder: for files of this run that only this user may read.
    """

    def __init__(
        self,
        settings: Settings,
        variables: Mapping[str, str],
        *,
        announce: Callable[[str], None],
        write_line: Callable[[str], None],
        folder: Path,
    ) -> None:
        self._announce = announce
        self._write_line = write_line
        self._folder = folder
        self._token = None if settings.web.tokens else new_token()
        self._variables = {**variables, **token_variables(self._token)}
        self._was_announced = False

    async def keep(self) -> None:
        """Run it, and again whenever it ends; later, if it had hardly started. Never returns."""
        loop, delay_s = asyncio.get_running_loop(), FIRST_AGAIN_S
        while True:
            began = loop.time()
            await self._run()
            delay_s = FIRST_AGAIN_S if loop.time() - began > STEADY_S else min(2 * delay_s, LAST_AGAIN_S)
            _log.error("web_ended", again_in_s=delay_s)
            await asyncio.sleep(delay_s)

    async def _run(self) -> None:
        command = dying_with_us(sys.executable, "-m", "gateway", "web")
        environment = environment_with(self._variables)
        async with AsyncExitStack() as stack:
            process = ChildProcess(
                *command, name=WEB, environment=environment, new_session=True, on_line=self._write_line
            )
            await stack.enter_async_context(process)
            try:
                url = (await process.find(_READY, READY_LIMIT_S))["url"]
            except ChildFailed:
                return  # it has written why, and its lines are ours
            token = None if self._token is None else SecretStr(self._token)
            with suppress(OSError):  # without it, commands need the token in their settings
                stack.enter_context(written_place(self._folder, ApiPlace(url, token)))
            self._tell(url)
            await process.ended()

    def _tell(self, url: str) -> None:
        if not self._was_announced:
            log_in = (
                f"log in with the token {self._token}" if self._token is not None else "log in with a token of yours"
            )
            self._announce(f"page: {url}/ ({log_in})")
            self._was_announced = True


def token_variables(token: str | None) -> dict[str, str]:
    """Return the variables that make a token known to ``gateway web``; it learns the hash alone."""
    if token is None:
        return {}
    known = {"hash": hash_of(token), "scopes": SCOPES}
    return {variable_of(f"web.tokens.{TOKEN_NAME}"): json.dumps(known)}


def run_variables(
    settings: Settings, *, config: Path | None, redis_url: str, simulator: Mapping[str, str]
) -> dict[str, str]:
    """
    Return what a run knows and the settings on disk do not.

    Args:
        settings: with the options of the command line.
        config: file that they come from, if it was named.
        redis_url: of the Redis in use, a private one too.
        simulator: ``url`` and ``api_key`` of the simulator; empty for the real service.
    """
    told = {variable_of("redis.url"): redis_url, variable_of("dialplan"): str(settings.dialplan)}
    if config is not None:
        told[CONFIG_VARIABLE] = str(config)
    return told | {variable_of(f"realtime.{name}"): value for name, value in simulator.items()}
