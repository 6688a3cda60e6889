from __future__ import annotations

from typing import Any

import pytest

from gateway.lab.simulator.server.admission import Admitted, judge
from gateway.lab.simulator.server.client_secrets import ClientSecrets
from gateway.lab.simulator.wire.errors import SessionRefusal
from gateway.lab.simulator.wire.schema import ClientMistake

pytestmark = pytest.mark.unit


def test_a_secret_holds_the_whole_session_and_its_end() -> None:
    secrets = ClientSecrets()
    session = {"type": "realtime", "model": "gpt-realtime-2.1", "audio": {"output": {"voice": "cedar"}}}
    body = {"expires_after": {"anchor": "created_at", "seconds": 10}, "session": session}
    secret = secrets.mint(body, safety_identifier="hash", now_s=1000.5)
    reply = secret.reply()
    assert reply["value"].startswith("ek_")
    assert (reply["expires_at"], reply["session"]["expires_at"]) == (1010, 0)
    assert reply["session"]["model"] == "gpt-realtime-2.1"
    assert reply["session"]["audio"]["output"]["voice"] == "cedar"
    assert reply["session"]["audio"]["input"]["turn_detection"]["silence_duration_ms"] == 500
    assert secrets.find(secret.value, 1009.9) is secret
    assert secrets.find(secret.value, 1010.0) is None
    assert secrets.mint({}, safety_identifier=None, now_s=0).expires_at == 600


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"expires_after": {"seconds": 9}}, "integer_below_min_value", "expires_after.seconds"),
        ({"expires_after": {"seconds": 7201}}, "integer_above_max_value", "expires_after.seconds"),
        ({"expires_after": {"anchor": "now"}}, "invalid_value", "expires_after.anchor"),
        ({"session": {"type": "realtime", "voice": "alloy"}}, "unknown_parameter", "session.voice"),
        ({"session": {}}, "missing_required_parameter", "session.type"),
        ({"session": {"type": "realtime", "model": "gpt-9"}}, "invalid_model", "session.model"),
        ({"sesion": {}}, "unknown_parameter", "sesion"),
    ],
)
def test_a_request_is_judged_field_by_field(body: dict[str, Any], code: str, param: str) -> None:
    secrets = ClientSecrets()
    with pytest.raises(ClientMistake) as caught:
        secrets.mint(body, safety_identifier=None, now_s=0)
    assert (caught.value.code, caught.value.param) == (code, param)
    assert secrets.minted == []


def test_a_secret_opens_a_connection_to_its_model_and_a_made_up_one_does_not() -> None:
    secrets = ClientSecrets()
    session = {"type": "realtime", "model": "gpt-realtime-1.5"}
    secret = secrets.mint({"session": session}, safety_identifier=None, now_s=0)

    def verdict(value: str, now_s: float = 0.0) -> SessionRefusal | Admitted:
        headers = {"Authorization": f"Bearer {value}"}
        return judge(headers, {}, None, lambda given: secrets.find(given, now_s))

    assert verdict(secret.value) == Admitted("gpt-realtime-1.5", secret)
    for refused in (verdict("ek_made_up"), verdict(secret.value, 600.0)):
        assert isinstance(refused, SessionRefusal)
        assert refused.code == "invalid_api_key"


@pytest.mark.parametrize(
    "headers",
    [{"Authorization": "Bearer sk"}, {"api-key": "sk"}, {"Sec-WebSocket-Protocol": "x, openai-insecure-api-key.sk"}],
)
def test_a_key_comes_in_one_of_three_ways(headers: dict[str, str]) -> None:
    assert judge(headers, {"model": ["gpt-realtime"]}, "sk", lambda _: None) == Admitted("gpt-realtime", None)
