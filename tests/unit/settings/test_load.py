from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway.errors import ConfigError
from gateway.settings.load import FIELDS, effective, load_settings
from gateway.settings.sections import Settings
from gateway.settings.sources import environment_for_child, variable_of

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Start in an empty directory and with no variable of ours."""
    for name in list(os.environ):
        if name.upper().startswith("GATEWAY_") or name in ("OPENAI_API_KEY", "REDIS_URL"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def problems_of(**arguments: object) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load_settings(**arguments)  # type: ignore[arg-type]
    return caught.value.problems


def test_nothing_given_means_the_defaults() -> None:
    settings = load_settings()
    assert settings == Settings()
    assert {shown.origin for shown in effective(settings).values()} == {"default"}
    assert effective(settings).keys() == FIELDS.keys()


def test_every_place_overrides_the_ones_below_it(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["sip.port", "sip.retry_after_s", "sip.rtp_port_min", "sip.rtp_port_max", "sip.log_level"]
    (bare / "gateway.toml").write_text(
        "[sip]\nport = 1001\nretry_after_s = 1\nrtp_port_min = 20000\nrtp_port_max = 20101\n"
    )
    (bare / ".env").write_text(
        "GATEWAY_SIP__PORT=1002\nGATEWAY_SIP__RETRY_AFTER_S=2\nGATEWAY_SIP__RTP_PORT_MIN=20002\n"
    )
    monkeypatch.setenv("GATEWAY_SIP__PORT", "1003")
    monkeypatch.setenv("GATEWAY_SIP__RETRY_AFTER_S", "3")
    shown = effective(load_settings(overrides={"sip.port": 1004, "log.level": None}))
    assert [tuple(shown[name]) for name in names] == [
        ("1004", "command line"),
        ("3", "GATEWAY_SIP__RETRY_AFTER_S"),
        ("20002", ".env: GATEWAY_SIP__RTP_PORT_MIN"),
        ("20101", "gateway.toml"),
        ("1", "default"),
    ]


def test_every_setting_can_be_given_as_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    odd = {
        "dialplan": "x.yaml",
        "sip.host": "127.0.0.1",
        "sip.public_address": "192.0.2.1",
        "sip.tls_certificate": "cert.pem",
        "sip.tls_key": "key.pem",
        "sip.tls_authorities": "ca.pem",
        "sip.stun_server": "stun.example.com:3478",
        "sip.allow_from": "192.0.2.0/24, 198.51.100.7",
        "sip.name_servers": "192.0.2.53, 192.0.2.54:5353",
        "sip.reliable_ringing": "off",
        "sip.trace": "all",
        "trunks": '{"main": {"host": "192.0.2.9"}}',
        "secrets_folder": ".",
        "realtime.url": "ws://localhost:1/x",
        "realtime.api_key": "k",
        "realtime.uplink_ms": "40",
        "realtime.sessions_max": '{"m": 2}',
        "redis.url": "redis://localhost/2",
        "redis.prefix": "p",
        "redis.ca_file": "ca.pem",
        "realtime.headers": '{"x-a": "1"}',
        "tracing.endpoint": "http://localhost:4318",
        "tracing.headers": '{"x-a": "1"}',
        "tracing.trusted_trunks": "main",
        "realtime.proxy": "http://localhost:3128",
        "realtime.secrets_url": "http://localhost:1/y",
        "sip.media_address": "192.0.2.11",
        "sip.edges": "192.0.2.0/24",
        "web.host": "::1",
        "web.tokens": '{"shop": {"hash": "sha256:%s", "scopes": "read"}}' % ("0" * 64),
        "web.hosts": "calls.example.com",
        "web.proxies": "127.0.0.1, 10.0.0.0/8",
        "web.profiles": "a, b",
        "secrets": '{"crm": "s"}',
        "prices": '{"m": {"text_in": 1}}',
        "api.url": "http://localhost:1",
        "webhooks.endpoints": '{"crm": {"url": "https://hooks.example.com/", "secret": "crm"}}',
        "webhooks.allow_private": "10.0.0.0/8, fd12::/64",
        "cost.usd_per_day": "20",
        "cost.max_usd": "0.5",
        "log.level": "error",
        "log.format": "json",
        "privacy.mode": "counts",
        "privacy.routes": '{"sales": "shortened"}',
    }
    defaults = effective(Settings())
    for name in FIELDS:
        default = defaults[name].value
        if name != "sip.udp":
            monkeypatch.setenv(variable_of(name), odd.get(name) or {"yes": "off", "no": "on"}.get(default, default))
    shown = effective(load_settings())
    assert [name for name in FIELDS if shown[name].origin != variable_of(name)] == ["sip.udp"]


def test_overrides_may_be_nested() -> None:
    assert load_settings(overrides={"sip": {"port": 7}, "dialplan": Path("a.yaml")}).sip.port == 7


def test_empty_variables_are_not_given(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bare / ".env").write_text("GATEWAY_SIP__PORT=\nGATEWAY_SIP__TCP\n\n# comment\nOTHER=1\n")
    monkeypatch.setenv("GATEWAY_REDIS__URL", " ")
    assert load_settings() == Settings()


def test_the_names_other_programs_use_are_read_last(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bare / ".env").write_text("OPENAI_API_KEY='sk-env-file'\nREDIS_URL=redis://file\n")
    settings = load_settings()
    assert settings.realtime.api_key is not None
    assert settings.realtime.api_key.get_secret_value() == "sk-env-file"
    assert effective(settings)["redis.url"].origin == ".env: REDIS_URL"
    monkeypatch.setenv("OPENAI_API_KEY", "sk-environment")
    monkeypatch.setenv("REDIS_URL", "redis://environment")
    assert effective(load_settings())["redis.url"] == ("redis://environment", "REDIS_URL")
    (bare / "gateway.toml").write_text('[redis]\nurl = "redis://config"\n[realtime]\napi_key = "sk-config"\n')
    settings = load_settings()
    assert settings.realtime.api_key is not None
    assert settings.realtime.api_key.get_secret_value() == "sk-config"
    assert str(settings.redis.url) == "redis://config"


def test_the_configuration_file_is_named_by_option_or_variable(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bare / "gateway.toml").write_text("[sip]\nport = 1\n")
    (bare / "a.toml").write_text("[sip]\nport = 2\n")
    (bare / "b.toml").write_text("[sip]\nport = 3\n")
    assert load_settings().sip.port == 1
    (bare / ".env").write_text("GATEWAY_CONFIG=a.toml\n")
    assert effective(load_settings())["sip.port"] == ("2", "a.toml")
    monkeypatch.setenv("GATEWAY_CONFIG", "b.toml")
    assert load_settings().sip.port == 3
    assert load_settings(config=Path("a.toml")).sip.port == 2


def test_secrets_are_masked_wherever_settings_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    monkeypatch.setenv("REDIS_URL", "redis://user:very-secret@h:6379/1?password=very-secret&db=2")
    monkeypatch.setenv("GATEWAY_REALTIME__URL", "wss://u:very-secret@h/v1?api_key=very-secret&x=1")
    settings = load_settings()
    shown = effective(settings)
    assert "very-secret" not in str(shown) + repr(settings) + str(settings)
    assert shown["realtime.api_key"].value == "********"
    assert shown["redis.url"].value == "redis://user:********@h:6379/1?password=********&db=2"
    assert shown["realtime.url"].value == "wss://u:********@h/v1?api_key=********&x=1"


def test_a_key_in_a_wrong_place_is_masked_too() -> None:
    assert effective(load_settings(overrides={"dialplan": "sk-very-secret"}))["dialplan"].value == "sk-********"


def test_a_blank_key_is_none() -> None:
    assert load_settings(overrides={"realtime.api_key": "  "}).realtime.api_key is None


def test_every_mistake_is_told_at_once_with_its_place(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bare / "gateway.toml").write_text('[sip]\nprot = 5\nlog_level = 9\n[log]\nlevel = "loud"\n[rediss]\n[call]\n')
    (bare / ".env").write_text("GATEWAY_CALL__REFUSAL_CODE=200\nthis is no line\n")
    monkeypatch.setenv("GATEWAY_SIP__PORT", "70000")
    monkeypatch.setenv("GATEWAY_SIP_PORT", "1")
    monkeypatch.setenv("Gateway_Sip__Udp", "1")
    monkeypatch.setenv("GATEWAY_XYZZY", "1")
    assert sorted(problems_of(overrides={"sip.host": "here", "redis.expiry_s": 3})) == [
        ".env: GATEWAY_CALL__REFUSAL_CODE: call.refusal_code: should be greater than or equal to 400, not '200' "
        "(SIP status sent when no agent is available)",
        ".env:2: not of the form NAME=value; fix or remove the line",
        "GATEWAY_SIP_PORT: unknown setting, did you mean GATEWAY_SIP__PORT?",
        "GATEWAY_SIP__PORT: sip.port: should be less than or equal to 65535, not '70000' "
        "(SIP port for UDP and TCP; 0 picks a free one)",
        "GATEWAY_XYZZY: unknown setting, the settings are listed by `gateway check`",
        "Gateway_Sip__Udp: unknown setting, did you mean GATEWAY_SIP__UDP?",
        "command line: redis: expiry_s 3 must be at least twice heartbeat_s 2",
        "command line: sip.host: 'here' is not an IP address; give one such as 192.0.2.10",
        "gateway.toml: log.level: should be 'debug', 'info', 'warning' or 'error', not 'loud' "
        "(lowest level that is logged)",
        "gateway.toml: rediss: unknown setting, did you mean redis?",
        "gateway.toml: sip.log_level: should be less than or equal to 6, not '9' "
        "(verbosity of PJSIP's own log: 0 none, 1 errors, 4 debug)",
        "gateway.toml: sip.prot: unknown setting, did you mean sip.port?",
    ]


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("realtime.url", "http://u:very-secret@h", "should be 'ws' or 'wss'"),
        ("redis.url", "very-secret", "should be a valid URL"),
        ("redis.url", "http://u:very-secret@h", "URL scheme should be 'redis', 'rediss', 'unix', 'redis+sentinel'"),
        ("redis.url", "redis+sentinel://u:very-secret@h,h2", "should name the master after the Sentinels"),
        ("redis.url", "redis://u:very-secret@h,h2/0", "has several hosts"),
        ("redis.url", "redis+cluster://u:very-secret@h,h2/3", "a cluster has only number 0"),
        ("redis.url", "redis://u:very-secret@h/name", "should end with the number of a database"),
        ("sip.host", "sk-very-secret", "is not an IP address"),
        ("sip.port", "sk-very-secret", "should be a valid integer"),
    ],
)
def test_a_secret_in_a_wrong_value_is_not_repeated(
    name: str, text: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable_of(name), text)
    (problem,) = problems_of()
    assert problem.startswith(f"{variable_of(name)}: {name}: ")
    assert told in problem
    assert "very-secret" not in problem


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"sip.tls": True}, "sip: tls needs tls_certificate and tls_key; set both to PEM files"),
        ({"sip.jitter_min_ms": 80}, "sip: jitter_start_ms must lie between jitter_min_ms and jitter_max_ms"),
        ({"sip.session_expires_s": 100, "sip.session_min_s": 120}, "sip: session_expires_s 100 is less than"),
        ({"sip.allow_from": "10.0.0.0/99"}, "sip.allow_from.0: '10.0.0.0/99' is not a network; give one such as"),
        ({"sip.allow_from": ["fd00::/8"]}, "sip.allow_from: this build of pjsua2 has no IPv6"),
        ({"sip.stun_server": "[::1]:3478"}, "sip.stun_server: this build of pjsua2 has no IPv6"),
        ({"sip.codecs": "opus"}, "sip.codecs.0: should be 'G722', 'PCMU' or 'PCMA', not 'opus'"),
        ({"sip.ptime_ms": "25"}, "sip.ptime_ms: should be 10, 20, 30, 40 or 60, not '25'"),
        ({"sip.udp": False, "sip.tcp": False}, "sip: udp, tcp and tls are all off"),
        ({"sip.rtp_port_min": 10001}, "sip: rtp_port_min 10001 is odd"),
        ({"sip.rtp_port_max": 10003}, "sip: the RTP range is too small"),
        ({"sip.port": 10050}, "sip: port 10050 lies between rtp_port_min and rtp_port_max"),
        ({"sip.host": "::1"}, "sip.host: this build of pjsua2 has no IPv6"),
        ({"redis.prefix": "a b"}, "redis.prefix: String should match pattern"),
        ({"call.setup_limit_s": 0}, "call.setup_limit_s: should be greater than 0, not '0'"),
        ({"call.max_length_s": "inf"}, "call.max_length_s: should be a finite number, not 'inf'"),
        ({"realtime.uplink_ms": "30"}, "realtime.uplink_ms: should be 20, 40, 60 or 100, not '30'"),
        ({"redis.expiry_s": 3.5}, "redis: expiry_s 3.5 must be at least twice heartbeat_s 2"),
        ({"nothing": 1}, "nothing: unknown setting, the settings are listed by `gateway check`"),
        ({"sip": 5}, "sip: is a section; write [sip] and its settings below it"),
        ({"sip.port": {"a": 1}}, "sip.port: should be a valid integer, not \"{'a': 1}\""),
    ],
)
def test_values_that_cannot_work_are_refused(given: dict[str, object], told: str) -> None:
    (problem,) = problems_of(overrides=given)
    assert problem.startswith(f"command line: {told}")


def test_a_mistake_about_two_settings_names_the_places_of_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_REDIS__HEARTBEAT_S", "30")
    monkeypatch.setenv("GATEWAY_REDIS__PREFIX", "p")
    (problem,) = problems_of(overrides={"redis.expiry_s": 40})
    assert problem.startswith("GATEWAY_REDIS__HEARTBEAT_S and command line: redis: ")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"[sip\nport = 1\n", "gateway.toml: not TOML: Expected ']' at the end of a table declaration (at line 1,"),
        (b"[sip]\nport = 1\nport = 2\n", "gateway.toml: not TOML: Cannot overwrite a value (at line 3,"),
        (b"\xff\xfe", "gateway.toml: cannot be read (it is not UTF-8 text); it must be TOML in UTF-8"),
        (b"x = " + b"[" * 5000, "gateway.toml: "),
    ],
)
def test_a_file_that_is_no_toml_is_told_with_its_line(bare: Path, content: bytes, told: str) -> None:
    (bare / "gateway.toml").write_bytes(content)
    (problem,) = problems_of()
    assert problem.startswith(told)


def test_a_configuration_file_that_is_missing_or_a_directory_is_told(bare: Path) -> None:
    (problem,) = problems_of(config=Path("other.toml"))
    assert problem == "other.toml: no such configuration file; check --config or GATEWAY_CONFIG"
    (problem,) = problems_of(config=bare)
    assert problem == f"{bare}: cannot be read (Is a directory); it must be TOML in UTF-8"


def test_an_env_file_that_is_no_text_is_told(bare: Path) -> None:
    (bare / ".env").write_bytes(b"A=\xff\n")
    assert problems_of() == (".env: cannot be read (it is not UTF-8 text); fix or remove it",)


def test_variables_of_a_kubernetes_service_called_gateway_are_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "GATEWAY_SERVICE_HOST": "10.0.0.1",
        "GATEWAY_SERVICE_PORT_SIP": "5060",
        "GATEWAY_PORT": "tcp://10.0.0.1:5060",
        "GATEWAY_PORT_5060_TCP_ADDR": "10.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    assert load_settings() == Settings()
    monkeypatch.setenv("GATEWAY_PORT", "5060")
    assert problems_of() == ("GATEWAY_PORT: unknown setting, did you mean GATEWAY_WEB__PORT?",)


def test_a_mapping_collects_its_entries_from_all_places(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bare / "gateway.toml").write_text(
        '[secrets]\nCRM = "file"\nfile_only = "f"\n[web.tokens.shop]\nhash = "sha256:%s"\nscopes = ["read"]\n'
        '[prices."gpt-realtime-2.1"]\ntext_in = 4\naudio_out = 64.5\n' % ("0" * 64)
    )
    (bare / ".env").write_text("GATEWAY_SECRETS__DOTENV=d\n")
    monkeypatch.setenv("GATEWAY_SECRETS", '{"crm": "json", "Json_Only": "j"}')
    monkeypatch.setenv("GATEWAY_SECRETS__CRM", "single")
    monkeypatch.setenv("GATEWAY_REALTIME__HEADERS__X_TRACE_ID", "7")
    monkeypatch.setenv("GATEWAY_WEB__TOKENS__PORTAL", '{"hash": "sha256:%s", "scopes": "read, dial"}' % ("1" * 64))
    settings = load_settings(overrides={"secrets": {"line": "l"}})
    assert {name: value.get_secret_value() for name, value in settings.secrets.items()} == {
        "crm": "single",
        "file_only": "f",
        "dotenv": "d",
        "json_only": "j",
        "line": "l",
    }
    assert settings.realtime.headers["x-trace-id"].get_secret_value() == "7"
    assert {name: token.scopes for name, token in settings.web.tokens.items()} == {
        "portal": ("read", "dial"),
        "shop": ("read",),
    }
    assert settings.prices["gpt-realtime-2.1"].audio_out == 64.5


def test_a_mapping_is_shown_with_its_names_and_no_secret(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bare / "gateway.toml").write_text('[prices."m-1"]\ntext_in = 4\n[secrets]\nold = "very-secret"\n')
    monkeypatch.setenv("GATEWAY_SECRETS__CRM", "very-secret")
    monkeypatch.setenv("GATEWAY_REALTIME__HEADERS", '{"X-Team": "very-secret"}')
    monkeypatch.setenv("GATEWAY_WEB__PROFILES", "hello, night")
    settings = load_settings()
    shown = effective(settings)
    assert shown["secrets"] == ("old: ********, crm: ********", "GATEWAY_SECRETS__CRM and gateway.toml")
    assert shown["realtime.headers"] == ("x-team: ********", "GATEWAY_REALTIME__HEADERS")
    assert shown["prices"] == ("m-1: text_in=4", "gateway.toml")
    assert shown["web.profiles"].value == "hello, night"
    assert "very-secret" not in repr(settings)


def test_names_of_secrets_do_not_mind_large_and_small_letters() -> None:
    assert list(Settings.model_validate({"secrets": {"CRM": "x"}}).secrets) == ["crm"]


@pytest.mark.parametrize(
    ("variable", "text", "told"),
    [
        ("GATEWAY_SECRETS", "very-secret", 'secrets: should be a JSON object such as {"name": ...}'),
        ("GATEWAY_SECRETS", '{"a": ["very-secret"]}', "secrets.a: should be a valid string ("),
        ("GATEWAY_SECRETS", '{"a b": "very-secret"}', "secrets.a b.[key]: String should match pattern"),
        ("GATEWAY_SECRETS", '{"A": "very-secret", "a": "x"}', "secrets.a: is given twice"),
        (
            "GATEWAY_WEB__TOKENS__SHOP",
            '{"hash": "very-secret", "scopes": "read"}',
            "web.tokens.shop.hash: String should match pattern",
        ),
        ("GATEWAY_REALTIME__HEADERS__X_A", "very-secret\r\nb: 2", "realtime.headers: the value of x-a has"),
        ("GATEWAY_REALTIME__PROXY", "socks5://u:very-secret@h", "realtime.proxy: URL scheme should be 'http' or"),
    ],
)
def test_a_wrong_secret_in_a_mapping_is_told_by_its_place_alone(
    variable: str, text: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, text)
    (problem,) = problems_of()
    assert problem.startswith(f"{variable}: {told}")
    assert "very-secret" not in problem


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"prices": {"m": {"text_in": "many"}}}, "prices.m.text_in: should be a valid number"),
        ({"prices": {"m": {"text": 1}}}, "prices.m.text: unknown key, did you mean text_in?"),
        ({"prices": {"m": {"text_in": -1}}}, "prices.m.text_in: should be greater than or equal to 0, not '-1'"),
        ({"secrets": 5}, "secrets: should be a table of names and values"),
        (
            {"web.tokens": {name: {"hash": f"sha256:{'0' * 64}", "scopes": "read"} for name in "ab"}},
            "web.tokens: two tokens have",
        ),
        ({"web.tokens": {"a": {"hash": f"sha256:{'0' * 64}", "scopes": "red"}}}, "web.tokens.a.scopes.0: should be"),
        ({"web.tokens": {"a": {"hash": f"sha256:{'0' * 64}", "scopes": ""}}}, "web.tokens.a.scopes: "),
        ({"web.proxies": "here"}, "web.proxies: 'here' is not an IP address or network"),
        ({"web.host": "here"}, "web.host: 'here' is not an IP address"),
        ({"web.mint_seconds_max": 7201}, "web.mint_seconds_max: should be less than or equal to 7200"),
        ({"realtime.retry_first_s": 9}, "realtime: retry_first_s 9 is greater than retry_last_s 8"),
    ],
)
def test_values_of_mappings_and_of_the_web_that_cannot_work_are_refused(given: dict[str, object], told: str) -> None:
    (problem,) = problems_of(overrides=given)
    assert problem.startswith(f"command line: {told}")


def test_a_variable_of_a_mapping_without_a_name_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_SECRETS__", "x")
    monkeypatch.setenv("GATEWAY_PRICES__M", "x")
    assert sorted(problems_of()) == [
        "GATEWAY_PRICES__M: unknown setting, did you mean GATEWAY_PRICES?",
        "GATEWAY_SECRETS__: unknown setting, did you mean GATEWAY_SECRETS?",
    ]


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_settings().sip.port = 1  # type: ignore[misc]


def test_a_child_process_inherits_no_setting_but_those_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_SIP__PORT", "5070")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    monkeypatch.setenv("OTHER", "1")
    child = environment_for_child({"GATEWAY_SIP__PORT": "0"})
    assert (child["GATEWAY_SIP__PORT"], child["OTHER"], "OPENAI_API_KEY" in child) == ("0", "1", False)
