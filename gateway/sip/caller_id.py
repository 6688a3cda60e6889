"""
Who calls whom, as SIP headers tell it: From, P-Asserted-Identity, Privacy, Diversion. Pure: text in, text out.

RFC 3325 (P-Asserted-Identity), RFC 3323 (Privacy), RFC 5806 (Diversion), RFC 3966 (tel URIs).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote

from gateway.numbers import dialled_number, looks_like_number, normalised
from gateway.settings import TrunkSettings
from gateway.sip.message import clean

ANONYMOUS = '"Anonymous" <sip:anonymous@anonymous.invalid>'
"""The From of a call that tells nobody's number (RFC 3323 section 4.1)."""
USER_SAFE = "+*-_.!~'()&=$,;?/"
"""What stands in a user part as it is (RFC 3261 section 25.1); everything else is written with percent signs."""
_IN_BRACKETS = re.compile(r"<([^<>]*)>")
_ADDRESSES = re.compile(r'(?:"(?:\\.|[^"\\])*"|<[^>]*>|[^,"<])+')


@dataclass(frozen=True, slots=True)
class Identity:
    """
    What an INVITE of ours tells of the caller.

    Attributes:
        local_uri: our address in From, ready for the library.
        headers: more headers, name and value.
    """

    local_uri: str
    headers: tuple[tuple[str, str], ...] = ()


def domain_of(trunk: TrunkSettings) -> str:
    """Return the domain of our address at a trunk: its host without the port."""
    return trunk.host.partition(":")[0]


def own_uri(trunk: TrunkSettings) -> str:
    """Return our address at a trunk: its account (address of record), or ``gateway`` where there is none."""
    return f"sip:{quote(trunk.username or 'gateway', safe=USER_SAFE)}@{domain_of(trunk)}"


def identity_to_send(trunk: TrunkSettings, caller_id: str | None, diverted_from: str = "") -> Identity:
    """
    Return what a call through a trunk tells of us.

    Args:
        trunk: its settings say which header carries the number, and whether it is withheld from the called side.
        caller_id: the number to call as; None takes the trunk's. With neither, our account alone is told.
        diverted_from: the number that was called first, of a call that is sent on (RFC 5806).
    """
    shown = caller_id or trunk.caller_id
    uri = _number_uri(trunk, shown) if shown else own_uri(trunk)
    headers: list[tuple[str, str]] = []
    if shown and trunk.caller_id_header != "from":
        headers.append(("P-Asserted-Identity", f"<{uri}>"))
    local = f"<{own_uri(trunk) if trunk.caller_id_header == 'p-asserted-identity' else uri}>"
    if trunk.privacy:
        local = ANONYMOUS
        headers.append(("Privacy", "id"))  # RFC 3325 section 9.3
    if diverted_from:
        headers.append(("Diversion", f"<{_number_uri(trunk, diverted_from)}>;reason=deflection;counter=1"))
    return Identity(local, tuple(headers))


def caller_number(headers: Mapping[str, str], trunk: TrunkSettings | None) -> str:
    """
    Return the caller's number: E.164 where the trunk's country tells it, else the user part as it was sent.

    P-Asserted-Identity counts only from a trunk whose settings trust it: anyone can write that header.
    """
    user = asserted_user(headers, trunk) or user_of(headers.get("from", ""))
    return normalised(user, trunk.country if trunk else None)


def asserted_user(headers: Mapping[str, str], trunk: TrunkSettings | None) -> str:
    """Return who calls by the word of a trunk that is trusted with it, a number if there is one; else nothing."""
    if trunk is None or not trunk.trust_identity:
        return ""
    users = [user_of(address) for address in addresses_in(headers.get("p-asserted-identity", ""))]
    return next(iter(sorted(filter(None, users), key=lambda user: not looks_like_number(user))), "")


def called_number(request_uri: str, headers: Mapping[str, str], trunk: TrunkSettings | None) -> str:
    """
    Return the called number: E.164 where the trunk's country tells it, else the user part as it was sent.

    A registrar that sends a call to our contact puts our account into the Request-URI; the number is in To then.
    """
    user = user_of(request_uri)
    if trunk is not None and trunk.username is not None and user == trunk.username:
        user = user_of(headers.get("to", "")) or user
    return normalised(user, trunk.country if trunk else None)


def addresses_in(value: str) -> list[str]:
    """Return the addresses of a header that may have several, with commas between."""
    return [found.strip() for found in _ADDRESSES.findall(value) if found.strip()]


def user_of(address: str) -> str:
    """Return the user part of a SIP or tel address, percent signs decoded, without parameters and password."""
    found = _IN_BRACKETS.search(address)
    scheme, _, rest = (found.group(1) if found else address).strip().partition(":")
    user, at, _ = rest.partition("@")  # a user part has no other: it would be %40
    if scheme.lower() == "tel":
        user = rest
    elif scheme.lower() not in ("sip", "sips") or not at:
        return ""
    return clean(unquote(user.partition(":")[0].partition(";")[0]))


def _number_uri(trunk: TrunkSettings, number: str) -> str:
    written = dialled_number(number, trunk.dial_format, trunk.country) if looks_like_number(number) else number
    return f"sip:{quote(written, safe=USER_SAFE)}@{domain_of(trunk)}"
