"""What is answered to INFO and NOTIFY inside a call about other things than we do; the library says 500. No I/O."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.sip.core.dtmf import KEY_TYPES
from gateway.sip.core.message import Message
from gateway.sip.core.refer import is_of_a_transfer


@dataclass(frozen=True, slots=True)
class Answer:
    """A final response: its status and more headers, name and value."""

    code: int
    headers: tuple[tuple[str, str], ...] = ()


_OK = Answer(200)
_UNKNOWN_PACKAGE = Answer(469, (("Recv-Info", ""),))  # RFC 6086 section 4.2.2: this is how one says "none"
_UNKNOWN_TYPE = Answer(415, (("Accept", ", ".join(KEY_TYPES)),))  # RFC 3261 section 21.4.13
_NO_SUBSCRIPTION = Answer(481)  # RFC 6665 section 4.1.3
_BAD_EVENT = Answer(489, (("Allow-Events", "refer"),))  # RFC 6665 section 8.3.2


def answer_to(request: Message, *, referred: bool = False) -> Answer | None:
    """
    Return what an INFO or NOTIFY inside a call is answered with; None leaves it to the library.

    Args:
        request: an INFO that tells no key, or a NOTIFY.
        referred: NOTIFYs about a transfer are expected here.
    """
    if request.method == "INFO":
        return _to_info(request)
    if not is_of_a_transfer(request):
        return _BAD_EVENT
    return None if referred else _NO_SUBSCRIPTION


def _to_info(message: Message) -> Answer:
    if message.first("info-package"):
        return _UNKNOWN_PACKAGE
    return _UNKNOWN_TYPE if message.body.strip() else _OK  # an empty one is a keep-alive (RFC 2976 section 2.2)
