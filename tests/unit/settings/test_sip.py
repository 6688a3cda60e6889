from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.errors import ConfigError
from gateway.settings.load import effective, load_settings
from gateway.settings.sections import Settings

pytestmark = pytest.mark.unit

MAIN = '[trunks.main]\nhost = "sip.example.com"\n'


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Start in an empty directory and with no variable of ours."""
    for name in list(os.environ):
        if name.upper().startswith("GATEWAY_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def loaded(text: str) -> Settings:
    Path("gateway.toml").write_text(text)
    return load_settings()


def problems_of(text: str = "") -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        loaded(text)
    return caught.value.problems


def test_a_trunk_is_a_table_of_the_configuration_file() -> None:
    settings = loaded(
        '[trunks.Main]\nhost = "192.0.2.9:5070"\nregister = true\nusername = "line1"\npassword_from = "MAIN"\n'
        'networks = ["192.0.2.0/24", "198.51.100.7"]\ncodecs = "PCMA"\ncountry = "DE"\n'
        '[secrets]\nmain = "very-secret"\n'
    )
    trunk = settings.trunks["main"]
    assert (trunk.host, trunk.register_here, trunk.password_from) == ("192.0.2.9:5070", True, "main")
    assert trunk.networks == ("192.0.2.0/24", "198.51.100.7/32")
    assert trunk.codecs == ("PCMA",)
    shown = effective(settings)["trunks"]
    assert shown.origin == "gateway.toml"
    assert "main: host=192.0.2.9:5070" in shown.value
    assert "very-secret" not in str(effective(settings))


def test_trunks_come_from_variables_too_all_or_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_TRUNKS", '{"main": {"host": "a.example.com"}, "other": {"host": "b.example.com"}}')
    monkeypatch.setenv("GATEWAY_TRUNKS__MAIN", '{"host": "c.example.com"}')
    settings = loaded('[trunks.file]\nhost = "d.example.com"\n[trunks.main]\nhost = "e.example.com"\n')
    assert {name: trunk.host for name, trunk in settings.trunks.items()} == {
        "main": "c.example.com",
        "other": "b.example.com",
        "file": "d.example.com",
    }


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ('transport = "sctp"', "transport: should be 'udp', 'tcp' or 'tls', not 'sctp' (transport to reach it over)"),
        ('trasnport = "udp"', "trasnport: unknown key, did you mean transport?"),
        ('password = "very-secret"', "password: unknown key, did you mean password_from?"),
        ('networks = "10.0.0.0/33"', "networks.0: '10.0.0.0/33' is not a network; give one such as 192.0.2.0/24"),
        ('networks = ["fd00::/8"]', "networks: this build of pjsua2 has no IPv6; put a SIP proxy that has it in"),
        ('tls_name = "a.example"', "tls_name: only an edge verifies certificates; use networks, or put an edge in"),
        ('outbound_proxy = "[fd00::1]:5060"', "outbound_proxy: this build of pjsua2 has no IPv6"),
        ('outbound_proxy = "a b"', "outbound_proxy: 'a b' is not a host; give a name or an IPv4 address"),
        ('country = "UK"', "country: 'UK' is not a country with telephone numbers; use a two-letter ISO 3166"),
        (
            "register_expires_s = 5",
            "register_expires_s: should be greater than or equal to 30, not '5' (registration lifetime",
        ),
        ('password_from = "main"\nusername = "u"', "password_from: there is no secret 'main'; add it to [secrets]"),
        ("register = true", "register: needs a digest account; set username and password_from"),
        ('challenge = true\nusername = "u"', "challenge: needs a digest account; set password_from"),
        ('numbers = "national"', "numbers: national numbers need a country; set country"),
        ('dial_format = "national"', "numbers_out: national numbers need a country; set country"),
        (
            'own_number_header = "p-asserted-identity"',
            "own_number_header: carries caller_id, which is not set; set it",
        ),
        (
            'caller_id = "1"\nown_number_header = "p-asserted-identity"\ncaller_id_header = "both"',
            "own_number_header: p-asserted-identity is in caller_id_header too, and a call carries it once",
        ),
        ('caller_id_header = "p-asserted"', "caller_id_header.0: should be 'from', 'p-asserted-identity', 'p-pref"),
        ('codecs = "G722"', "codecs: G722 makes the whole worker's audio 16 kHz; add it to sip.codecs too"),
        ("max_calls = 0", "max_calls: should be greater than or equal to 1, not '0'"),
    ],
)
def test_a_mistake_in_a_trunk_names_file_key_and_cure(lines: str, told: str) -> None:
    (problem,) = problems_of(f"{MAIN}{lines}\n")
    assert problem.startswith(f"gateway.toml: trunks.main.{told}")
    assert "very-secret" not in problem


def test_behind_an_edge_networks_may_be_ipv6_and_trunks_known_by_their_certificates() -> None:
    trunk = MAIN + 'networks = ["fd00::/8"]\ntls_name = "pbx.example.com"\n'
    for edge in ('[sip]\nedges = "127.0.0.1"\nallow_from = "2001:db8::/32"\n', "[fleet]\ncalls = 40\n"):
        assert loaded(edge + trunk).trunks["main"].networks == ("fd00::/8",)
    (problem,) = problems_of('[sip]\nedges = "127.0.0.1"\n' + trunk + trunk.replace("main", "other"))
    assert problem.startswith("gateway.toml: trunks.other.tls_name: is that of trunks.main too")


def test_calls_that_leave_by_an_edge_come_back_by_it() -> None:
    (problem,) = problems_of('[sip]\nedge = "127.0.0.1:5060"\n')
    assert problem.startswith("gateway.toml: sip: edge is set, but edges is empty")
    sip = '[sip]\ntcp = false\nedge = "127.0.0.1:5060"\nedges = "127.0.0.1"\n'
    assert loaded(sip + MAIN + 'transport = "tcp"\n').sip.edges == ("127.0.0.1/32",)


def test_a_trunk_without_a_host_is_told() -> None:
    assert problems_of("[trunks.main]\n") == (
        "gateway.toml: trunks.main.host: Field required "
        "(registrar or peer: name or IPv4 address, with :port if it is not the default)",
    )


def test_a_mistake_in_a_variable_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_TRUNKS__A", "{")
    monkeypatch.setenv("GATEWAY_TRUNKS", '{"b": {"host": "x", "srtp": "on"}}')
    assert problems_of() == (
        "GATEWAY_TRUNKS: trunks.b.srtp: should be 'off', 'optional' or 'required', not 'on' "
        "(SDES: off, optional or required; if not set, sip.srtp)",
        "GATEWAY_TRUNKS__A: trunks.a: should be a table; in an environment variable, a JSON object such as "
        '{"host": "sip.example.com"}',
    )


def test_a_password_without_a_name_is_told() -> None:
    (problem,) = problems_of(f'{MAIN}password_from = "p"\n[secrets]\np = "very-secret"\n')
    assert problem == "gateway.toml: trunks.main.password_from: a password needs a user name; set username"


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_trunk_needs_its_transport(transport: str) -> None:
    (problem,) = problems_of(f'{MAIN}transport = "{transport}"\n[sip]\n{transport} = false\n')
    assert problem.startswith(f"gateway.toml: trunks.main.transport: {transport}, but sip.{transport} is off")


def test_a_tls_trunk_needs_no_certificate_of_ours() -> None:
    assert loaded(f'{MAIN}transport = "tls"\n').trunks["main"].transport == "tls"


def test_more_trunks_than_a_process_holds_are_told() -> None:
    (problem,) = problems_of("".join(f'[trunks.t{number}]\nhost = "h{number}"\n' for number in range(7)))
    assert "trunks: 7 trunks; one process can hold 6" in problem


def test_every_file_of_the_secrets_folder_is_a_secret_below_the_others(bare: Path) -> None:
    folder = bare / "run"
    (folder / "deeper").mkdir(parents=True)
    (folder / "MAIN").write_text("  from-file\n")
    (folder / "crm").write_text("from-file")
    (folder / ".hidden").write_text("x")
    account = f'{MAIN}username = "u"\npassword_from = "main"\n'
    settings = loaded(f'secrets_folder = "run"\n[secrets]\ncrm = "from-toml"\n{account}')
    assert {name: value.get_secret_value() for name, value in settings.secrets.items()} == {
        "crm": "from-toml",
        "main": "from-file",
    }
    shown = effective(settings)
    assert shown["secrets"] == ("crm: ********, main: ********", "gateway.toml and run/MAIN")
    assert "from-" not in str(shown)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("crm", b"\xff\xfe", "run/crm: secrets.crm: cannot be read (it is not UTF-8 text); fix or remove the file"),
        ("crm", b" \n", "run/crm: secrets.crm: cannot be read (it is empty); fix or remove the file"),
        ("crm", b"x" * 70000, "run/crm: secrets.crm: cannot be read (it has more than 65536 bytes); fix or"),
        ("a b", b"very-secret", "run/a b: secrets.a b.[key]: String should match pattern"),
    ],
)
def test_a_file_that_is_no_secret_is_told(bare: Path, name: str, content: bytes, told: str) -> None:
    (bare / "run").mkdir()
    (bare / "run" / name).write_bytes(content)
    (problem,) = problems_of('secrets_folder = "run"\n')
    assert problem.startswith(told)
    assert "very-secret" not in problem


def test_a_secrets_folder_that_is_not_there_is_told() -> None:
    assert problems_of('secrets_folder = "nowhere"\n') == (
        "gateway.toml: secrets_folder: nowhere: No such file or directory; set it to a folder that can be read",
    )


def test_a_key_that_has_another_name_now_is_understood_or_told() -> None:
    trunk = loaded(MAIN + 'dial_format = "e164"\n').trunks["main"]
    assert (trunk.numbers, trunk.numbers_out, trunk.sends_numbers) == (None, "plus", "plus")
    (problem,) = problems_of(MAIN + 'dial_format = "plus"\n')
    assert problem.startswith("gateway.toml: trunks.main: dial_format is now numbers_out (plus, e164-without-plus")


def test_the_number_called_as_may_stand_in_several_headers() -> None:
    for written in ('"from, remote-party-id"', '["from", "remote-party-id"]'):
        trunk = loaded(f"{MAIN}caller_id_header = {written}\n").trunks["main"]
        assert trunk.caller_id_header == ("from", "remote-party-id")
    assert loaded(MAIN + 'caller_id_header = "both"\n').trunks["main"].caller_id_header[1] == "p-asserted-identity"
