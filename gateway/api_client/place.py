"""
Where the HTTP API of a gateway is that the same user runs on this machine: a file that only they can read.

``gateway serve --web`` writes it (``write_place``), with the token that it made when none is configured, and takes it
away at its end; commands read it (``find_place``), so that looking at one's own gateway needs no settings.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from gateway.settings.sections import Settings


@dataclass(frozen=True, slots=True)
class ApiPlace:
    """
    An API as a client needs to know it.

    Attributes:
        url: without a slash at its end.
        token: None asks without one.
        authorities: PEM file for https; None trusts the system's.
    """

    url: str
    token: SecretStr | None = None
    authorities: Path | None = None


def find_place(settings: Settings, folder: Path) -> ApiPlace:
    """
    Return where the API is: as the settings say, else as the gateway of this user wrote, else at ``web.port``.

    A token goes to nowhere but the URL that it was given with.

    Args:
        settings: ``api``, and ``web`` for where an API of this machine listens.
        folder: of files at run time.
    """
    api = settings.api
    written = read_place(folder)
    if api.url is None and written is not None:
        return ApiPlace(written.url, api.token or written.token)
    url = str(api.url).rstrip("/") if api.url is not None else web_url(settings.web.host, settings.web.port)
    return ApiPlace(url, api.token, api.authorities)


def web_url(host: str, port: int) -> str:
    """Return the URL of a server that listens there; one that listens everywhere is asked on this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def place_path(folder: Path) -> Path:
    """Return where the file is."""
    return folder / "gateway-api.json"


def read_place(folder: Path) -> ApiPlace | None:
    """Return what a gateway of this user wrote; None when none runs, or the file is not of this user alone."""
    try:
        with place_path(folder).open("rb") as file:
            known = os.fstat(file.fileno())
            if known.st_uid != os.getuid() or known.st_mode & 0o077:
                return None
            found = json.loads(file.read(4096))
        os.kill(int(found["pid"]), 0)
        return ApiPlace(str(found["url"]), SecretStr(str(found["token"])) if found.get("token") else None)
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def written_place(folder: Path, place: ApiPlace) -> Iterator[None]:
    """
    Have the file say where the API is for as long as the block runs; the newest gateway of a user is the one it names.

    Raises:
        OSError: it cannot be written.
    """
    path = place_path(folder)
    token = place.token.get_secret_value() if place.token is not None else ""
    text = json.dumps({"url": place.url, "token": token, "pid": os.getpid()})
    draft = path.with_suffix(f".{os.getpid()}")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)
    try:
        yield
    finally:
        with suppress(OSError):
            if path.read_text() == text:
                path.unlink()
