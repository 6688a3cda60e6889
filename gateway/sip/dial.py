"""Where a call of ours goes: from a number or URI, a trunk's settings and a caller id to what an INVITE needs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from gateway.errors import SipError
from gateway.numbers import dialled_number, looks_like_number
from gateway.settings import TrunkSettings
from gateway.sip.caller_id import USER_SAFE, domain_of, identity_to_send

_SIP_URI = re.compile(r"sips?:[^\s<>\"\x00-\x1f\x7f]+", re.IGNORECASE)
_TEL_URI = re.compile(r"tel:([^\s;<>\"]+)(;[^\s<>\"]*)?", re.IGNORECASE)


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
    caller_id: str | None = None,
    diverted_from: str = "",
) -> Dialled:
    """
    Work out where a call goes and as whom.

    Args:
        target: a SIP URI, a tel URI (RFC 3966) or a bare number; the last two need a trunk.
        trunks: all that are configured.
        trunk: which of them to use; empty for none.
        caller_id: number to call as; None takes the trunk's.
        diverted_from: the number that was called first, of a call that is sent on.

    Raises:
        SipError: there is no such trunk, a number has no trunk, or the target is neither; the text names the cure.
    """
    settings = _trunk(trunks, trunk)
    number = _number_in(target)
    if number is not None and settings is None:
        raise SipError(f"{target!r} is a number and needs a trunk: name one of {_names(trunks)}, or dial a SIP URI")
    if number is None and _SIP_URI.fullmatch(target) is None:
        raise SipError(f"{target!r} is neither a number nor a SIP URI: write +493012345, tel:... or sip:user@host")
    if settings is None:
        return Dialled(target)
    if number is None:
        uri = target
    else:
        user = quote(dialled_number(number, settings.dial_format, settings.country), safe=USER_SAFE)
        uri = f"sip:{user}@{settings.host}"
    identity = identity_to_send(settings, caller_id, diverted_from)
    return Dialled(_over(uri, settings.transport), trunk, identity.local_uri, identity.headers)


def goes_through(target: str, trunk: TrunkSettings) -> bool:
    """Return whether a target that names no trunk goes through this one: a number, or an address of its own host."""
    if _number_in(target) is not None:
        return True
    host = target.rpartition("@")[2].partition(":")[2] if "@" not in target else target.rpartition("@")[2]
    return host.partition(";")[0].partition(":")[0].lower() == domain_of(trunk).lower()


def _trunk(trunks: Mapping[str, TrunkSettings], name: str) -> TrunkSettings | None:
    if not name:
        return None
    settings = trunks.get(name)
    if settings is None:
        raise SipError(f"there is no trunk {name!r}: name one of {_names(trunks)}")
    return settings


def _number_in(target: str) -> str | None:
    found = _TEL_URI.fullmatch(target)
    number = found.group(1) if found else target
    return number if looks_like_number(number) else None


def _over(uri: str, transport: str) -> str:
    """Return the URI with its transport, unless it names one already (RFC 3261 section 19.1.1)."""
    if transport == "udp" or ";transport=" in uri.lower():
        return uri
    return f"{uri};transport={transport}"


def _names(trunks: Mapping[str, TrunkSettings]) -> str:
    return ", ".join(sorted(trunks)) or "none, for no trunk is configured: see docs/trunks.md"
