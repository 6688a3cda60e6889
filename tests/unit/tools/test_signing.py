from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from gateway.tools.signing import sign, verify

pytestmark = pytest.mark.unit

DOCS = Path(__file__).parents[3] / "docs" / "tools.md"
SECRET = SecretStr("a shared secret")
BODY = b'{"tool":"order"}'


def test_a_signed_body_is_verified() -> None:
    headers = sign(SECRET, BODY, timestamp=1_700_000_000)
    assert headers == {
        "Gateway-Timestamp": "1700000000",
        "Gateway-Signature": "v1=f14ca80765e017c8fe4deff3e314c2bc1683b01012e9adfa8b70b81e69ccea7c",
    }
    assert verify(SECRET, BODY, timestamp="1700000000", signature=headers["Gateway-Signature"], now=1_700_000_290.0)


@pytest.mark.parametrize(
    "change",
    [
        {"secret": SecretStr("another")},
        {"body": BODY + b" "},
        {"timestamp": "1700000001"},
        {"timestamp": "-1700000000"},
        {"timestamp": "9" * 5000},
        {"timestamp": "\u0661\u0667"},
        {"timestamp": ""},
        {"signature": "v1="},
        {"signature": "v1=\u00fc\ud800"},
        {"signature": ""},
        {"now": 1_700_000_301.0},
        {"now": 1_699_999_699.0},
    ],
)
def test_anything_changed_or_old_is_refused(change: dict[str, Any]) -> None:
    signature = sign(SECRET, BODY, timestamp=1_700_000_000)["Gateway-Signature"]
    given: dict[str, Any] = {
        "secret": SECRET,
        "body": BODY,
        "timestamp": "1700000000",
        "signature": signature,
        "now": 1_700_000_000.0,
    }
    assert verify(**given)
    given |= change
    assert not verify(**given)


def test_the_receiver_in_the_docs_accepts_our_signature_and_refuses_others(monkeypatch: pytest.MonkeyPatch) -> None:
    found = re.search(r"```python\n(import hashlib.*?)```", DOCS.read_text(), re.DOTALL)
    assert found
    room: dict[str, Any] = {}
    exec(found[1], room)
    monkeypatch.setattr(room["time"], "time", lambda: 1_700_000_100.0)
    headers = sign(SECRET, BODY, timestamp=1_700_000_000)
    assert room["is_from_the_gateway"](b"a shared secret", headers, BODY)
    assert not room["is_from_the_gateway"](b"another", headers, BODY)
    assert not room["is_from_the_gateway"](b"a shared secret", headers, BODY + b" ")
    old = sign(SECRET, BODY, timestamp=1_600_000_000)
    assert not room["is_from_the_gateway"](b"a shared secret", old, BODY)
