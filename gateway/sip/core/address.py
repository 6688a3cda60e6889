"""
SIP addresses, read by their whole grammar (RFC 3261 section 25.1, RFC 3966). No I/O.

Addresses decide who is called and who is billed, so the gateway has one reader of them, which refuses every text that
could be read in two ways. It accepts what is common in practice, against the grammar but clear: ``#`` in a user, ``_``
in a host, a host of digits, a display name without quotes, ``;`` in the user of an address without brackets, a
parameter with nothing behind its equals sign.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import quote, unquote

USER_SAFE = "+*-_.!~'()&=$,;?/"
"""Characters of a user part that need no escaping (RFC 3261 section 25.1); all others are percent-encoded."""

_TOKEN = r"[A-Za-z0-9.!%*_+`'~-]+"
_ESCAPED = r"%[0-9A-Fa-f]{2}"
_QUOTED = r'"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[\x00-\x09\x0b\x0c\x0e-\x7f])*"'
_HOST = r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)"
_USER = rf"(?:[A-Za-z0-9_.!~*'()&=+$,;?/#-]|{_ESCAPED})+"
_PASSWORD = rf"(?:[A-Za-z0-9_.!~*'()&=+$,-]|{_ESCAPED})*"
_PARAM_CHARS = rf"(?:[A-Za-z0-9_.!~*'()\[\]/:&+$-]|{_ESCAPED})+"
_HEADER_CHARS = rf"(?:[A-Za-z0-9_.!~*'()\[\]/?:+$-]|{_ESCAPED})"

_SIP = re.compile(rf"(?P<scheme>sips?):(?:(?P<user>{_USER})(?::(?P<password>{_PASSWORD}))?@)?(?P<host>{_HOST})", re.I)
_PORT = re.compile(r":([0-9]{1,5})(?![0-9])")
_TEL = re.compile(r"tel:(\+?[0-9A-Fa-f*#().-]+)", re.I)
_OTHER = re.compile(rf"([A-Za-z][A-Za-z0-9+.-]*):((?:[A-Za-z0-9_.!~*'()/?:@&=+$,;#-]|{_ESCAPED})+)")
_OTHER_BARE = re.compile(rf"([A-Za-z][A-Za-z0-9+.-]*):((?:[A-Za-z0-9_.!~*'()/:@&=+$#-]|{_ESCAPED})+)")
_OURS = ("sip", "sips", "tel")
_URI_PARAM = re.compile(rf";({_PARAM_CHARS})(?:=({_PARAM_CHARS})?)?")
_URI_HEADER = re.compile(rf"[?&]({_HEADER_CHARS}+)=({_HEADER_CHARS}*)")
_DISPLAY = re.compile(rf"(?:({_QUOTED})[ \t]*|([^\"<>,;:\\\x00-\x08\x0a-\x1f\x7f]*))<")
_PARAM = re.compile(rf"[ \t]*;[ \t]*({_TOKEN})(?:[ \t]*=[ \t]*({_QUOTED}|{_TOKEN}|{_HOST})?)?")
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?")
_PIECE = re.compile(r'"(?:[^"\\]|\\.)*\\?(?:"|\Z)|<[^>]*(?:>|\Z)|[^,"<]+|,', re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_UNQUOTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SUBSCRIBER = re.compile(r"\+?[0-9*#().-]+")
_WHOLE_TOKEN = re.compile(_TOKEN)


@dataclass(frozen=True, slots=True)
class Uri:
    """
    A URI as it is written: ``%`` escapes are kept, so that nothing read in it can be taken for its punctuation.

    Attributes:
        scheme: ``sip``, ``sips``, ``tel`` or another, in lower case.
        user: user part without password; the number of a ``tel`` URI; empty when there is none.
        password: what follows the user's colon; None when nothing does.
        host: name, IPv4 address or ``[IPv6 address]``; empty for other schemes.
        port: None when none is written.
        params: name in lower case -> value, empty for one without.
        headers: what follows the question mark, in order.
        opaque: all behind the scheme of a URI that is neither SIP nor tel.
    """

    scheme: str
    user: str = ""
    password: str | None = None
    host: str = ""
    port: int | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    headers: tuple[tuple[str, str], ...] = ()
    opaque: str = ""

    @property
    def subscriber(self) -> str:
        """The user, escapes decoded; of a telephone number without its parameters (RFC 3261 section 19.1.6)."""
        number, _, params = self.user.partition(";")
        return unquote(number if params and _SUBSCRIBER.fullmatch(unquote(number)) else self.user)

    @property
    def subscriber_params(self) -> Mapping[str, str]:
        """Parameters of the telephone number: those of a tel URI, or within the user: ``+4930;npdi;rn=+49301@h``."""
        if self.scheme == "tel":
            return self.params
        number, _, rest = self.user.partition(";")
        if not rest or not _SUBSCRIBER.fullmatch(unquote(number)):
            return {}
        pairs = (part.partition("=") for part in rest.split(";"))
        return {name.lower(): value for name, _, value in pairs}

    @property
    def bare(self) -> str:
        """The address alone: scheme, user, host and port, without password, parameters and headers."""
        if self.opaque:
            return f"{self.scheme}:{self.opaque}"
        number, _, params = self.user.partition(";")
        user = number if params and _SUBSCRIBER.fullmatch(unquote(number)) else self.user
        if self.scheme == "tel":
            return f"tel:{user}"
        return f"{self.scheme}:{f'{user}@' if user else ''}{self.host}{'' if self.port is None else f':{self.port}'}"

    def __str__(self) -> str:
        if self.opaque:
            return f"{self.scheme}:{self.opaque}"
        text = f"{self.scheme}:{self.user}{'' if self.password is None else f':{self.password}'}"
        if self.host:
            text += f"{'@' if self.user else ''}{self.host}{'' if self.port is None else f':{self.port}'}"
        text += "".join(f";{name}{f'={value}' if value else ''}" for name, value in self.params.items())
        return text + "".join(
            f"{'&' if index else '?'}{name}={value}" for index, (name, value) in enumerate(self.headers)
        )


@dataclass(frozen=True, slots=True)
class Address:
    """
    The value of From, To, Contact and the like.

    Attributes:
        display: display name without its quotes; empty when there is none.
        uri: where it leads.
        params: of the header, name in lower case -> value without quotes, empty for one without.
    """

    display: str
    uri: Uri
    params: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        name = f"{quoted(self.display)} " if self.display else ""
        params = (f";{name}{f'={worded(value)}' if value else ''}" for name, value in self.params.items())
        return f"{name}<{self.uri}>{''.join(params)}"


def parse_address(value: str) -> Address:
    """
    Read one address of a header (name-addr or addr-spec, and the header's parameters).

    Raises:
        ValueError: the grammar does not know it.
    """
    value = value.strip(" \t")
    named = _DISPLAY.match(value)
    if named is None:  # without brackets all parameters are the header's (RFC 3261 section 20.10)
        uri, end = _parse_core(value)
        return Address("", uri, _header_params(value, end))
    end = value.find(">", named.end())
    if end < 0:
        raise ValueError("an address without its closing bracket")
    display = unquoted(named[1]) if named[1] else named[2].strip(" \t")
    return Address(display, parse_uri(value[named.end() : end]), _header_params(value, end + 1))


def parse_uri(text: str) -> Uri:
    """
    Read a URI: a Request-URI, or the one in the brackets of an address.

    Raises:
        ValueError: the grammar does not know it.
    """
    other = _OTHER.fullmatch(text)
    if other and other[1].lower() not in _OURS:
        return Uri(other[1].lower(), opaque=other[2])
    core, end = _parse_core(text)
    params: dict[str, str] = {}
    while found := _URI_PARAM.match(text, end):
        _add(params, found[1], found[2] or "")
        end = found.end()
    headers: list[tuple[str, str]] = []
    if core.scheme != "tel" and text[end : end + 1] == "?":
        while found := _URI_HEADER.match(text, end):
            if (found[0][0] == "&") != bool(headers):
                break
            headers.append((found[1], found[2]))
            end = found.end()
    if end != len(text):
        raise ValueError(f"a URI with {text[end : end + 20]!r} at its end")
    return replace(core, params=params, headers=tuple(headers))


def split_list(value: str) -> list[str]:
    """Return the elements of a header that is a list: commas within quotes and brackets divide nothing."""
    elements = [""]
    for piece in _PIECE.findall(value):
        if piece == ",":
            elements.append("")
        else:
            elements[-1] += piece
    return [element.strip() for element in elements if element.strip()]


def quoted(text: str) -> str:
    """Return a text as a quoted string (RFC 3261 section 25.1); characters it cannot hold become blanks."""
    return '"' + _UNQUOTABLE.sub(" ", text).replace("\\", "\\\\").replace('"', '\\"') + '"'


def unquoted(text: str) -> str:
    """Return what a quoted string says."""
    return _ESCAPE.sub(r"\1", text[1:-1])


def worded(text: str) -> str:
    """Return a text as the value of a header's parameter: a token or host as it is, everything else in quotes."""
    return text if _WHOLE_TOKEN.fullmatch(text) or _is_host(text) else quoted(text)


def escaped_user(text: str) -> str:
    """Return a text as the user part of a SIP URI: what would end it is written with percent signs."""
    return quote(text, safe=USER_SAFE, errors="surrogateescape")


def _parse_core(text: str) -> tuple[Uri, int]:
    """Read scheme, user, host and port; return them and where they end."""
    if found := _SIP.match(text):
        host, end = found["host"], found.end()
        if not _is_host(host):
            raise ValueError(f"{host[:80]!r} is no host")
        port = _PORT.match(text, end)
        if port is not None:
            end = port.end()
        number = int(port[1]) if port else None
        if number is not None and number > 65535:
            raise ValueError(f"there is no port {number}")
        return Uri(found["scheme"].lower(), found["user"] or "", found["password"], host, number), end
    if (found := _TEL.match(text)) and any(char in "0123456789*#" for char in found[1]):
        return Uri("tel", found[1]), found.end()
    if (found := _OTHER_BARE.match(text)) and found[1].lower() not in _OURS:
        return Uri(found[1].lower(), opaque=found[2]), found.end()
    raise ValueError(f"{text[:80]!r} is no URI")


def _header_params(value: str, end: int) -> Mapping[str, str]:
    params: dict[str, str] = {}
    while found := _PARAM.match(value, end):
        worth = found[2] or ""
        _add(params, found[1], unquoted(worth) if worth.startswith('"') else worth)
        end = found.end()
    if value[end:].strip(" \t"):
        raise ValueError(f"an address with {value[end : end + 20]!r} behind it")
    return params


def _add(params: dict[str, str], name: str, value: str) -> None:
    key = name.lower()
    if key in params:
        raise ValueError(f"the parameter {key[:40]!r} twice")  # RFC 3261 sections 7.3.1 and 19.1.1
    params[key] = value


def _is_host(text: str) -> bool:
    if text.startswith("["):
        try:
            ipaddress.IPv6Address(text[1:-1])
        except ValueError:
            return False
        return text.endswith("]")
    return all(_LABEL.fullmatch(label) for label in text.removesuffix(".").split("."))
