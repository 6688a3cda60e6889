"""
Who calls whom: what an INVITE says of it, and where an INVITE of ours goes and as whom. Pure: messages in, text out.

RFC 3325 (P-Asserted-Identity, P-Preferred-Identity), RFC 3323 (Privacy), RFC 5806 (Diversion), RFC 7315
(P-Called-Party-ID), RFC 3966 (tel URIs); Remote-Party-ID never became an RFC and is still what many a PBX writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from gateway.errors import SipError
from gateway.phone_numbers import dialled_number, in_context, is_e164, looks_like_number, normalised
from gateway.settings.sip import TrunkSettings
from gateway.sip.core.address import Address, Uri, escaped_user, parse_address, parse_uri
from gateway.sip.core.message import Message, clean

ANONYMOUS = '"Anonymous" <sip:anonymous@anonymous.invalid>'
"""The From of a call without a number (RFC 3323 section 4.1)."""
_NOBODY = Uri("sip")
_PRIVATE = frozenset({"id", "user", "header", "session"})  # RFC 3323 section 4.2, RFC 3325 section 9.3
_PLACES = ("request-uri", "p-called-party-id", "to")
_OWN_NUMBER = {"p-asserted-identity": "P-Asserted-Identity", "p-preferred-identity": "P-Preferred-Identity"}


@dataclass(frozen=True, slots=True)
class Caller:
    """
    Who calls, as far as it may be shown.

    Attributes:
        number: E.164 where the trunk's settings tell it, else the user part as it was sent; empty when unknown.
        withheld: the caller asked for privacy (RFC 3323).
        vouched: it is ours, or asserted by a trusted trunk; else it is merely what the caller wrote into From.
    """

    number: str = ""
    withheld: bool = False
    vouched: bool = True


UNKNOWN = Caller()
"""No particular caller: the trunk decides which number is shown."""


@dataclass(frozen=True, slots=True)
class Parties:
    """
    Who calls whom, by an INVITE.

    Attributes:
        caller: who calls.
        called: the called number, in the same form as the caller's.
        from_uri: the address in From, bare; empty if it cannot be read.
        to_uri: the Request-URI, likewise.
    """

    caller: Caller
    called: str
    from_uri: str
    to_uri: str


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


# --- what an INVITE says ---


def parties_of(invite: Message, trunk: TrunkSettings | None) -> Parties:
    """Return who calls whom, by an INVITE that came through a trunk, or from none."""
    sender = next(_addresses(invite, "from"), Address("", _NOBODY)).uri
    request_uri = _uri(invite.uri)
    asserted = _asserted(invite, trunk)
    number = number_in(asserted or sender, trunk)
    return Parties(
        caller=Caller(number, _is_withheld(invite, sender, trunk), vouched=asserted is not None),
        called=_called(invite, request_uri, trunk),
        from_uri="" if sender is _NOBODY else clean(sender.bare),
        to_uri=clean(request_uri.bare) if request_uri is not None else "",
    )


def number_in(uri: Uri, trunk: TrunkSettings | None) -> str:
    """Return the number an address is of, E.164 where that can be known; else its user part as it was sent."""
    user = clean(uri.subscriber)
    context = unquote(uri.subscriber_params.get("phone-context", ""))
    if context and not user.startswith("+"):
        return in_context(user, context)
    return normalised(user, trunk.country if trunk else None, trunk.numbers if trunk else None)


def user_called(request_uri: str) -> str:
    """Return the user part of a Request-URI, decoded; empty when there is none."""
    uri = _uri(request_uri)
    return clean(uri.subscriber) if uri is not None else ""


def _asserted(invite: Message, trunk: TrunkSettings | None) -> Uri | None:
    """Return who calls by the word of a trunk that is trusted with it: the first number, else the first name."""
    if trunk is None or not trunk.trust_identity:
        return None  # anyone can write these headers
    found = [each.uri for each in _addresses(invite, "p-asserted-identity")]
    if not found:
        calling = ("", "calling")
        found = [each.uri for each in _addresses(invite, "remote-party-id") if each.params.get("party", "") in calling]
    named = [uri for uri in found if uri.subscriber]
    return next(iter(sorted(named, key=lambda uri: not looks_like_number(uri.subscriber))), None)


def _is_withheld(invite: Message, sender: Uri, trunk: TrunkSettings | None) -> bool:
    asked = {word.strip().lower() for line in invite.values("privacy") for word in line.split(";")}
    if asked & _PRIVATE or sender.subscriber.lower() == "anonymous" or sender.host.lower() == "anonymous.invalid":
        return True
    trusted = trunk is not None and trunk.trust_identity
    shown = ("", "off")
    return trusted and any(
        each.params.get("privacy", "") not in shown for each in _addresses(invite, "remote-party-id")
    )


def _called(invite: Message, request_uri: Uri | None, trunk: TrunkSettings | None) -> str:
    """Return the called number from where the trunk writes it; the Request-URI's if it is missing there."""

    def number_at(place: str) -> str:
        uri = request_uri if place == "request-uri" else next((each.uri for each in _addresses(invite, place)), None)
        return number_in(uri, trunk) if uri is not None else ""

    called = number_at("request-uri")
    if trunk is None or (trunk.called_number == "auto" and trunk.username is None):
        return called
    if trunk.called_number != "auto":
        return number_at(trunk.called_number) or called
    # A registrar calls our contact, whose user is the account or what the carrier made of it: the number is elsewhere.
    account = normalised(trunk.username or "", trunk.country, trunk.numbers)
    others = [each for place in _PLACES if (each := number_at(place)) not in ("", "s", account)]
    best = sorted(others, key=lambda number: not is_e164(number))
    if best or is_e164(called):
        return best[0] if best else called
    return number_at("diversion") or called


def _addresses(invite: Message, name: str) -> Iterator[Address]:
    """Yield the addresses of a header, over all its lines; anything else is skipped."""
    for value in invite.values(name):
        try:
            yield parse_address(value)
        except ValueError:
            continue


def _uri(text: str) -> Uri | None:
    try:
        return parse_uri(text)
    except ValueError:
        return None


# --- what an INVITE of ours says ---


def domain_of(trunk: TrunkSettings) -> str:
    """Return the domain of our address at a trunk: its host without the port."""
    return trunk.host.partition(":")[0]


def own_uri(trunk: TrunkSettings) -> str:
    """Return our address at a trunk: its account (address of record), or ``gateway`` where there is none."""
    return f"sip:{escaped_user(trunk.username or 'gateway')}@{domain_of(trunk)}"


def number_uri(trunk: TrunkSettings, number: str, host: str) -> str:
    """Return the address of a number, or of a name, as a trunk wants it (RFC 3261 section 19.1.6)."""
    if not looks_like_number(number):
        return f"sip:{escaped_user(number)}@{host}"
    written = dialled_number(number, trunk.sends_numbers, trunk.country)
    is_telephone = trunk.user_phone == "always" or (trunk.user_phone == "plus" and written.startswith("+"))
    return f"sip:{escaped_user(written)}@{host}{';user=phone' if is_telephone else ''}"


def shown(wanted: str, trunk: TrunkSettings | None, caller: Caller) -> Caller:
    """
    Return whom a call that is placed for a caller shows as calling.

    Args:
        wanted: ``caller``, ``trunk`` or a number; empty is the caller where the trunk allows it.
        trunk: the one it goes through; None for a SIP URI that is called directly.
        caller: of the first call.

    Returns:
        The number to show; one without a number leaves it to the trunk.
    """
    if not wanted:
        wanted = "caller" if trunk is None or trunk.shows_caller else "trunk"
    return {"caller": caller, "trunk": UNKNOWN}.get(wanted) or Caller(wanted)


def identity_to_send(trunk: TrunkSettings, caller: Caller, diverted_from: str = "") -> Identity:
    """
    Return what a call through a trunk tells of who calls.

    Args:
        trunk: its settings say which headers carry the number, and whether it is withheld from the called side.
        caller: the number to call as; without one it is the trunk's, and with neither, only our account is shown.
        diverted_from: the number that was called first, of a call that is sent on (RFC 5806).
    """
    private = trunk.privacy or caller.withheld
    number = caller.number or ("" if caller.withheld else trunk.caller_id or "")
    if caller.withheld and not looks_like_number(number):
        number = ""  # "anonymous" is nobody's number
    uri = number_uri(trunk, number, domain_of(trunk)) if number else own_uri(trunk)
    headers = list(_identities(trunk, number, uri, vouched=caller.vouched, private=private))
    shown_there = any(f"<{uri}>" in value for _, value in headers)
    local = f"<{own_uri(trunk) if shown_there and 'from' not in trunk.caller_id_header else uri}>"
    if private:
        local = ANONYMOUS
        headers.append(("Privacy", "id"))  # RFC 3325 section 9.3
    if diverted_from:
        first = number_uri(trunk, diverted_from, domain_of(trunk))
        headers.append(("Diversion", f"<{first}>;reason=deflection;counter=1"))
    return Identity(local, tuple(headers))


def _identities(
    trunk: TrunkSettings, number: str, uri: str, *, vouched: bool, private: bool
) -> Iterator[tuple[str, str]]:
    """Yield the headers beside From that tell a number; what we cannot vouch for is never asserted (RFC 3325)."""
    own = f"<{number_uri(trunk, trunk.caller_id, domain_of(trunk))}>" if trunk.caller_id else ""
    wanted = trunk.caller_id_header
    if "p-asserted-identity" in wanted and (asserted := own if not vouched else f"<{uri}>" if number else ""):
        yield "P-Asserted-Identity", asserted
    if "p-preferred-identity" in wanted and number:
        yield "P-Preferred-Identity", f"<{uri}>"
    if "remote-party-id" in wanted and number:
        screen, privacy = "yes" if vouched else "no", "full" if private else "off"
        yield "Remote-Party-ID", f"<{uri}>;party=calling;screen={screen};privacy={privacy}"
    if trunk.own_number_header is not None and own != f"<{uri}>":
        yield _OWN_NUMBER[trunk.own_number_header], own


@dataclass(frozen=True, slots=True)
class OutboundInvite:
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


def outbound_invite(
    target: str,
    trunks: Mapping[str, TrunkSettings],
    *,
    trunk: str = "",
    caller: Caller = UNKNOWN,
    diverted_from: str = "",
    own_host: str = "",
) -> OutboundInvite:
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
        return OutboundInvite(target, local_uri=_local_uri(caller, own_host))
    identity = identity_to_send(settings, caller, diverted_from)
    to = target if number is None else number_uri(settings, number, settings.host)
    return OutboundInvite(_over(to, settings.transport), trunk, identity.local_uri, identity.headers)


def goes_through(target: str, trunk: TrunkSettings) -> bool:
    """Return whether a target that names no trunk goes through this one: a number, or an address of its own host."""
    uri = _uri(target)
    if _number_of(target, uri, trunk) is not None:
        return True
    return uri is not None and uri.host.lower() == domain_of(trunk).lower()


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
    return ", ".join(sorted(trunks)) or "none (no trunk is configured: see docs/trunks.md)"
