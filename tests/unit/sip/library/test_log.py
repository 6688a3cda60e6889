"""What of the library's own log lines is written."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from gateway.sip.library.log import LineLimit, PjLog, first_line
from gateway.sip.library.pj import pj

pytestmark = pytest.mark.unit

PACKET = (
    "Error processing packet from 192.0.2.7:5060: Missing header (PJSIP_EMISSINGHDR) Call-ID [code 171050]:\n"
    "INVITE sip:1000@192.0.2.1 SIP/2.0\r\nContact: <sip:me:PASSW0RD@192.0.2.7>\r\n"
    "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:c2VjcmV0\r\n" + "x" * 4000 + "\n-- end of packet."
)


def test_of_a_packet_the_first_line_is_told_and_nothing_that_was_in_it() -> None:
    line = first_line(PACKET)
    assert line.startswith("Error processing packet from 192.0.2.7:5060: Missing header")
    assert "INVITE" not in line
    assert len(first_line("x" * 9000)) == 300
    assert first_line("Bad <sip:me:PASSW0RD@h> \x1b[31m\udc80") == "Bad <sip:me:********@h> \ufffd[31m\ufffd"


def test_lines_of_a_kind_are_counted_and_written_now_and_then() -> None:
    limit = LineLimit()
    lines = [f"Error processing packet from 192.0.2.{n}:5060: Missing header 'X{n}'" for n in range(100)]
    assert [limit.take(line, 1.0) for line in lines] == [1] + [0] * 99
    assert limit.take("another kind", 1.0) == 1
    assert limit.take(lines[0], 20.0) == 100
    for number in range(1000):
        limit.take("kind " + chr(0x4E00 + number), 20.0)
    assert len(limit._kinds) == 64


def entry(level: int, text: str) -> pj.LogEntry:
    made = pj.LogEntry()
    made.level, made.msg = level, text
    return made


def test_a_flood_of_packets_makes_one_short_line() -> None:
    writer = PjLog()
    with capture_logs() as logs:
        for _ in range(500):
            writer.write(entry(1, PACKET))
        writer.write(entry(4, "RX 10 bytes\nINVITE <sip:me:PASSW0RD@h>"))
    assert [len(str(line["event"])) < 400 for line in logs] == [True, True]
    assert "PASSW0RD" not in str(logs)
