"""Signatures of webhooks, by the specification's own words and as receivers check them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook, WebhookVerificationError

from gateway.tools.signing import new_message_id, sign, signing_key

pytestmark = pytest.mark.unit

DOCS = Path(__file__).parents[3] / "docs"
KEY = bytes(range(32))
SECRET = SecretStr("whsec_" + base64.b64encode(KEY).decode())
PLAIN = SecretStr("a shared secret")
BODY = '{"tool":"größe"}'.encode()


@pytest.mark.parametrize(("secret", "key"), [(SECRET, KEY), (PLAIN, b"a shared secret")])
def test_id_timestamp_and_body_are_signed_with_full_stops_between(secret: SecretStr, key: bytes) -> None:
    digest = hmac.new(key, b"msg_1.1700000000." + BODY, hashlib.sha256).digest()
    assert sign(secret, BODY, message_id="msg_1", at=1_700_000_000.9) == {
        "webhook-id": "msg_1",
        "webhook-timestamp": "1700000000",
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


@pytest.mark.parametrize("change", ["body", "id", "timestamp", "secret"])
def test_the_librarys_receiver_refuses_what_was_changed(change: str) -> None:
    now = time.time()
    headers = sign(SECRET, BODY, message_id="msg_1", at=now)
    assert Webhook(SECRET.get_secret_value()).verify(BODY, headers)
    body, key = BODY, SECRET.get_secret_value()
    match change:
        case "body":
            body = BODY + b" "
        case "id":
            headers["webhook-id"] = "msg_2"
        case "timestamp":
            headers["webhook-timestamp"] = str(int(now) - 1)
        case _:
            key = base64.b64encode(KEY[::-1]).decode()
    with pytest.raises(WebhookVerificationError):
        Webhook(key).verify(body, headers)


@pytest.mark.parametrize("secret", ["whsec_", "whsec_a", "whsec_not base64", "whsec_====", "whsec_ü"])
def test_what_is_no_key_is_refused(secret: str) -> None:
    with pytest.raises(ValueError, match="openssl rand -base64 32"):
        signing_key(SecretStr(secret))


def test_base64_may_lack_its_padding() -> None:
    assert signing_key(SecretStr(SECRET.get_secret_value().rstrip("="))) == KEY


def test_every_message_has_an_id_of_its_own() -> None:
    assert re.fullmatch(r"msg_[0-9a-f]{24}", new_message_id())
    assert new_message_id() != new_message_id()


@pytest.mark.parametrize("page", ["tools.md", "webhooks.md"])
@pytest.mark.parametrize("secret", [SECRET, PLAIN])
def test_the_receiver_in_the_docs_accepts_our_signature_and_refuses_others(page: str, secret: SecretStr) -> None:
    found = re.search(r"```python\n(from standardwebhooks.*?)```", (DOCS / page).read_text(), re.DOTALL)
    assert found
    room: dict[str, Any] = {}
    exec(found[1], room)
    checked, text = room["is_from_the_gateway"], secret.get_secret_value()
    headers = sign(secret, BODY, message_id="msg_1", at=time.time())
    assert checked(text, headers, BODY)
    assert not checked("another", headers, BODY)
    assert not checked(text, headers, BODY + b" ")
    assert not checked(text, {}, BODY)
    assert not checked(text, sign(secret, BODY, message_id="msg_1", at=time.time() - 600), BODY)
