"""Where a call of ours goes: from a number or URI, a trunk's settings and a caller id to what an INVITE needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.errors import SipError
from gateway.phone_numbers import looks_like_number
from gateway.settings.sections import TrunkSettings
from gateway.sip.core.address import Uri, escaped_user, parse_uri
from gateway.sip.core.addressing import ANONYMOUS, UNKNOWN, Caller, domain_of, identity_to_send, number_in, number_uri


@dataclass(frozen=True, slots=True)
class Dialled:
    """
    A call to be placed.

    Attributes:
        uri: the Request-URI, ready for the library.
        trunk: the trunk it goes through; empty for none.
        local_uri: our address in From; empty leaves the account's own.
        headers: more headers of the INVITE, name and value (RFC 3325, RFC 3323).
    """

    uri: str
    trunk: str = ""
    local_uri: str = ""
    headers: tuple[tuple[str, str], ...] = ()


def dialled(
    target: str,
    trunks: Mapping[str, TrunkSettings],
    *,
    trunk: str = "",
    caller: Caller = UNKNOWN,
    diverted_from: str = "",
    own_host: str = "",
) -> Dialled:
    """
    Work out where a call goes and as whom.

    Args:
        target: a SIP URI, a tel URI (RFC 3966) or a bare number; the last two need a trunk.
        trunks: all that are configured.
        trunk: which of them to use; empty for none.
        caller: whose number to call as; without one it is the trunk's.
        diverted_from: the number that was called first, of a call that is sent on.
        own_host: our address, for the caller's of a call through no trunk; empty leaves the account's own.

    Raises:
        SipError: there is no such trunk, a number has no trunk, or the target is neither; the text names the cure.
    """
    settings = _trunk(trunks, trunk)
    uri = _uri(target)
    number = _number_of(target, uri, settings)
    if number is not None and settings is None:
        raise SipError(f"{target!r} is a number and needs a trunk: name one of {_names(trunks)}, or dial a SIP URI")
    if number is None and (uri is None or uri.scheme not in ("sip", "sips")):
        raise SipError(f"{target!r} is neither a number nor a SIP URI: write +493012345, tel:... or sip:user@host")
    if settings is None:
        return Dialled(target, local_uri=_local_uri(caller, own_host))
    identity = identity_to_send(settings, caller, diverted_from)
    to = target if number is None else number_uri(settings, number, settings.host)
    return Dialled(_over(to, settings.transport), trunk, identity.local_uri, identity.headers)


def goes_through(target: str, trunk: TrunkSettings) -> bool:
    """Return whether a target that names no trunk goes through this one: a number, or an address of its own host."""
    uri = _uri(target)
    if _number_of(target, uri, trunk) is not None:
        return True
    return uri is not None and uri.host.lower() == domain_of(trunk).lower()


def _uri(target: str) -> Uri | None:
    try:
        return parse_uri(target)
    except ValueError:
        return None


def _local_uri(caller: Caller, own_host: str) -> str:
    if caller.withheld:
        return ANONYMOUS
    return f"<sip:{escaped_user(caller.number)}@{own_host}>" if caller.number and own_host else ""


def _trunk(trunks: Mapping[str, TrunkSettings], name: str) -> TrunkSettings | None:
    if not name:
        return None
    settings = trunks.get(name)
    if settings is None:
        raise SipError(f"there is no trunk {name!r}: name one of {_names(trunks)}")
    return settings


def _number_of(target: str, uri: Uri | None, trunk: TrunkSettings | None) -> str | None:
    number = target
    if uri is not None and uri.scheme == "tel":
        number = number_in(uri, trunk) if "phone-context" in uri.params else uri.user
    return number if looks_like_number(number) else None


def _over(uri: str, transport: str) -> str:
    """Return the URI with its transport, unless it names one already (RFC 3261 section 19.1.1)."""
    if transport == "udp" or ";transport=" in uri.lower():
        return uri
    return f"{uri};transport={transport}"


def _names(trunks: Mapping[str, TrunkSettings]) -> str:
    return ", ".join(sorted(trunks)) or "none, for no trunk is configured: see docs/trunks.md"
