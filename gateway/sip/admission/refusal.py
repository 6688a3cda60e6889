"""
What is said to the sender of a request that the library never sees: one that is malformed, or was cut off. No I/O.

What can be read of it holds all that a response repeats (RFC 3261 section 8.2.6).
"""

from __future__ import annotations

import re
import secrets

from gateway.sip.core.message import TOKEN

_MOST_BYTES = 2000  # the answer is not much larger than what drew it
_REQUEST = re.compile(rf"({TOKEN}) [^\r\n]+ SIP/[0-9.]+[ \t]*$", re.MULTILINE)
_REPEATED = re.compile(r"^(via|v|from|f|to|t|call-id|i|cseq)[ \t]*:[^\n]*", re.IGNORECASE | re.MULTILINE)
_LONG = {"v": "via", "f": "from", "t": "to", "i": "call-id"}
_ORDER = ("via", "from", "to", "call-id", "cseq")
_FOLD = re.compile(r"[ \t]*\n[ \t]+")
_SENT_BY = re.compile(r"[^:]*:\s*SIP\s*/\s*2\.0\s*/\s*[A-Z]+\s+[A-Za-z0-9._-]+(?:\s*:\s*([0-9]{1,5}))?", re.IGNORECASE)
_RPORT = re.compile(r";\s*rport\b", re.IGNORECASE)
_TAG = re.compile(r";\s*tag\s*=", re.IGNORECASE)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")


def response_to(text: str, port: int, code: int, reason: str) -> tuple[bytes, int] | None:
    """
    Return the response to a request, and the port of its source that it goes to.

    Args:
        text: the request, as far as it was received.
        port: that it came from.
        code: the status.
        reason: its phrase.

    Returns:
        None where there is nothing to answer: no request, an ACK, no Via, headers that are too long to be repeated.
    """
    head = _FOLD.sub(" ", text.partition("\r\n\r\n")[0].replace("\r\n", "\n"))
    first = _REQUEST.match(head)
    if first is None or first[1] == "ACK":
        return None
    kept: dict[str, list[str]] = {name: [] for name in _ORDER}
    for line in _REPEATED.finditer(head):
        name = line[1].lower()
        kept[_LONG.get(name, name)].append(_UNPRINTABLE.sub(" ", line[0]))
    if not kept["via"]:
        return None
    lines = [*kept["via"], *(kept[name][0] for name in _ORDER[1:] if kept[name])]
    if kept["to"] and _TAG.search(kept["to"][0]) is None:
        lines[lines.index(kept["to"][0])] += f";tag={secrets.token_hex(4)}"
    data = "\r\n".join((f"SIP/2.0 {code} {reason}", *lines, "Content-Length: 0", "", "")).encode(errors="replace")
    return (data, _port(kept["via"][0], port)) if len(data) <= _MOST_BYTES else None


def _port(via: str, port: int) -> int:
    """Return where on its own address the sender listens (RFC 3261 section 18.2.2, RFC 3581)."""
    topmost = via.partition(",")[0]
    if _RPORT.search(topmost):
        return port
    found = _SENT_BY.match(topmost)
    told = int(found[1]) if found and found[1] else 5060
    return told if 0 < told < 65536 else port
