from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli.main import app

pytestmark = pytest.mark.unit


def printed(folder: Path, text: str, *arguments: str) -> tuple[int, str, str]:
    (folder / "gateway.toml").write_text(text, encoding="utf-8")
    done = CliRunner().invoke(app, ["edge", "config", "--config", str(folder / "gateway.toml"), *arguments])
    return done.exit_code, done.stdout, str(done.exception or "")


EDGE = '[edge]\ninner_host = "192.0.2.10"\ninner_port = 5070\nkey = "a long random text"\n'


def test_it_prints_a_configuration_that_says_where_it_goes(tmp_path: Path) -> None:
    code, text, _ = printed(tmp_path, EDGE, "--worker", "192.0.2.20:5060/4")
    assert code == 0
    assert text.startswith("#!KAMAILIO\n")
    assert "# Put this in /etc/kamailio/kamailio.cfg" in text
    assert "sip.edge = '192.0.2.10:5070'" in text
    assert '$sht(edge=>order) = "192.0.2.20:5060/4";' in text
    assert "listen=udp:192.0.2.10:5070" in text
    assert "a long random text" not in text


def test_two_prints_with_a_key_are_the_same(tmp_path: Path) -> None:
    assert printed(tmp_path, EDGE)[1] == printed(tmp_path, EDGE)[1]


def test_it_prints_the_file_of_certificates(tmp_path: Path) -> None:
    code, text, _ = printed(
        tmp_path, EDGE + '[sip]\ntls = true\ntls_certificate = "/a.pem"\ntls_key = "/a.key"\n', "--tls"
    )
    assert code == 0
    assert "certificate = /a.pem" in text


@pytest.mark.parametrize(
    ("text", "arguments", "problem"),
    [
        ("", (), "edge.inner_port"),
        (EDGE + "[sip]\nport = 0\n", (), "sip.port"),
        (EDGE, ("--worker", "example.com:5060"), "--worker example.com:5060"),
        (EDGE, ("--worker", "192.0.2.20:5060/many"), "--worker 192.0.2.20:5060/many"),
    ],
)
def test_what_is_missing_or_wrong_is_named(tmp_path: Path, text: str, arguments: tuple[str, ...], problem: str) -> None:
    code, _, error = printed(tmp_path, text, *arguments)
    assert code == 1
    assert problem in error
