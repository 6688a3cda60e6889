"""Endpoints of webhooks, from a file and from variables, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import ConfigError
from gateway.redact import shown
from gateway.settings.load import effective, load_settings
from gateway.settings.webhooks import ALL_EVENTS, WebhookEndpoint

pytestmark = pytest.mark.unit

SETTINGS = Path(__file__).parents[3] / "docs" / "settings.md"


@pytest.fixture(autouse=True)
def nothing_else_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def test_an_endpoint_stands_in_a_file_and_another_in_a_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "gateway.toml").write_text(
        "[secrets]\nhook = 'whsec_AAAA'\n[webhooks]\nallow_private = ['10.0.0.0/8']\n"
        "[webhooks.endpoints.CRM]\nurl = 'https://crm.example.com/?token=t0ps3cret'\nsecret = 'HOOK'\n"
    )
    monkeypatch.setenv(
        "GATEWAY_WEBHOOKS__ENDPOINTS__BILLING",
        '{"url": "http://10.1.2.3/", "secret": "hook", "events": "call.ended, call.recording", "timeout_s": 3}',
    )
    settings = load_settings()
    crm, billing = settings.webhooks.endpoints["crm"], settings.webhooks.endpoints["billing"]
    assert (crm.secret, crm.events, crm.timeout_s) == ("hook", ALL_EVENTS, 10)
    assert (billing.events, billing.timeout_s) == (("call.ended", "call.recording"), 3)
    assert settings.webhooks.allow_private == ("10.0.0.0/8",)
    told = effective(settings)["webhooks.endpoints"].value
    assert "crm.example.com" in told
    assert "t0ps3cret" not in told


@pytest.mark.parametrize(
    ("endpoint", "problem"),
    [
        ("{url = 'https://a.example/', secret = 'other'}", "webhooks.endpoints.a.secret: there is no secret 'other'"),
        ("{url = 'https://u:p4ss@a.example/', secret = 'hook'}", "webhooks.endpoints.a.url: contains a user"),
        ("{url = 'ftp://a.example/', secret = 'hook'}", "webhooks.endpoints.a.url: "),
        ("{url = 'https://a.example/', secret = 'hook', events = ['call.begun']}", "webhooks.endpoints.a.events.0: "),
        ("{url = 'https://a.example/', secret = 'hook', events = []}", "webhooks.endpoints.a.events: "),
        ("{url = 'https://a.example/', secret = 'hook', timeout_s = 61}", "webhooks.endpoints.a.timeout_s: "),
        ("{url = 'https://a.example/'}", "webhooks.endpoints.a.secret: "),
        ("{url = 'https://a.example/', secret = 'hook', urls = 1}", "did you mean url?"),
    ],
)
def test_a_mistake_in_an_endpoint_is_told_with_its_place(tmp_path: Path, endpoint: str, problem: str) -> None:
    (tmp_path / "gateway.toml").write_text(
        f"[secrets]\nhook = 'whsec_AAAA'\n[webhooks]\nendpoints = {{a = {endpoint}}}\n"
    )
    with pytest.raises(ConfigError) as raised:
        load_settings()
    assert problem in str(raised.value)
    assert "p4ss" not in str(raised.value)


def test_the_first_delay_is_not_longer_than_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_WEBHOOKS__FIRST_RETRY_S", "60")
    monkeypatch.setenv("GATEWAY_WEBHOOKS__LAST_RETRY_S", "5")
    with pytest.raises(ConfigError, match="first_retry_s 60 is greater than last_retry_s 5"):
        load_settings()


@pytest.mark.parametrize("name", WebhookEndpoint.model_fields)
def test_every_key_of_an_endpoint_stands_in_the_docs_as_it_is(name: str) -> None:
    field = WebhookEndpoint.model_fields[name]
    default = "needed" if field.is_required() else shown(field.default)
    assert f"| `{name}` | {default} | {field.description} |" in SETTINGS.read_text().splitlines()
