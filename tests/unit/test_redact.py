"""Secrets are taken out of text in whichever way they are written there, and nothing else is."""

from __future__ import annotations

import base64
import html
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from gateway.redact import Redactor, secrets_in
from gateway.settings.sections import Settings

pytestmark = pytest.mark.unit

AWKWARD = "p\"ä\\s/s w<ö>rd&'%+😀"


def redactor(*secrets: str) -> Redactor:
    return Redactor(map(SecretStr, secrets))


@pytest.mark.parametrize("secret", ["sk-plain-secret-1234567890", AWKWARD])
@pytest.mark.parametrize(
    "written",
    [
        lambda secret: secret,
        lambda secret: f"Bearer {secret}",
        lambda secret: f"{secret}{secret}",
        json.dumps,
        lambda secret: json.dumps(secret, ensure_ascii=False),
        lambda secret: json.dumps(secret).replace("/", "\\/"),
        lambda secret: json.dumps({"body": json.dumps({"key": secret})}),
        lambda secret: json.dumps({"url": f"https://x.example/?key={quote(secret, safe='')}"}),
        lambda secret: "".join(f"\\u{ord(letter):04X}" if ord(letter) < 65536 else letter for letter in secret),
        quote,
        quote_plus,
        lambda secret: quote(quote(secret, safe=""), safe=""),
        lambda secret: "".join(f"%{byte:02x}" for byte in secret.encode()),
        html.escape,
        lambda secret: secret.encode().hex(),
        lambda secret: secret.encode().hex().upper(),
        lambda secret: base64.b64encode(secret.encode()).decode(),
        lambda secret: base64.urlsafe_b64encode(secret.encode()).decode(),
        *(lambda secret, n=n: base64.b64encode(b"u" * n + b":" + secret.encode()).decode() for n in range(3)),
        lambda secret: base64.b64encode(f'{{"key":"{secret}","x":1}}'.encode()).decode(),
        lambda secret: json.dumps(base64.b64encode(secret.encode()).decode()).replace("/", "\\/"),
        lambda secret: quote(base64.b64encode(secret.encode()).decode(), safe=""),
    ],
)
def test_a_secret_is_found_however_it_is_written(secret: str, written: object) -> None:
    assert callable(written)

    redacted = redactor(secret)(f"before {written(secret)} behind")

    assert redacted.startswith("before ")
    assert redacted.endswith(" behind")
    assert "***" in redacted
    assert written(secret)[4:-4] not in redacted


def test_text_around_and_between_secrets_stays_as_it_is() -> None:
    redact = redactor("first-secret", "second-secret", "first-secret-and-more")

    assert redact('ä\u00e4%20 first-secret-and-more, "first-secret"&amp;second-secret\n%') == (
        'ä\u00e4%20 ***, "***"&amp;***\n%'
    )
    assert redact("nothing to hide: 100 % \\ &lt; \ud83d") == "nothing to hide: 100 % \\ &lt; \ud83d"


def test_short_values_are_no_secrets_unless_that_is_wanted() -> None:
    redact = redactor("12", "s3cr3")
    redact.add(SecretStr("k"), shortest=1)
    redact.add(None)
    redact.add(SecretStr(""), shortest=0)

    assert redact("12 s3cr3 k") == "12 s3cr3 ***"
    assert redact.plus([SecretStr("s3cr3"), None], shortest=4)("12 s3cr3 k") == "12 *** ***"
    assert redact("s3cr3") == "s3cr3"


@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=60))
def test_any_text_can_be_looked_through(text: str) -> None:
    assert redactor("not-in-there")(text) == text


@given(st.text(max_size=20), st.text(min_size=8, max_size=20), st.text(max_size=20))
def test_a_secret_is_found_behind_the_escapes_of_json_whatever_it_is(before: str, secret: str, behind: str) -> None:
    if len(secret.strip()) < 6:
        return
    told = json.dumps({"body": json.dumps([before, secret.strip(), behind])})

    assert json.dumps(json.dumps(secret.strip())[1:-1])[1:-1] not in redactor(secret)(told)


def test_all_secrets_of_the_settings_are_known() -> None:
    settings = Settings(
        realtime={"api_key": "sk-key-of-realtime", "headers": {"x-tenant": "tenant-secret"}},
        redis={"url": "redis://user:redis-password@127.0.0.1/0"},
        secrets={"crm": SecretStr("crm-secret")},
    )

    assert {secret.get_secret_value() for secret in secrets_in(settings)} == {
        *("sk-key-of-realtime", "tenant-secret", "redis-password", "crm-secret")
    }
    assert list(secrets_in([SecretStr("a"), {"b": (SecretStr("c"), "d", 1)}])) == [SecretStr("a"), SecretStr("c")]
