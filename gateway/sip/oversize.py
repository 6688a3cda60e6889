"""
What is said to a sender whose request does not fit into the library's buffer of 4000 bytes: 513, instead of nothing.

What came of the request, its beginning, holds all that a response repeats (RFC 3261 section 8.2.6).
"""

from __future__ import annotations

import ipaddress
import re
import secrets

_MOST_ANSWERED_BYTES = 2000  # the answer is smaller than what drew it
_REPEATED = re.compile(rb"^(?:via|v|from|f|to|t|call-id|i|cseq)[ \t]*:[^\r\n]*(?:\r?\n[ \t][^\r\n]*)*\r?$", re.I | re.M)
_VIA = re.compile(rb"^(?:via|v)[ \t]*:\s*SIP\s*/\s*2\.0\s*/\s*UDP\s+([0-9.]+)(?:\s*:\s*([0-9]{1,5}))?", re.I | re.M)


def answer_to(data: bytes) -> tuple[bytes, str, int] | None:
    """
    Return the response to the beginning of a request over UDP, and the address and port it goes to.

    None where there is nothing to answer: no request, an ACK, no Via with an IPv4 address, headers without end.
    """
    head = data.partition(b"\r\n\r\n")[0]
    words = head.partition(b"\n")[0].split()
    via = _VIA.search(head)
    if len(words) != 3 or words[2] != b"SIP/2.0" or words[0] == b"ACK" or via is None:
        return None
    try:
        host = str(ipaddress.IPv4Address(via[1].decode()))
    except ValueError:
        return None
    port = int(via[2] or 5060)
    lines = [line.group().strip() for line in _REPEATED.finditer(head)]
    names = {line[:1].lower() for line in lines}
    if not 0 < port < 65536 or not {b"v", b"f", b"t", b"c"} <= names:
        return None
    tag = secrets.token_hex(4).encode()
    lines = [
        line + b";tag=" + tag if re.match(rb"t(o)?[ \t]*:", line, re.I) and b"tag=" not in line else line
        for line in lines
    ]
    response = b"\r\n".join((b"SIP/2.0 513 Message Too Large", *lines, b"Content-Length: 0", b"", b""))
    return (response, host, port) if len(response) <= _MOST_ANSWERED_BYTES else None
