"""The page at ``/``: static files, without a build step."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.responses import Response
from starlette.types import Scope

FOLDER = Path(__file__).parent / "page"


class _PageFiles(StaticFiles):
    """The browser asks each time whether a file changed (ETag), so that a new version is seen at once."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response


def mount_page(app: FastAPI) -> None:
    """Serve the page where no endpoint is; after all endpoints were added."""
    app.mount("/", _PageFiles(directory=FOLDER, html=True), name="page")
