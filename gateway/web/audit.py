"""The audit: who asked for what, of which call, and what came of it; never a token."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TypeAlias

import structlog
from starlette.requests import HTTPConnection

from gateway.errors import StoreError
from gateway.web.auth import UNAUTHORIZED, address_of
from gateway.web.errors import ApiError
from gateway.web.services import Services

Story: TypeAlias = dict[str, str | int | float]

DONE = "done"

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def audited(services: Services, connection: HTTPConnection, action: str, **told: str) -> AsyncGenerator[Story]:
    """
    Write down an action when the block ends, with its result, even when it was refused or failed.

    Args:
        services: where it is written.
        connection: who asked.
        action: what for.
        told: more fields, such as ``client`` and ``call_id``; the block adds others to what it is given.
    """
    story: Story = {"action": action, "source": address_of(connection), "result": "internal_error", **told}
    try:
        yield story
        if story["result"] == "internal_error":
            story["result"] = DONE
    except ApiError as error:
        story["result"] = error.code
        raise
    except StoreError:
        story["result"] = "redis_away"
        raise
    finally:
        _write_down(services, story)


def _write_down(services: Services, story: Story) -> None:
    strangers = services.strangers
    if story["result"] == UNAUTHORIZED and not strangers.may_be_told():
        return
    more = {"untold_before": strangers.untold} if strangers.untold else {}
    strangers.untold = 0
    _log.info("asked_over_http", **story, **more)
    services.store.audit(**story)
