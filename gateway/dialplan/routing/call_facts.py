"""What is known of a call when its route is looked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from urllib.parse import unquote

from gateway.call.events import IncomingInvite

_NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class RoutingFacts:
    """
    One call, in plain values: everything a route may ask about, time and load included.

    Attributes:
        at: when the call came; aware of its zone.
        called_forms: every form of the called number or user that a route may name, best form first.
        caller_forms: the caller's, likewise.
        to_uri: the Request-URI.
        from_uri: URI of the caller.
        trunk: name of the trunk it came through; empty when from none.
        source: address the INVITE came from, without port.
        headers: header name in lower case -> value.
        load: share of the worker's capacity in use, from 0 to 1.
        call_id: the gateway's id of the call; decides about ``percent``.
    """

    at: datetime
    called_forms: tuple[str, ...] = ()
    caller_forms: tuple[str, ...] = ()
    to_uri: str = ""
    from_uri: str = ""
    trunk: str = ""
    source: str = ""
    headers: Mapping[str, str] = field(default_factory=lambda: _NONE)
    load: float = 0.0
    call_id: str = ""

    def __post_init__(self) -> None:
        if self.at.tzinfo is None:
            raise ValueError("the time of a call needs a zone")

    @property
    def called(self) -> str:
        """The called number or user in its best form; empty when there is none."""
        return self.called_forms[0] if self.called_forms else ""

    @property
    def caller(self) -> str:
        """The caller's, likewise."""
        return self.caller_forms[0] if self.caller_forms else ""


def facts_of(invite: IncomingInvite, *, at: datetime, load: float = 0.0) -> RoutingFacts:
    """
    Return the facts of an INVITE.

    Args:
        invite: the call; its numbers are those its trunk's settings made of it.
        at: the time, with a zone.
        load: share of the worker's capacity in use.
    """
    return RoutingFacts(
        at=at,
        called_forms=_forms(invite.called, invite.to_uri),
        # What anybody can write into From does not stand beside what the trunk vouches for.
        caller_forms=_forms(invite.caller, "" if invite.asserted else invite.from_uri),
        to_uri=invite.to_uri,
        from_uri=invite.from_uri,
        trunk=invite.trunk,
        source=invite.source.rpartition(":")[0].strip("[]"),
        headers=invite.headers,
        load=load,
        call_id=invite.call_id,
    )


def facts_of_call(
    *,
    to: str,
    caller: str,
    at: datetime,
    trunk: str = "",
    source: str = "",
    headers: Mapping[str, str] | None = None,
    load: float = 0.0,
    call_id: str = "",
) -> RoutingFacts:
    """Return the facts of a call that is only imagined; ``to`` and ``caller`` are numbers, users or whole URIs."""
    return RoutingFacts(
        at=at,
        called_forms=_written(to),
        caller_forms=_written(caller),
        to_uri=to if ":" in to else f"sip:{to}@localhost",
        from_uri=caller if ":" in caller else f"sip:{caller}@localhost",
        trunk=trunk,
        source=source,
        headers={name.lower(): value for name, value in (headers or {}).items()},
        load=load,
        call_id=call_id,
    )


def _written(text: str) -> tuple[str, ...]:
    if text.partition(":")[0].lower() in ("sip", "sips", "tel"):
        return user_forms(text)
    return (text,) if text else ()


def _forms(number: str, uri: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys((number, *user_forms(uri)) if number else user_forms(uri)))


def user_forms(uri: str) -> tuple[str, ...]:
    """
    Return the forms of a URI's user part a rule may name; none when the URI has no user.

    Upper and lower case differ, and ``%61`` is ``a`` (RFC 3261 section 19.1.4). Reserved characters are decoded too:
    people write ``+49...`` in a dialplan, and some phones send ``%2B49...``. A password is left out. Of a telephone
    number with parameters (``sip:1000;isub=7@host``, ``tel:1000;ext=7``) the bare number is a second form.
    """
    scheme, _, rest = uri.strip().strip("<>").partition(":")
    if scheme.lower() == "tel":
        user = rest
    else:
        user, at, _ = rest.partition("@")
        if not at:
            return ()
    user = user.partition(":")[0]
    forms = (unquote(user), unquote(user.partition(";")[0]))
    return tuple(dict.fromkeys(form for form in forms if form))
