"""Prints ``docs/api.md``: ``python -m docs.generate.http_api``; the endpoints are those of the OpenAPI description."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from gateway.settings.web import SCOPES, Scope
from gateway.web.app import routed_app

_URL = "http://127.0.0.1:8088"
_HEAD = """\
# The HTTP API

<!-- Printed by `python -m docs.generate.http_api`. Change gateway/web/ or that module, then print it anew. -->

`gateway web` serves it, beside the workers, with the same settings: live calls and what happens in them, their
control, workers, trunks,
dialplans, client secrets, health. It is a process of its own and needs the Redis that the workers use; any number of
them may run. `GET /openapi.json` describes it for programs. `/` is the [page](page.md), and [`gateway
calls`](command-line.md) uses the same API.

It listens on 127.0.0.1 (`web.host`, `web.port`); for TLS and for other machines put a proxy in front, and name it in
`web.proxies` and the host names in URLs in `web.hosts`. Why: [security.md](security.md#the-http-api).

## Tokens and scopes

```
$ gateway token desk --scopes read,control
token, shown only now: gw_...

in gateway.toml:

[web.tokens.desk]
hash = "sha256:..."
scopes = ["read", "control"]
```

A client sends its token as `Authorization: Bearer TOKEN`. The settings have hashes only: a token that was lost cannot
be shown again; make another. To revoke one, remove it and restart `gateway web`.

| scope | what it allows |
|---|---|"""

_SCOPES: Mapping[Scope, str] = {
    "read": "look at everything: calls, transcripts, recordings, CDRs, workers, trunks, dialplans",
    "control": "steer calls and listen to them, drain workers, probe trunks, reload dialplans",
    "dial": "place calls",
    "mint": "get [client secrets](client-secrets.md)",
    "admin": "all of these, and erase what is kept of a caller, read the audit, send webhooks again",
}

_RULES = """
## Rules for all endpoints

- **JSON** both ways; bodies have the content type `application/json` and at most 64 kB. Times are Unix seconds. A
  field that is not known is absent from a call. Other fields than those of the description are refused.
- **Errors** are problem details (RFC 9457, `application/problem+json`): `status`, `title`, `detail` (what went wrong,
  and the cure), `code` for programs. The value that was wrong is never repeated.

| status | code | when |
|---|---|---|
| 401 | `unauthorized` | no token, or an unknown one |
| 403 | `insufficient_scope` | the token lacks the scope; `WWW-Authenticate` names it |
| 403 | `foreign_origin` | with the page's cookie, a request that the page did not make |
| 404 | `unknown_call`, `unknown_worker`, ... | there is none of that name, or its record has expired |
| 409 | `refused`, `call_ended` | the worker did nothing; `detail` says why |
| 413, 408 | `too_large`, `too_slow` | the body is over 64 kB, or did not arrive within 5 s |
| 421 | `unknown_host` | the host name in the URL is not in `web.hosts` |
| 422 | `invalid_request`, ... | not of the described form; `detail` names the place |
| 429 | `too_many_requests` | too many requests, open streams, or wrong tokens of this address; `Retry-After` |
| 503 | `redis_away`, `no_worker` | Redis does not answer, or no worker takes calls; `Retry-After` |
| 504 | `expired` | the worker did not answer in time; `detail` says whether it may still be done |

- **Control** is a command to the worker that has the call, through Redis: 200 means that it was done. Every such
  request is written to the audit ([redis.md](redis.md)) and to the log: who, what, which call, result.
- **Streams** are server-sent events: `id`, `event`, and `data` in JSON. After a break, send the last id as
  `Last-Event-ID`. A stream ends after an hour, when the server stops and when Redis is away; connect again. A token
  may have 24 open.
- **Repeating a call.** With an `Idempotency-Key`, `POST /v1/calls` can be sent again without calling anybody twice,
  for a day: the same key and body is the same `call_id`; the same key with another body is 422 (`key_used`).

## Endpoints

`$TOKEN` is a token with the scope in brackets; the others need none."""

_EXAMPLES = {
    "call_id": "0197c0ffee0a1b2c3d4e5f",
    "worker": "host-4711",
    "trunk": "carrier",
    "number": "+4930123456",
    "dead_id": "msg_1764000000000-0_ended.crm",
}
_BODIES: Mapping[str, dict[str, Any]] = {
    "hang_up": {"goodbye": True},
    "transfer": {"target": "+4930123456"},
    "take_over": {"target": "+4930123456"},
    "send_digits": {"digits": "12#"},
    "say": {"text": "We close in five minutes."},
    "whisper": {"text": "Offer a discount of ten percent."},
    "dial": {"target": "+4930123456", "agent": "hello", "trunk": "carrier"},
    "mint": {"profile": "hello", "seconds": 60},
    "explain": {"number": "+4930123456"},
    "log_in": {"token": "gw_..."},
}
_OPTIONS: Mapping[str, str] = {
    "dial": ' -H "Idempotency-Key: $(uuidgen)"',
    "stream_calls": " -N",
    "stream_events_of_call": " -N",
    "log_in": " -c cookies",
    "export_cdrs": " -o cdrs.csv",
}
_QUERIES: Mapping[str, str] = {
    "events_of_call": "?after=1764000000000-0",
    "cdrs": "?since=1764000000&limit=50",
    "cdr_totals": "?since=2026-01-01",
    "export_cdrs": "?format=csv&since=1764000000",
}


def page() -> str:
    """Return the page in Markdown."""
    return "\n".join(_lines()) + "\n"


def operations() -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield method, path and description of every endpoint, in the order of the description."""
    for path, methods in routed_app().openapi()["paths"].items():
        for method, told in methods.items():
            yield method.upper(), path, told


def scopes_of(told: Mapping[str, Any]) -> list[str] | None:
    """Return the scopes that an endpoint needs; none for any known client, None where no token is needed."""
    security = told.get("security")
    return None if security is None else list(security[0]["bearer"])


def _lines() -> Iterator[str]:
    yield _HEAD
    yield from (f"| `{scope}` | {_SCOPES[scope]} |" for scope in SCOPES)
    yield _RULES
    for tag in dict.fromkeys(told["tags"][0] for _, _, told in operations()):
        yield f"\n### {tag[0].upper()}{tag[1:]}"
        for method, path, told in operations():
            if told["tags"][0] == tag:
                yield from _endpoint(method, path, told)


def _endpoint(method: str, path: str, told: Mapping[str, Any]) -> Iterator[str]:
    scopes = scopes_of(told)
    needed = "" if scopes is None else f" ({', '.join(scopes) or 'any'})"
    words = " ".join(told["description"].split())
    yield f"\n`{method} {path}`{needed}: {words}\n"
    yield "```"
    yield _curl(method, path, told, has_token=scopes is not None)
    yield "```"


def _curl(method: str, path: str, told: Mapping[str, Any], *, has_token: bool) -> str:
    name = told["operationId"]
    for parameter, example in _EXAMPLES.items():
        path = path.replace(f"{{{parameter}}}", example)
    url = f"{_URL}{path}{_QUERIES.get(name, '')}"
    quoted = f"'{url}'" if "?" in url else url
    words = ["curl"]
    if method != "GET":
        words.append(f"-X {method}")
    if has_token:
        words.append('-H "Authorization: Bearer $TOKEN"')
    if "requestBody" in told:
        words.append(f"--json '{json.dumps(_BODIES[name])}'")
    return " ".join(words) + f"{_OPTIONS.get(name, '')} {quoted}"


if __name__ == "__main__":
    sys.stdout.write(page())
