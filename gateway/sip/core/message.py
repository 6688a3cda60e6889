"""
The one parser of SIP messages: it takes a message whole, as RFC 3261 section 25 defines it, or refuses it. No I/O.

Theory of operation. ``parse_message`` makes a ``Message``, a frozen value: start line, headers in order with their long
names, body, and the fields that tell dialogs and transactions apart (Call-ID, tags, CSeq, branch). Everything that
asks what a message says reads this value: the screen, digest and bodies (``admission/``), addresses
(``addressing.py``), keys and transfers (``dtmf.py``, ``info_notify.py``), how a dialog ended (``ending.py``),
Retry-After (``registration.py``).

``parse_message`` is stricter than the library's parser on purpose (pjproject 2.15.1, ``sip_parser.c``). Both must agree
on where a line ends, which headers there are, and what To, From, Call-ID, CSeq and Via say. Whatever the library could
understand in another way is ``Malformed`` and never reaches it. Each pattern runs once from left to right, whatever is
sent: possessive quantifiers keep what was matched.

A message that arrives is parsed once. The screen parses it before the library does; the library's callbacks about it
hand over its text again, and ``MessageReader`` gives them the same value. Three things look at text without parsing
it: ``admission/screening.py``, for the rate limit of a message that is not yet worth parsing,
``admission/refusal.py``, for an answer to a message that cannot be parsed, and ``ladder.py``, which masks and draws
messages for people.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from gateway.sip.core.address import split_list

BUFFER_BYTES = 4000
"""What the library reads of a datagram, and the longest message over a connection (PJSIP_MAX_PKT_LEN)."""
TOKEN = r"[A-Za-z0-9\-.!%*_+`'~]+"  # RFC 3261 section 25.1
# RFC 3261 section 7.3.3 and the extensions that define one.
_COMPACT = {
    "a": "accept-contact",
    "b": "referred-by",
    "c": "content-type",
    "d": "request-disposition",
    "e": "content-encoding",
    "f": "from",
    "i": "call-id",
    "j": "reject-contact",
    "k": "supported",
    "l": "content-length",
    "m": "contact",
    "n": "identity-info",
    "o": "event",
    "r": "refer-to",
    "s": "subject",
    "t": "to",
    "u": "allow-events",
    "v": "via",
    "x": "session-expires",
    "y": "identity",
}
# Of these there is one. Of two, the library takes the last of some and the first of others.
_ONCE = frozenset(
    [
        "to",
        "from",
        "call-id",
        "cseq",
        "max-forwards",
        "content-length",
        "content-type",
        "content-encoding",
        "content-disposition",
        "mime-version",
        "expires",
        "min-expires",
        "session-expires",
        "min-se",
        "retry-after",
        "rack",
        "rseq",
        "event",
        "subscription-state",
        "refer-to",
        "referred-by",
        "refer-sub",
        "replaces",
        "join",
        "target-dialog",
        "user-agent",
    ]
)
_REQUIRED = ("via", "from", "to", "call-id", "cseq")
_LARGEST_CSEQ = 2**31 - 1

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_REQUEST_LINE = re.compile(rf"({TOKEN}) ([A-Za-z][A-Za-z0-9+.-]*:[!#-;=?-Z\[\]_a-z~]+) SIP/2\.0")
_STATUS_LINE = re.compile(r"SIP/2\.0 ([1-6][0-9][0-9])(?: (.*))?")
_OTHER_VERSION = re.compile(rf"{TOKEN} [^ ]+ SIP/[0-9]+\.[0-9]+", re.IGNORECASE)
_NAME = re.compile(TOKEN)

# Possessive quantifiers keep what was matched, so whatever is sent, a match goes once from left to right. They stand
# behind single characters alone: behind groups CPython before 3.11.5 matches wrongly (its issue 106052).
QUOTED = r'"[^"\\]*+(?:\\.[^"\\]*+)*"'
# RFC 3261 section 25.1: generic-param.
_PARAMETERS = rf"(?:[ \t]*+;[ \t]*+{TOKEN}+(?:[ \t]*+=[ \t]*+(?:{TOKEN}+|{QUOTED})?)?)*"
_PLAIN_PARAMETERS = rf"(?:[ \t]*+;[ \t]*+{TOKEN}+(?:[ \t]*+=[ \t]*+(?:{TOKEN}+)?)?)*"
_URI = r"[!#-;=?-Z\[\]_a-z~]++"
_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]*+:"
# A display name without quotes may hold more than RFC 3261 has, but nothing that could end it. Without brackets the
# parameters are the header's; of schemes other than these the library takes them for the URI's, and it looks for the
# user's "@" in their values too.
_NAMED = rf'(?:{QUOTED}[ \t]*+|[^"<>:;\\]*+)<{_SCHEME}{_URI}>'
_BARE = r"(?:sips?:(?:[!#-+\--;=?A-Z_a-z~]++@)?[A-Za-z0-9._-]++(?::[0-9]++)?|tel:[0-9A-Fa-f+*#().-]++)"
_ADDRESS = re.compile(rf"{_NAMED}({_PARAMETERS})[ \t]*+|{_BARE}({_PLAIN_PARAMETERS})[ \t]*+", re.IGNORECASE)
_ELEMENT = rf'(?:(?:{QUOTED}[ \t]*+|[^"<>:;,\\]*+)<{_SCHEME}{_URI}>{_PARAMETERS}|{_BARE}{_PLAIN_PARAMETERS})'
_HOP = (
    rf"SIP[ \t]*+/[ \t]*+2\.0[ \t]*+/[ \t]*+{TOKEN}+[ \t]++(?:[A-Za-z0-9._-]++|\[[0-9A-Fa-f:.]++\])"
    rf"(?:[ \t]*+:[ \t]*+[0-9]{{1,5}}+)?"
    rf"((?:[ \t]*+;[ \t]*+{TOKEN}+(?:[ \t]*+=[ \t]*+(?:[A-Za-z0-9\-.!%*_+`'~\[\]:]++|{QUOTED})?)?)*)[ \t]*+"
)
_TAG = re.compile(r";[ \t]*+tag[ \t]*+(?:=[ \t]*+([^;]*+))?(?=;|$)", re.IGNORECASE)
_VIA = re.compile(rf"{_HOP}(?:,[ \t]*+{_HOP})*", re.IGNORECASE)
_BRANCH = re.compile(r";[ \t]*+branch[ \t]*+(?:=[ \t]*+([^;]*+))?(?=;|$)", re.IGNORECASE)
_MADDR = re.compile(r";[ \t]*+maddr[ \t]*+(?:=|;|$)", re.IGNORECASE)
_IN_QUOTES = re.compile(QUOTED)
_CALL_ID = re.compile(r"""[A-Za-z0-9\-.!%*_+`'~()<>:\\"/\[\]?{}=@]++""")  # RFC 3261 has no "="; base64 does
_CSEQ = re.compile(rf"([0-9]{{1,10}})[ \t]+({TOKEN})")
_NUMBER = re.compile(r"[0-9]{1,9}")
_SECONDS = re.compile(r"[0-9]{1,10}")
_SECONDS_OF = re.compile(rf"[0-9]{{1,10}}{_PARAMETERS}[ \t]*+")
_ADDRESSES = re.compile(rf"{_ELEMENT}[ \t]*+(?:,[ \t]*+{_ELEMENT}[ \t]*+)*", re.IGNORECASE)
_CHALLENGE = re.compile(rf'{TOKEN}[ \t]+(?:[^"&]++|{QUOTED})+')
# What the library takes apart: it ends each of these at an "&" too, and reads another header behind it.
_FORMS = {
    "contact": re.compile(rf"\*|{_ADDRESSES.pattern}", re.IGNORECASE),
    "route": _ADDRESSES,
    "record-route": _ADDRESSES,
    "via": _VIA,
    "content-type": re.compile(rf"{TOKEN}[ \t]*+/[ \t]*+{TOKEN}{_PARAMETERS}[ \t]*+"),
    "expires": _SECONDS,
    "min-expires": _SECONDS,
    "session-expires": _SECONDS_OF,
    "min-se": _SECONDS_OF,
    "retry-after": re.compile(rf"[0-9]{{1,10}}(?:[ \t]*+\([^()&]*+\))?{_PARAMETERS}[ \t]*+"),
    "event": re.compile(rf"{TOKEN}{_PARAMETERS}[ \t]*+"),
    "subscription-state": re.compile(rf"{TOKEN}{_PARAMETERS}[ \t]*+"),
    "replaces": re.compile(rf"[^\s;,&]++{_PARAMETERS}[ \t]*+"),
    "authorization": _CHALLENGE,
    "proxy-authorization": _CHALLENGE,
    "www-authenticate": _CHALLENGE,
    "proxy-authenticate": _CHALLENGE,
}


class Malformed(ValueError):
    """
    A message that is not taken.

    Attributes:
        code: the SIP status to answer a request with; 400, or 505 for another version of SIP.
        reason: its phrase, which names what is wrong.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Message:
    """
    A SIP message, taken whole.

    Attributes:
        method: of a request, as it is written: methods are case-sensitive; of a response, an empty string.
        uri: the Request-URI; of a response, an empty string.
        code: status of a response; 0 of a request.
        reason: its phrase.
        headers: name, long and in lower case, and value, unfolded and without blanks around it, in order.
        body: everything behind the empty line, as the library would take it.
        call_id: Call-ID.
        from_tag: empty where there is none.
        to_tag: empty where there is none.
        cseq: number in CSeq.
        cseq_method: method in CSeq; a request's own.
        branch: of the topmost Via; empty where there is none (RFC 2543).
    """

    method: str
    uri: str
    code: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: str
    call_id: str
    from_tag: str
    to_tag: str
    cseq: int
    cseq_method: str
    branch: str

    @property
    def is_request(self) -> bool:
        """Whether it is a request."""
        return not self.code

    def all(self, name: str) -> list[str]:
        """Return the value of each line of a header; ``name`` in lower case."""
        return [value for key, value in self.headers if key == name]

    def first(self, name: str) -> str:
        """Return the first line of a header, or an empty string."""
        return next((value for key, value in self.headers if key == name), "")

    def values(self, name: str) -> list[str]:
        """Return the elements of a list header over all its lines; commas in quotes and brackets divide nothing."""
        return [part for value in self.all(name) for part in split_list(value)]

    def joined(self) -> Mapping[str, str]:
        """Return name -> the lines of that header with commas between (RFC 3261 section 7.3.1), fit for every store."""
        found: dict[str, str] = {}
        for name, value in self.headers:
            found[name] = f"{found[name]}, {value}" if name in found else value
        return MappingProxyType({clean(name): clean(value) for name, value in found.items()})


def parse_message(text: str) -> Message:
    """
    Return a SIP message (RFC 3261 section 7).

    Args:
        text: the whole of it; bytes that are no UTF-8 as surrogates.

    Raises:
        Malformed: it is not well-formed, or the library might take it in another way.
    """
    head, end, body = text.partition("\r\n\r\n")
    if not end:
        raise Malformed(400, "Headers Without End")
    lines = _lines(head)
    method, uri, code, reason = _start(lines[0])
    headers = _headers(lines)
    found = dict(reversed(headers))
    for name in _REQUIRED:
        if not found.get(name):
            raise Malformed(400, f"{_title(name)} Missing")
    cseq = _CSEQ.fullmatch(found["cseq"])
    if cseq is None or int(cseq[1]) > _LARGEST_CSEQ or (method and cseq[2] != method):
        raise Malformed(400, "Bad CSeq")
    if _CALL_ID.fullmatch(found["call-id"]) is None:
        raise Malformed(400, "Bad Call-ID")
    hops = found.get("max-forwards", "0")
    if _NUMBER.fullmatch(hops) is None or int(hops) > 255:  # RFC 3261 section 20.22
        raise Malformed(400, "Bad Max-Forwards")
    _check_body(found, body)
    return Message(
        *(method, uri, code, reason, tuple(headers), body, found["call-id"]),
        *(_tag("From", found["from"]), _tag("To", found["to"]), int(cseq[1]), cseq[2], _branch(found["via"])),
    )


class MessageReader:
    """
    Parses each message that comes once, for all who ask what it says. No I/O; thread: sip.

    The screen reads a message before the library has it. The library works on one message at a time, and its callbacks
    about a message run while it does: they hand over the text again and get what the screen has read. The last message
    is kept, and found by its whole text. A retransmission, or a stranger's message with another call's Call-ID, tags
    and branch, is taken for it only where every character is the same, and then it says the same. For a text that is
    not the last one, reading it again is all that it costs. The body that the library gets instead (``bodies.py``)
    changes nothing here: the text that its callbacks hand over is the one that came.
    """

    def __init__(self) -> None:
        self._text = ""
        self._message: Message | None = None

    def read(self, text: str) -> Message:
        """
        Return what a message says.

        Raises:
            Malformed: as ``parse_message``.
        """
        if self._message is None or text != self._text:
            self._message, self._text = parse_message(text), text
        return self._message

    def find(self, text: str) -> Message | None:
        """Return what a message says; None for no text, and for one that is malformed."""
        try:
            return self.read(text) if text else None
        except Malformed:
            return None


def clean(text: str) -> str:
    """Return text that every store takes: undecodable bytes and control characters are replaced."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "\ufffd" for char in text)  # no surrogate is printable


def _lines(head: str) -> list[str]:
    """Cut the head into its lines, unfolded; the end of a line is CR LF and nothing else."""
    ends = head.count("\r\n")
    if head.count("\n") != ends or head.count("\r") != ends:
        raise Malformed(400, "Bad Line End")
    if _CONTROL.search(head):
        raise Malformed(400, "Control Character")
    if "\r\n " not in head and "\r\n\t" not in head:
        return head.split("\r\n")
    lines: list[str] = []
    for line in head.split("\r\n"):
        if not line.startswith((" ", "\t")):
            lines.append(line)
        elif len(lines) < 2 or not (more := line.strip(" \t")):
            raise Malformed(400, "Bad Folding")
        else:
            lines[-1] = f"{lines[-1]} {more}" if not lines[-1].endswith((" ", "\t")) else lines[-1] + more
    return lines


def _start(line: str) -> tuple[str, str, int, str]:
    found = _REQUEST_LINE.fullmatch(line)
    if found is not None:
        return found[1], found[2], 0, ""
    found = _STATUS_LINE.fullmatch(line)
    if found is not None:
        return "", "", int(found[1]), found[2] or ""
    if _OTHER_VERSION.fullmatch(line) and not line.upper().endswith(" SIP/2.0"):
        raise Malformed(505, "Version Not Supported")
    raise Malformed(400, "Bad Request-Line")


def _headers(lines: list[str]) -> list[tuple[str, str]]:
    headers: list[tuple[str, str]] = []
    once: set[str] = set()
    for line in lines[1:]:
        written, colon, value = line.partition(":")
        name = _KNOWN_NAMES.get(written) or _long_name(written)
        if not colon:
            raise Malformed(400, "Line Without Colon")
        if name in _ONCE:
            if name in once:
                raise Malformed(400, f"Two {written.strip()} Headers")
            once.add(name)
            if name == "call-id" and value.endswith((" ", "\t")):
                raise Malformed(400, "Bad Call-ID")  # to the library the blanks are part of it
        value = value.strip(" \t")
        form = _FORMS.get(name)
        if form is not None and form.fullmatch(value) is None:
            raise Malformed(400, f"Bad {_title(name)}" if value else f"{_title(name)} Missing")
        headers.append((name, value))
    return headers


def _title(name: str) -> str:
    """Return a header's name as it is usually written."""
    return _TITLES.get(name) or name.title()


_TITLES = {"call-id": "Call-ID", "cseq": "CSeq", "www-authenticate": "WWW-Authenticate", "min-se": "Min-SE"}


def _long_name(written: str) -> str:
    name = written.rstrip(" \t")
    if _NAME.fullmatch(name) is None:
        raise Malformed(400, "Bad Header Name")
    name = name.lower()
    return _COMPACT.get(name, name)


_KNOWN_NAMES = {
    spelling: name
    for name in (*_ONCE, "via", "contact", "allow", "supported", "require", "record-route", "route", "accept")
    for spelling in (name, name.title(), _title(name))
} | {spelling: name for short, name in _COMPACT.items() for spelling in (short, short.upper())}
"""Spellings that most messages have, read without a look at each character."""


def _check_body(found: dict[str, str], body: str) -> None:
    """Check that the body is as long as it says, and says what it is."""
    kind, length = found.get("content-type"), found.get("content-length")
    if length is not None:
        if _NUMBER.fullmatch(length) is None:
            raise Malformed(400, "Bad Content-Length")
        size = int(length)
        data = body if body.isascii() else body.encode("utf-8", "surrogateescape")
        # Of a datagram the library takes what stands behind the body for a part of it; line ends do no harm.
        if len(data) < size or (len(data) > size and data[size:].strip()):
            raise Malformed(400, "Content-Length Does Not Match")
    if kind is None and body.strip():
        raise Malformed(400, "Content-Type Missing")


def _tag(name: str, value: str) -> str:
    """Return the tag of a To or From value (RFC 3261 section 20.10): a parameter of the header, and the only one."""
    found = _ADDRESS.fullmatch(value)
    if found is None:
        raise Malformed(400, f"Bad {name}")
    return _only(_TAG, found[1] or found[2], f"Bad Tag in {name}")


def _branch(via: str) -> str:
    found = _VIA.match(via)
    parameters = found[1] if found is not None else ""
    if _MADDR.search(parameters):
        raise Malformed(400, "Via With maddr")  # the library would send its answer there
    return _only(_BRANCH, parameters, "Bad Branch in Via")


def _only(parameter: re.Pattern[str], parameters: str, wrong: str) -> str:
    """Return the value of a parameter, a token; an empty string where there is none."""
    if not parameters:
        return ""
    if '"' in parameters:
        parameters = _IN_QUOTES.sub('"', parameters)
    values = parameter.findall(parameters)
    if not values:
        return ""
    value = str(values[0]).rstrip(" \t")
    if len(values) > 1 or _NAME.fullmatch(value) is None:
        raise Malformed(400, wrong)
    return value
