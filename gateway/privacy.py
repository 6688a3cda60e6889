"""
Numbers and names of people, shortened where they are written down.

Theory of operation
-------------------
A telephone number keeps its country and area digits and loses its last four (``+493012345678`` becomes
``+49301234****``), or loses them all; a SIP user that is no number keeps its first letter, or nothing. What replaces a
character is an asterisk, always one for one, so lengths stay true (a capture keeps its Content-Length), and equal
numbers stay equal. Text that was shortened stays as it is when it is shortened again.

``Shortener`` does so in four kinds of text:

- ``party``: a number, a name or a SIP URI alone, as in ``caller`` and ``from_uri``;
- ``text``: anything else: users of SIP and tel URIs, and seven digits or more, separators between them or not, unless
  they are part of a longer word or an IP address;
- ``fields``: what a call writes down, whose names say which of the two each field is, with everything that is known of
  the call's parties found in the rest;
- ``message``: a SIP message, also with display names, and bodies but for the media of SDP.

What it cannot find: numbers spelled out in words, names of people in a transcript, anything that is heard.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal, TypeVar

PrivacyMode = Literal["full", "shortened", "counts"]

LOST_DIGITS = 4
"""The digits at the end of a number that are not kept."""
KNOWN_LETTERS = 4
"""A party's name that is shorter than this is not looked for in other text: it may be part of any word."""

_NUMBER = re.compile(r"\+?[0-9*#()./ -]*[0-9][0-9*#()./ -]*")
_SHORTENED = re.compile(r".*(?:\*[^\w*]*){4}|\w?[^\w]*", re.DOTALL)
_DIGITS = re.compile(
    r"(?<![\w*])(?<!tag=)(?<!branch=)\+?\(?\d(?:[ ()./-]{0,2}\d){6,}(?!\w)(?![ ()./-]{0,2}[\d*])", re.IGNORECASE
)
_IPV4 = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])")
_SIP_USER = re.compile(r"(\bsips?:)([^\s@<>\"',]+)(?=@)", re.IGNORECASE)
_TEL_USER = re.compile(r"(\btel:)([^\s;<>\"',?]+)", re.IGNORECASE)
_PARTIES = frozenset({"caller", "called", "caller_id", "from_uri", "to_uri", "target", "contacts"})
_OURS = frozenset(
    {
        *(
            "call_id",
            "worker",
            "route",
            "trunk",
            "agent",
            "agents",
            "dialplan",
            "state",
            "codec",
            "source",
            "transport",
        ),
        *(
            "upstream_session_id",
            "session_id",
            "item_id",
            "tool_call_id",
            "end_reason",
            "ended_by",
            "fault",
            "recording",
        ),
        *("announcement", "direction", "sound", "name", "server_label", "why"),
    }
)
"""Fields of names, ids and paths that the gateway or its operator made."""
_NOBODY = frozenset({"anonymous", "unavailable", "unknown"})
_TECHNICAL = re.compile(
    r"(?:via|v|cseq|content-length|l|max-forwards|session-expires|x|min-se|rack|rseq|expires|retry-after|date)[ \t]*:",
    re.IGNORECASE,
)
_QUOTED_NAME = re.compile(r'"((?:[^"\\]|\\.)*)"(?=\s*<(?:sips?|tel):)', re.IGNORECASE)
_BARE_NAME = re.compile(r"((?:^|[:,])[ \t]*)([^<\",:;@]+?)(?=[ \t]*<(?:sips?|tel):)", re.IGNORECASE | re.MULTILINE)
_SDP_PEOPLE = re.compile(r"^([sieup]=|o=)([^\r\n]*)", re.MULTILINE)

_Value = TypeVar("_Value", bound=str | int | float)


class Shortener:
    """
    Shortens what identifies people; the module says how.

    Args:
        keep: leave the digits before the last four, and a name's first letter; else nothing of them.
    """

    def __init__(self, *, keep: bool) -> None:
        self._keep = keep

    def party(self, party: str) -> str:
        """Return a number, a name, or SIP or tel URIs without who they stand for."""
        if "sip:" in party or "sips:" in party or "tel:" in party:
            return self.text(party)
        return self._word(party)

    def text(self, text: str, known: Iterable[str] = ()) -> str:
        """
        Return text without the numbers in it, and the users and display names of addresses.

        Args:
            text: any.
            known: other words that stand for people (``parties_in``, ``users_in``).
        """
        text = _QUOTED_NAME.sub(lambda found: f'"{_stars(found[1])}"', self._digits(self._users(text)))
        return self._without(known, text)

    def fields(self, fields: Mapping[str, _Value], known: Iterable[str] = ()) -> dict[str, _Value | str]:
        """
        Return what a call writes down without its people.

        Args:
            fields: by name.
            known: what stands for its parties (``parties_in``), to be found in any of them.
        """
        return {name: self._field(name, value, known) for name, value in fields.items()}

    def message(self, text: str) -> str:
        """Return a SIP message of the same length without its people."""
        head, blank, body = text.partition("\r\n\r\n")
        users = users_in(head)
        lines = [
            line if _TECHNICAL.match(line) else self._without(users, self._digits(line))
            for line in self._users(head).split("\r\n")
        ]
        head = _BARE_NAME.sub(lambda found: found[1] + _stars(found[2]), "\r\n".join(lines))
        head = _QUOTED_NAME.sub(lambda found: f'"{_stars(found[1])}"', head)
        return head + blank + self._body(body)

    def _field(self, name: str, value: _Value, known: Iterable[str]) -> _Value | str:
        if not isinstance(value, str) or name in _OURS:
            return value
        if name in _PARTIES:
            return self.party(value)
        return self.text(value, known)

    def _without(self, known: Iterable[str], text: str) -> str:
        for word in sorted(known, key=len, reverse=True):
            whole = rf"(?<!\w){re.escape(word)}(?!\w)"
            text = re.sub(whole, lambda found: self._word(found[0]), text, flags=re.IGNORECASE)
        return text

    def _users(self, text: str) -> str:
        text = _SIP_USER.sub(lambda found: found[1] + self._user(found[2]), text)
        return _TEL_USER.sub(lambda found: found[1] + self._user(found[2]), text)

    def _user(self, user: str) -> str:
        """Return the user part of a URI, which may have parameters and a password."""
        name, rest = re.fullmatch(r"([^;:]*)(.*)", user, re.DOTALL).groups()  # type: ignore[union-attr]
        return self._word(name) + rest

    def _digits(self, text: str) -> str:
        addresses = [found.span() for found in _IPV4.finditer(text)]

        def one(found: re.Match[str]) -> str:
            inside = any(start < found.end() and found.start() < end for start, end in addresses)
            return found[0] if inside else self._word(found[0])

        return _DIGITS.sub(one, text)

    def _word(self, word: str) -> str:
        """Return a number or a name."""
        if word.lower() in _NOBODY or (_SHORTENED.fullmatch(word) and len(word) > 1):
            return word
        if not _NUMBER.fullmatch(word):
            return word[0] + "*" * (len(word) - 1) if self._keep and len(word) > 1 else "*" * len(word)
        lost = LOST_DIGITS if self._keep else len(word)
        letters = list(word)
        for place in reversed(range(len(letters))):
            if lost and letters[place].isdecimal():
                letters[place], lost = "*", lost - 1
        return "".join(letters)

    def _body(self, body: str) -> str:
        if body.startswith("v=0"):
            return _SDP_PEOPLE.sub(lambda found: found[1] + self._sdp(found[1], found[2]), body)
        return body if body.startswith("SIP/2.0 ") else _stars(body)  # of a NOTIFY: what became of a transfer

    def _sdp(self, kind: str, value: str) -> str:
        if kind != "o=":
            return value if value == "-" else _stars(value)
        user, blank, rest = value.partition(" ")
        return (user if user == "-" else _stars(user)) + blank + rest


def parties_in(fields: Mapping[str, str | int | float]) -> frozenset[str]:
    """Return what stands for people in the fields of a call: numbers and users, long enough to be looked for."""
    found: set[str] = set()
    for name in _PARTIES & fields.keys():
        value = str(fields[name])
        found.update(users_of(value) or [value])
    return _telling(found)


def users_in(text: str) -> frozenset[str]:
    """Return the users of the SIP and tel URIs in a text that are long enough to be looked for."""
    return _telling(users_of(text))


def users_of(text: str) -> list[str]:
    """Return the users of the SIP and tel URIs in a text."""
    return [found[2].partition(";")[0] for found in (*_SIP_USER.finditer(text), *_TEL_USER.finditer(text))]


def _telling(words: Iterable[str]) -> frozenset[str]:
    return frozenset(word for word in words if len(word) >= KNOWN_LETTERS and not _SHORTENED.fullmatch(word))


def shortener_for(mode: PrivacyMode) -> Shortener | None:
    """Return what shortens text in a mode of privacy; None where nothing is to be."""
    return None if mode == "full" else Shortener(keep=mode == "shortened")


def strictest(modes: Iterable[PrivacyMode]) -> PrivacyMode:
    """Return the one that keeps the least."""
    order: tuple[PrivacyMode, ...] = ("full", "shortened", "counts")
    return max(modes, key=order.index, default="full")


def _stars(text: str) -> str:
    return re.sub(r"[^\r\n]", "*", text)
