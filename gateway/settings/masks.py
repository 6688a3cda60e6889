"""How a setting's value is shown to people: secrets are masked, even in the wrong place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

from pydantic import AnyUrl, BaseModel, SecretStr


def shown(value: object) -> str:
    """Return a value fit for printing."""
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:g}"
        case SecretStr():
            return "********"
        case AnyUrl():
            return _masked_url(urlsplit(str(value)))
        case BaseModel():
            return " ".join(f"{name}={shown(inner)}" for name, inner in value if inner is not None)
        case Mapping():
            return ", ".join(f"{name}: {shown(inner)}" for name, inner in value.items()) or "none"
        case tuple():
            return ", ".join(shown(inner) for inner in value) or "none"
        case _:
            return masked_text(str(value))


def masked_text(text: str) -> str:
    """Mask a key in a place where none belongs."""
    return re.sub(r"\b([es]k)[-_][\w-]+", r"\1-********", text)


def without_password(url: str) -> str:
    """Return scheme, place and path of a URL: what may be printed."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _masked_url(parts: SplitResult) -> str:
    user, at, host = parts.netloc.rpartition("@")
    login = f"{user.partition(':')[0]}:********@" if ":" in user else user + at
    query = re.sub(r"(?i)((?:^|&)[^=&]*(?:pass|key|token|secret)[^=&]*=)[^&]*", r"\1********", parts.query)
    return f"{parts.scheme}://{login}{host}{parts.path}{'?' if query else ''}{query}"
