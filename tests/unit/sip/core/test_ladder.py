"""What a trace looks like, and what it does not tell."""

from __future__ import annotations

import struct

import pytest

from gateway.sip.core.ladder import TracedMessage, capture, draw, masked

pytestmark = pytest.mark.unit

BEGIN = 1_700_000_000.25
INVITE = "INVITE sip:1@192.0.2.1 SIP/2.0\r\nCSeq: 1 INVITE\r\n\r\nv=0\r\nm=audio 7000 RTP/AVP 0\r\n"
OK = "SIP/2.0 200 OK\r\nCSeq: 1 INVITE\r\n\r\n"
FAR, NEAR = "198.51.100.7:5060", "203.0.113.5:5070"


def test_a_ladder_shows_who_when_and_what_and_then_everything() -> None:
    messages = [
        TracedMessage(BEGIN, False, FAR, INVITE),
        TracedMessage(BEGIN + 0.5, True, FAR, OK),
        TracedMessage(BEGIN + 1, True, NEAR, OK),
    ]
    lines = draw("abc", messages, left_out=3).splitlines()
    assert lines[0] == "SIP trace of abc"
    assert lines[1] == "began 2023-11-14 22:13:20.250 UTC, 3 messages, 1.000 s"
    assert lines[2] == "3 messages in the middle were not kept"
    assert lines[4].split() == ["gateway", FAR, NEAR]
    received, sent, second = lines[5:8]
    assert received.startswith("   1    0.000 22:13:20.250 |<---")
    assert " INVITE (SDP) " in received
    assert sent.startswith("   2    0.500 22:13:20.750 |---")
    assert "- 200 OK to INVITE -" in sent
    assert received.index("|", 30) == sent.index("|", 30) == lines[4].index(FAR)
    assert sent[sent.index("|", 30) - 1] == ">"
    assert second.rindex("|") == lines[4].index(NEAR) == received.rindex("|")
    assert f"=== 2  22:13:20.750  gateway -> {FAR}" in lines
    assert f"=== 1  22:13:20.250  {FAR} -> gateway" in lines
    assert "m=audio 7000 RTP/AVP 0" in lines


def test_a_hostile_message_cannot_write_to_the_terminal_or_break_the_ladder() -> None:
    text = "INV\x1b[2JITE " + "x" * 5000 + "\r\nX: \x07\udcff\r\n\r\n"
    drawn = draw("a\x1bb", [TracedMessage(BEGIN, False, "nonsense", text), TracedMessage(BEGIN, False, "", "")])
    assert "\x1b" not in drawn
    assert "\x07" not in drawn
    drawn.encode("utf-8")


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ('INVITE x\r\nAuthorization: Digest username="u", response="SECRET", uri="sip:a"\r\n\r\n', "SECRET"),
        ('INVITE x\r\nproxy-authorization : Digest nonce="SECRET",\r\n response=SECRET\r\n\r\n', "SECRET"),
        ('SIP/2.0 401 No\r\nWWW-Authenticate: Digest realm="r", nonce="SECRET"\r\n\r\n', "SECRET"),
        ("INVITE x\r\nAuthorization: Bearer SECRET\r\n\r\n", "SECRET"),
        ("INVITE x\r\n\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:SECRET|2^20\r\n", "SECRET"),
        ("INVITE x\r\n\r\nv=0\r\nk=base64:SECRET\r\n", "SECRET"),
        ("INVITE sip:u:SECRET@h SIP/2.0\r\n\r\n", "SECRET"),
        ("INFO x\r\nContent-Type: application/dtmf-relay\r\n\r\nSignal=7\r\nDuration=160\r\n", "7"),
        ("INFO x\r\nContent-Type: application/dtmf\r\n\r\n7", "7"),
        ("INFO x\r\nc: application/dtmf\r\n\r\nSignal = 7\r\n", "7"),
    ],
)
def test_secrets_are_masked_and_lengths_kept(text: str, secret: str) -> None:
    shown = masked(text)
    assert secret not in shown
    assert "*" in shown
    assert len(shown) == len(text)
    assert shown.count("\r\n") == text.count("\r\n")


def test_what_is_no_secret_stays() -> None:
    text = 'INVITE x\r\nAuthorization: Digest username="u", realm="r", uri="sip:a", response="S"\r\n\r\n'
    text += "a=crypto:1 AES inline:K\r\n"
    shown = masked(text)
    for part in ('username="u"', 'realm="r"', 'uri="sip:a"', "a=crypto:1 AES inline:*"):
        assert part in shown
    assert masked(INVITE) == INVITE


def test_a_capture_has_a_packet_with_the_right_addresses_for_each_message() -> None:
    messages = [TracedMessage(BEGIN, False, FAR, INVITE), TracedMessage(BEGIN + 0.5, True, "nonsense", OK * 5000)]
    data = capture(("192.0.2.1", 5060), messages)
    assert struct.unpack("<IHHiIII", data[:24]) == (0xA1B2C3D4, 2, 4, 0, 0, 65535, 101)
    seconds, micros, kept, whole = struct.unpack("<IIII", data[24:40])
    assert (seconds, micros, kept) == (1_700_000_000, 250_000, whole)
    packet = data[40 : 40 + kept]
    assert packet[0] == 0x45
    assert struct.unpack("!H", packet[2:4])[0] == len(packet) == 28 + len(INVITE)
    assert sum(struct.unpack("!10H", packet[:20])) % 0xFFFF == 0  # RFC 1071: with its checksum the sum is all ones
    assert packet[12:20] == bytes([198, 51, 100, 7, 192, 0, 2, 1])
    assert struct.unpack("!HHH", packet[20:26]) == (5060, 5060, 8 + len(INVITE))
    assert packet[28:].decode() == INVITE
    second = data[40 + kept :]
    assert struct.unpack("<I", second[8:12])[0] == 60028 == len(second) - 16


def test_a_peer_behind_an_edge_may_have_an_ipv6_address() -> None:
    data = capture(("127.0.0.1", 5070), [TracedMessage(BEGIN, False, "[2001:db8::7]:5061", INVITE)])
    packet = data[40:]
    assert packet[0] == 0x60
    length, kind = struct.unpack("!HB", packet[4:7])
    assert (length, kind) == (8 + len(INVITE), 17)
    assert packet[8:24] == bytes.fromhex("20010db8000000000000000000000007")
    assert packet[24:40] == bytes(10) + b"\xff\xff" + bytes([127, 0, 0, 1])
    assert struct.unpack("!HHH", packet[40:46]) == (5061, 5070, length)
    pseudo = packet[8:40] + struct.pack("!II", length, 17) + packet[40:] + bytes(length % 2)
    assert sum(struct.unpack(f"!{len(pseudo) // 2}H", pseudo)) % 0xFFFF == 0
