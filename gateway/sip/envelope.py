"""What the screen reads of a SIP message: few fields, fast, from an untrusted sender. No I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.sip.invites import InviteKey

BUFFER_BYTES = 4000
"""What the library reads of a datagram (PJSIP_MAX_PKT_LEN)."""

_COMPACT = {"i": "call-id", "f": "from", "t": "to", "v": "via"}  # RFC 3261 section 7.3.3
_HEADERS = re.compile(
    r"^(call-id|i|from|f|to|t|via|v|cseq|user-agent|authorization|replaces)[ \t]*:[ \t]*([^\n]*(?:\n[ \t][^\n]*)*)",
    re.IGNORECASE | re.MULTILINE,
)
_TAG = re.compile(r";\s*tag\s*=\s*([^\s;,>]*)", re.IGNORECASE)
_BRANCH = re.compile(r";\s*branch\s*=\s*([^\s;,]*)", re.IGNORECASE)
_MAX_HEAD = 16000  # a message that reaches us has 4000 bytes over UDP; over TCP the library's limit is this
_MAX_CSEQ = 2**31


@dataclass(frozen=True, slots=True)
class Envelope:
    """
    A message, as far as it is read. What is missing is an empty string.

    Attributes:
        method: of a request, as it is written: methods are told apart by case.
        code: of a response; None for a request.
        replaces: the Call-ID that ``Replaces`` names.
    """

    method: str
    code: int | None
    call_id: str
    from_tag: str
    to_tag: str
    branch: str
    cseq: int
    cseq_method: str
    user_agent: str
    authorization: str
    replaces: str

    @property
    def invite_key(self) -> InviteKey:
        """What the INVITE of this transaction is known by."""
        return InviteKey(self.call_id, self.from_tag, self.cseq)


def read_envelope(text: str) -> Envelope:
    """Return what the screen needs of a message; of a header that comes twice, the first."""
    text = text[:_MAX_HEAD]
    head = text.partition("\r\n\r\n")[0].partition("\n\n")[0]
    first, _, rest = head.partition("\n")
    found: dict[str, str] = {}
    for name, value in _HEADERS.findall(rest):
        key = name.lower()
        found.setdefault(_COMPACT.get(key, key), value.strip())
    words = first.split()
    code = None
    if words and words[0].upper().startswith("SIP/"):
        code = int(words[1]) if len(words) > 1 and re.fullmatch(r"[1-6][0-9]{2}", words[1]) else 0
    number, _, cseq_method = found.get("cseq", "").partition(" ")
    return Envelope(
        method=words[0] if words and code is None else "",
        code=code,
        call_id=found.get("call-id", ""),
        from_tag=_parameter(_TAG, found.get("from", "")),
        to_tag=_parameter(_TAG, found.get("to", "")),
        branch=_parameter(_BRANCH, found.get("via", "").partition(",")[0]),
        cseq=int(number) if re.fullmatch(r"[0-9]{1,10}", number) and int(number) < _MAX_CSEQ else -1,
        cseq_method=cseq_method.strip(),
        user_agent=found.get("user-agent", ""),
        authorization=found.get("authorization", ""),
        replaces=found.get("replaces", "").partition(";")[0].strip(),
    )


def _parameter(pattern: re.Pattern[str], value: str) -> str:
    # The parameters of the header, not those of the address in its brackets.
    found = pattern.search(value.rpartition(">")[2])
    return found.group(1) if found else ""
