"""The page at ``/``: static files, without a build step."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.requests import Request
from starlette.responses import Response

FOLDER = Path(__file__).parent / "page"


def add_page(app: FastAPI) -> None:
    """
    Serve the page's files, which lie side by side: a path with a slash inside is an endpoint's or none.

    The browser asks each time whether a file changed (ETag), so that a new version is seen at once.
    """
    files = StaticFiles(directory=FOLDER)

    async def page(request: Request) -> Response:
        response = await files.get_response(request.path_params.get("name", "index.html"), request.scope)
        response.headers["Cache-Control"] = "no-cache"
        return response

    app.add_route("/", page, include_in_schema=False)
    app.add_route("/{name}", page, include_in_schema=False)
