"""A call's SIP messages as a ladder that people read, and as a capture that Wireshark opens. No I/O."""

from __future__ import annotations

import ipaddress
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

GATEWAY = "gateway"
_SPAN = 44  # characters from one line of the ladder to the next
_MOST_PEERS = 4
_LINKTYPE_RAW = 101  # packets begin with their IP header
_MOST_PAYLOAD = 60000
_UDP = 17
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_CREDENTIALS = re.compile(
    r"^((?:Proxy-)?(?:Authorization|Authenticate|Authentication-Info)|WWW-Authenticate)"
    r"([ \t]*:)([^\r\n]*(?:\r?\n[ \t][^\r\n]*)*)",
    re.IGNORECASE | re.MULTILINE,
)
_SECRET_PARTS = re.compile(
    r'\b(response|nonce|cnonce|nextnonce|rspauth|opaque)(\s*=\s*)("(?:[^"\\]|\\.)*"|[^\s,"]+)', re.IGNORECASE
)
_OTHER_SCHEME = re.compile(r"^(\s*(?!digest\b)\S+\s+)(.*)$", re.IGNORECASE | re.DOTALL)
_KEYS = (
    re.compile(r"(a=crypto:[^\r\n]*?inline:)([^\r\n|; ]+)", re.IGNORECASE),
    re.compile(r"([\r\n]k=[a-z0-9]*:)([^\r\n]+)", re.IGNORECASE),
    re.compile(r"(a=ice-pwd:)([^\r\n]+)", re.IGNORECASE),
    re.compile(r"(sips?:[^\s@<>:;]*:)([^\s@<>]+)(?=@)", re.IGNORECASE),  # a password in a URI
)
_DIGITS_OF_INFO = re.compile(r"([\r\n]Signal[ \t]*=[ \t]*)([^\r\n]+)", re.IGNORECASE)
_DTMF_BODY = re.compile(
    r"^Content-Type[ \t]*:[ \t]*application/dtmf(-relay)?\b|^c[ \t]*:[ \t]*application/dtmf", re.I | re.M
)


@dataclass(frozen=True, slots=True)
class TracedMessage:
    """
    A SIP message as it went by.

    Attributes:
        at: Unix seconds.
        sent: by us.
        peer: ``address:port`` of the other side.
        text: all of it.
    """

    at: float
    sent: bool
    peer: str
    text: str


def masked(text: str) -> str:
    """
    Return a message with secrets masked: digests, SRTP keys, passwords, DTMF digits of INFO.

    Each secret is replaced by as many asterisks, so lengths stay true.
    """
    text = _CREDENTIALS.sub(_mask_header, text)
    for pattern in _KEYS:
        text = pattern.sub(_mask_second, text)
    if text.startswith("INFO ") and _DTMF_BODY.search(text):
        head, blank, body = text.partition("\r\n\r\n")
        if "signal" in body.lower():
            text = head + blank + _DIGITS_OF_INFO.sub(_mask_second, "\n" + body)[1:]
        else:
            text = head + blank + re.sub(r"[^\r\n]", "*", body)
    return text


def _mask_header(found: re.Match[str]) -> str:
    name, colon, value = found.groups()
    value = _OTHER_SCHEME.sub(_mask_second, value)
    value = _SECRET_PARTS.sub(lambda part: part[1] + part[2] + _stars(part[3]), value)
    return name + colon + value


def _mask_second(found: re.Match[str]) -> str:
    return found[1] + _stars(found[2])


def _stars(text: str) -> str:
    if text.startswith('"'):
        return '"' + "*" * (len(text) - 2) + '"'
    return re.sub(r"[^\r\n]", "*", text)


def draw(call_id: str, messages: Sequence[TracedMessage], *, left_out: int = 0) -> str:
    """
    Return the ladder of a call, with the whole messages below it.

    Args:
        call_id: the SIP Call-ID.
        messages: in the order they went by; at least one.
        left_out: how many of the middle were not kept.
    """
    begin = messages[0].at
    peers = list(dict.fromkeys(message.peer for message in messages))
    columns = {peer: min(place, _MOST_PEERS) for place, peer in enumerate(peers, 1)}
    width = max(columns.values())
    lines = [
        f"SIP trace of {_plain(call_id)}",
        f"began {_stamp(begin, '%Y-%m-%d %H:%M:%S')} UTC, {len(messages)} messages, {messages[-1].at - begin:.3f} s",
        *([f"{left_out} messages in the middle were not kept"] if left_out else []),
        "",
        " " * 27 + "".join(name.ljust(_SPAN) for name in (GATEWAY, *peers[:_MOST_PEERS])).rstrip(),
    ]
    for number, message in enumerate(messages, 1):
        times = f"{number:>4} {message.at - begin:>8.3f} {_stamp(message.at, '%H:%M:%S')}"
        lines.append(f"{times} {_arrow(message, columns[message.peer], width)}")
    for number, message in enumerate(messages, 1):
        direction = f"{GATEWAY} -> {message.peer}" if message.sent else f"{message.peer} -> {GATEWAY}"
        lines += ["", f"=== {number}  {_stamp(message.at, '%H:%M:%S')}  {direction}", ""]
        lines += [_plain(line) for line in masked(message.text).replace("\r\n", "\n").rstrip("\n").split("\n")]
    return "\n".join(lines) + "\n"


def _arrow(message: TracedMessage, column: int, width: int) -> str:
    label = f" {_summary(message.text)} "
    room = column * _SPAN - 2
    label = label if len(label) <= room - 2 else label[: room - 5] + ".. "
    body = f"{label.center(room, '-')}>" if message.sent else f"<{label.center(room, '-')}"
    line = f"|{body}|"
    rest = "".join("|".rjust(_SPAN) for _ in range(width - column))
    return line + rest


def _summary(text: str) -> str:
    """Return the first line in short, and whether there is SDP: ``INVITE (SDP)``, ``200 OK to INVITE (SDP)``."""
    head = text.split("\n", 1)[0].split()
    what = " ".join(head[1:]) if head and head[0].upper().startswith("SIP/") else head[0] if head else "?"
    if head and head[0].upper().startswith("SIP/"):
        method = re.search(r"^CSeq[ \t]*:[ \t]*\d+[ \t]+(\S+)", text, re.IGNORECASE | re.MULTILINE)
        what += f" to {method[1]}" if method else ""
    return _plain(what)[:60] + (" (SDP)" if re.search(r"[\r\n]m=audio ", text) else "")


def _stamp(at: float, form: str) -> str:
    moment = datetime.fromtimestamp(at, UTC)
    return f"{moment.strftime(form)}.{moment.microsecond // 1000:03d}"


def _plain(text: str) -> str:
    """Return text that a terminal takes: what is not printable is shown as U+FFFD."""
    readable = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace").replace("\t", " ")
    return "".join(char if char.isprintable() else "\ufffd" for char in readable.rstrip("\r"))


def capture(local: tuple[str, int], messages: Sequence[TracedMessage]) -> bytes:
    """
    Return the messages as a pcap file: IP and UDP, whatever they really came over, with secrets masked.

    Where the peer is known by an IPv6 address, ours is written as an IPv4-mapped one.

    Args:
        local: our address and port.
        messages: in the order they went by.
    """
    # https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-03.html
    out = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, _LINKTYPE_RAW)]
    for number, message in enumerate(messages):
        peer = _address(message.peer)
        source, target = (local, peer) if message.sent else (peer, local)
        packet = _packet(number, source, target, masked(message.text).encode("utf-8", "surrogateescape"))
        seconds, rest = divmod(round(message.at * 1_000_000), 1_000_000)
        out.append(struct.pack("<IIII", seconds, rest, len(packet), len(packet)) + packet)
    return b"".join(out)


def _packet(number: int, source: tuple[str, int], target: tuple[str, int], payload: bytes) -> bytes:
    payload = payload[:_MOST_PAYLOAD]
    addresses = [ipaddress.ip_address(host) for host, _ in (source, target)]
    if all(address.version == 4 for address in addresses):
        return _ipv4_packet(number, addresses, _datagram(source[1], target[1], payload))
    wide = [address if address.version == 6 else ipaddress.ip_address(f"::ffff:{address}") for address in addresses]
    both = b"".join(address.packed for address in wide)
    datagram = _datagram(source[1], target[1], payload)
    # Over IPv6 the checksum must be there (RFC 8200 section 8.1).
    pseudo = both + struct.pack("!II", len(datagram), _UDP) + datagram + b"\0" * (len(datagram) % 2)
    datagram = datagram[:6] + struct.pack("!H", _checksum(pseudo) or 0xFFFF) + datagram[8:]
    return struct.pack("!IHBB", 0x60000000, len(datagram), _UDP, 64) + both + datagram


def _datagram(source_port: int, target_port: int, payload: bytes) -> bytes:
    # A UDP checksum of zero says that there is none (RFC 768).
    return struct.pack("!HHHH", source_port, target_port, 8 + len(payload), 0) + payload


def _ipv4_packet(number: int, addresses: Sequence[_Address], datagram: bytes) -> bytes:
    length = 20 + len(datagram)
    header = struct.pack("!BBHHHBBH", 0x45, 0, length, number & 0xFFFF, 0, 64, _UDP, 0)
    header += b"".join(address.packed for address in addresses)
    return header[:10] + struct.pack("!H", _checksum(header)) + header[12:] + datagram


def _checksum(header: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(header) // 2}H", header))
    total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - ((total + (total >> 16)) & 0xFFFF)


def _address(peer: str) -> tuple[str, int]:
    host, _, port = peer.rpartition(":")
    try:
        return str(ipaddress.ip_address(host.strip("[]"))), int(port) & 0xFFFF
    except ValueError:
        return "0.0.0.0", 0
