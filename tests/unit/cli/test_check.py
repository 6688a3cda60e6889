from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from gateway.cli.check import check
from gateway.free_port import free_port
from gateway.settings.sip import SipSettings, TrunkSettings
from gateway.sip.location.servers import Located, Server

pytestmark = pytest.mark.unit

HELLO = Path(__file__).parents[3] / "dialplans" / "hello.yaml"

app = typer.Typer()
app.command()(check)


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith("GATEWAY_") or name in ("OPENAI_API_KEY", "REDIS_URL"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gateway.cli.render._out", Console(highlight=False, soft_wrap=True, width=200))
    return tmp_path


def run(*words: str) -> tuple[int, str, str]:
    """Return exit code, output and error output."""
    result = CliRunner().invoke(app, words)
    return result.exit_code, result.stdout, result.stderr


def test_what_is_in_force_is_shown_with_secrets_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    monkeypatch.setenv("GATEWAY_REALTIME__URL", f"ws://127.0.0.1:{free_port()}/v1/realtime")  # no service is there
    monkeypatch.setenv("GATEWAY_REDIS__URL", "redis://:very-secret@127.0.0.1/0")
    code, out, err = run("--dialplan", str(HELLO))
    assert (code, err) == (0, "")
    assert "very-secret" not in out
    assert "Models: the service was not asked until when they are offered: cannot ask for the models" in out
    for words in ("GATEWAY_REDIS__URL", "command line", "gpt-realtime", "everyone", "any call", "API key: set"):
        assert words in out


def test_without_a_key_the_ways_on_are_named() -> None:
    code, out, _ = run("--dialplan", str(HELLO))
    assert code == 0
    assert "API key: not set. Set OPENAI_API_KEY" in out
    assert "was not asked until when they are offered: no API key is set" in out
    assert "audio_in 32" in out
    assert "starts a private server" in out


def located_as(monkeypatch: pytest.MonkeyPatch, **found: Located) -> None:
    """Have name servers say this of trunks."""

    async def locate(_settings: SipSettings, _trunks: Mapping[str, TrunkSettings]) -> dict[str, Located]:
        return found

    monkeypatch.setattr("gateway.cli.check.locate_trunks", locate)


def test_trunks_are_shown_without_their_passwords(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    servers = (Server("198.51.100.7", 5080, "tls"), Server("198.51.100.8", 5061, "tls"))
    pbx = Located((Server("192.0.2.40", 5060, "udp"),), 60)
    located_as(monkeypatch, carrier=Located(servers, 60), pbx=pbx)
    (bare / "gateway.toml").write_text(
        '[trunks.carrier]\nhost = "sip.carrier.example"\nregister = true\nusername = "line1"\npassword_from = "p"\n'
        'transport = "tls"\n[trunks.pbx]\nhost = "192.0.2.40"\nnetworks = "192.0.2.40/31"\n'
        '[secrets]\np = "very-secret"\n'
    )
    code, out, err = run("--dialplan", str(HELLO))
    assert (code, err) == (0, "")
    assert "very-secret" not in out
    for words in ("sip.carrier.example over tls", "as line1", "192.0.2.40 over udp", "192.0.2.40/31"):
        assert words in out
    told = " ".join(out.split())
    assert "carrier: sip.carrier.example resolves to 198.51.100.7:5080/tls, then 198.51.100.8:5061/tls" in told
    assert "Trunk pbx: " not in told


def test_a_trunk_without_an_address_is_told_with_what_follows(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bare / "gateway.toml").write_text(
        '[trunks.gone]\nhost = "gone.example"\n[trunks.partly]\nhost = "gone.example"\nnetworks = "192.0.2.0/24"\n'
    )
    gone = Located((), 30, "gone.example has no address: no such name")
    located_as(monkeypatch, gone=gone, partly=gone)
    code, out, err = run("--dialplan", str(HELLO))
    assert (code, err) == (0, "")
    told = " ".join(out.split())
    assert "Trunk gone: gone.example has no address: no such name. The gateway starts anyway" in told
    assert "its calls are accepted from nowhere; others get 403" in told
    assert "its calls are accepted only from 192.0.2.0/24; others get 403" in told


WEBHOOK = """
    tools:
      webhooks:
        - name: order_state
          description: Look up an order.
          url: https://crm.example.com/orders
          headers: {Authorization: "Bearer ${CRM}"}
"""


def test_tools_are_shown_and_their_secrets_must_be_there(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = HELLO.read_text()
    place = text.index("routes:")
    (bare / "plan.yaml").write_text(text[:place].rstrip() + WEBHOOK + text[place:])
    code, out, err = run("--dialplan", "plan.yaml")
    assert code == 1
    assert "agents.hello.tools.webhooks[0].headers.Authorization: there is no secret 'CRM'" in err
    monkeypatch.setenv("GATEWAY_SECRETS__CRM", "very-secret")
    code, out, err = run("--dialplan", "plan.yaml")
    assert (code, err) == (0, "")
    assert "hang_up, order_state (webhook)" in out
    assert "crm: ********" in out
    assert "very-secret" not in out


def test_wrong_settings_are_told_with_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_SIP__PORT", "x")
    monkeypatch.setenv("GATEWAY_SIPP__PORT", "1")
    code, _, err = run()
    assert code == 1
    assert "GATEWAY_SIP__PORT: sip.port: should be" in err
    assert "did you mean GATEWAY_SIP__PORT?" in err


def test_a_wrong_dialplan_is_told_with_its_line_and_exit_code_1(bare: Path) -> None:
    (bare / "plan.yaml").write_text(HELLO.read_text().replace("voice: marin", "audio_format: pcmm"))
    code, out, err = run("--dialplan", "plan.yaml")
    assert code == 1
    assert "plan.yaml:9:19: agents.hello.audio_format: 'pcmm' is not among the values; did you mean 'pcm" in err
    assert "sip.port" in out


@pytest.mark.parametrize("words", [(), ("--json",)], ids=str)
def test_traces_without_their_extra_are_told_with_what_to_install(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_TRACING__ENDPOINT", "http://user:very-secret@127.0.0.1:4318")
    monkeypatch.setenv("GATEWAY_TRACING__HEADERS__AUTHORIZATION", "Bearer very-secret")
    monkeypatch.delitem(sys.modules, "gateway.tracing.otlp", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.proto.collector.trace.v1.trace_service_pb2", None)
    code, out, err = run("--dialplan", str(HELLO), *words)
    assert code == 1
    assert "pip install 'sip-voice-gateway[otel]'" in out + err
    assert "very-secret" not in out + err
