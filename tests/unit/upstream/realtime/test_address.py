"""Where the service is, who we say we are, and what is never told."""

from __future__ import annotations

import hashlib
import hmac
import time
from email.utils import formatdate
from typing import Any

import pytest
from pydantic import SecretStr

from gateway.settings.sections import RealtimeSettings
from gateway.upstream.link import retry_after_s
from gateway.upstream.realtime.address import handshake_headers, redactor, safety_identifier, session_url

pytestmark = pytest.mark.unit


def settings(**given: Any) -> RealtimeSettings:
    return RealtimeSettings(**{"api_key": "sk-secret"} | given)


def test_the_model_joins_the_parameters_of_the_url() -> None:
    assert session_url("wss://h/v1?a=1&model=old&b=", "gpt 2") == "wss://h/v1?a=1&b=&model=gpt+2"
    assert session_url("ws://127.0.0.1:9/", "m") == "ws://127.0.0.1:9/?model=m"
    assert session_url("wss://h/v1?model=x", "mine", "deployment") == "wss://h/v1?model=x&deployment=mine"


def test_the_key_is_a_bearer_token_unless_told_otherwise() -> None:
    assert handshake_headers(settings(), minted=None, caller="") == {"Authorization": "Bearer sk-secret"}
    assert handshake_headers(settings(auth="api-key"), minted=None, caller="") == {"api-key": "sk-secret"}
    assert handshake_headers(settings(api_key=None), minted=None, caller="") == {}


def test_extra_headers_join_in_and_the_beta_header_is_never_ours() -> None:
    headers = handshake_headers(settings(headers={"openai-project": "proj_1"}), minted=None, caller="")

    assert headers == {"openai-project": "proj_1", "Authorization": "Bearer sk-secret"}


def test_the_caller_is_named_by_a_keyed_hash() -> None:
    keyed = settings(safety_key="pepper")
    expected = hmac.new(b"pepper", b"sip:alice@192.0.2.1", hashlib.sha256).hexdigest()

    assert safety_identifier(keyed, "sip:alice@192.0.2.1") == expected
    headers = handshake_headers(keyed, minted=None, caller="sip:alice@192.0.2.1")
    assert headers["OpenAI-Safety-Identifier"] == expected
    assert safety_identifier(keyed, "") is None
    assert safety_identifier(settings(), "sip:alice@192.0.2.1") is None


def test_an_ephemeral_key_stands_for_the_long_lived_one_and_for_the_caller() -> None:
    keyed = settings(auth="api-key", safety_key="pepper")

    assert handshake_headers(keyed, minted=SecretStr("ek_1"), caller="sip:a@b") == {"Authorization": "Bearer ek_1"}


def test_secrets_are_taken_out_of_text_and_ordinary_words_are_not() -> None:
    redact = redactor(settings(headers={"x-token": "tok-123456", "x-version": "1"}), {"crm": SecretStr("crm-secret")})
    redact.add(SecretStr("ek_ephemeral"))
    redact.add(None)

    assert redact("sk-secret tok-123456 1 crm-secret ek_ephemeral") == "*** *** 1 *** ***"


@pytest.mark.parametrize(
    ("text", "seconds"), [("", 0), ("7", 7), (" 7 ", 7), ("soon", 0), ("-3", 0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0)]
)
def test_the_wait_a_service_asks_for_is_read(text: str, seconds: float) -> None:
    assert retry_after_s(text, time.time()) == seconds


def test_the_wait_may_be_a_date() -> None:
    now = 1_790_000_000.0

    assert retry_after_s(formatdate(now + 30, usegmt=True), now) == 30
