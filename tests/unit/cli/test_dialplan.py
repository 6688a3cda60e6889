from __future__ import annotations

import json
import os
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from typer.testing import CliRunner

from gateway.cli.dialplan import app

pytestmark = pytest.mark.unit

PLANS = Path(__file__).parents[3] / "dialplans"


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith("GATEWAY_") or name in ("OPENAI_API_KEY", "REDIS_URL"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str | Path) -> tuple[int, str, str]:
    """Return exit code, output and error output."""
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(word) for word in words])
    told = f"{result.exception}\n" if result.exception and not isinstance(result.exception, SystemExit) else ""
    return result.exit_code, result.stdout, result.stderr + told


def test_a_good_plan_is_good_in_both_formats() -> None:
    code, out, err = run("check", PLANS / "reception.yaml")
    assert (code, err) == (0, "")
    assert out.startswith("ok: 2 agents, 3 routes, version ")
    code, out, _ = run("check", PLANS / "reception.yaml", "--json")
    assert code == 0
    assert json.loads(out) == {**json.loads(out), "ok": True, "agents": 2, "routes": 3, "mistakes": []}


def test_mistakes_are_told_in_both_formats_with_exit_code_1(bare: Path) -> None:
    (bare / "plan.yaml").write_text("agents: {a: {instructions: x}}\nroutes:\n  - {name: b, agent: c}\n  - {nam: d}\n")
    code, _, err = run("check", "plan.yaml")
    assert code == 1
    assert "plan.yaml:3:22: routes[0].agent: there is no agent 'c'" in err
    assert "plan.yaml:4:5: routes[1].name: is missing" in err
    code, out, _ = run("check", "plan.yaml", "--json")
    assert code == 1
    told = json.loads(out)
    assert told["ok"] is False
    assert told["mistakes"][0] == {
        "file": "plan.yaml",
        "line": 3,
        "column": 22,
        "field": "routes[0].agent",
        "problem": "there is no agent 'c'; did you mean 'a'?"
        if "did you" in out
        else "there is no agent 'c'; there is only 'a'",
    }


NAMES = """\
agents:
  a:
    instructions: x
    tools:
      webhooks:
        - {name: t, description: x, url: https://h/x, headers: {A: "${CRM}"}, signed_with: key}
      mcp: [{server_label: m, server_url: https://m/, authorization: token}]
routes: [{name: b, action: dial, to: "+49", trunk: carier}]
"""


def test_trunks_and_secrets_that_nobody_could_look_for_are_notes(bare: Path) -> None:
    (bare / "plan.yaml").write_text(NAMES)
    code, out, err = run("check", "plan.yaml")
    assert (code, err) == (0, "")
    tools = "agents.a.tools"
    assert out.splitlines()[:-1] == [
        f"note: plan.yaml:6:68: {tools}.webhooks[0].headers.A: not checked: the secret 'CRM'; no settings are given",
        f"note: plan.yaml:6:92: {tools}.webhooks[0].signed_with: not checked: the secret 'key'; no settings are given",
        f"note: plan.yaml:7:70: {tools}.mcp[0].authorization: not checked: the secret 'token'; no settings are given",
        "note: plan.yaml:8:52: routes[0].trunk: not checked: the trunk 'carier'; no settings are given",
    ]
    assert out.splitlines()[-1].startswith("ok: 1 agents, 1 routes")
    notes = json.loads(run("check", "plan.yaml", "--json")[1])["notes"]
    assert [(note["line"], note["column"]) for note in notes] == [(6, 68), (6, 92), (7, 70), (8, 52)]


@pytest.mark.parametrize("given", ["file", "environment", ".env", "the configured plan"])
def test_trunks_and_secrets_must_be_among_settings_that_are_given(
    bare: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    (bare / "plan.yaml").write_text(NAMES)
    command: tuple[str, ...] = ("check", "plan.yaml")
    if given == "file":
        (bare / "gateway.toml").write_text('[trunks.carrier]\nhost = "192.0.2.1"\n[secrets]\ncrm = "x"\n')
    elif given == "environment":
        monkeypatch.setenv("GATEWAY_SECRETS__CRM", "x")
    elif given == ".env":
        (bare / ".env").write_text("GATEWAY_SECRETS__CRM=x\n")
    else:
        monkeypatch.setenv("GATEWAY_DIALPLAN", "plan.yaml")
        command = ("check",)
    code, _, err = run(*command)
    assert code == 1
    hint = "did you mean 'carrier'?" if given == "file" else "there are none"
    assert f"plan.yaml:8:52: routes[0].trunk: the settings have no trunk 'carier'; {hint}" in err
    assert "plan.yaml:6:92: agents.a.tools.webhooks[0].signed_with: there is no secret 'key'; set it" in err
    assert "plan.yaml:7:70: agents.a.tools.mcp[0].authorization: there is no secret 'token'; set it" in err
    assert ("there is no secret 'CRM'" in err) is (given == "the configured plan")
    assert "4 mistakes" in err if given == "the configured plan" else "3 mistakes" in err


def test_a_plan_that_is_not_there_is_told_in_both_formats() -> None:
    assert run("check", "none.yaml")[2] == "none.yaml: no such file; correct the setting `dialplan`\n1 mistake\n"
    assert json.loads(run("check", "none.yaml", "--json")[1])["mistakes"][0]["line"] == 0


def test_the_schema_is_printed() -> None:
    code, out, _ = run("schema")
    assert code == 0
    assert out == (PLANS / "schema.json").read_text()


def test_a_call_is_explained_route_by_route() -> None:
    words = ("--plan", PLANS / "reception.yaml", "--to", "1000", "--from", "+493012345")
    code, out, err = run("explain", *words, "--at", "2026-12-24T10:00", "--trunk", "main")
    assert (code, err) == (0, "")
    for line in (
        "     anonymous: from is +493012345, not anonymous or Anonymous\n",
        "     open: 2026-12-24 is a holiday in office; it is Thursday, not fri\n",
        "  -> closed: matches\n",
        "  key 2: dial sip:on-call@pbx.example.com, 25 s, X-Caller: +493012345\n",
        "    if that fails: agent night\n",
        '  "type": "session.update",\n',
    ):
        assert line in out
    code, out, _ = run("explain", *words, "--at", "2026-12-22T10:00")
    assert "     (1 more, not asked)\n" in out
    assert "It is Tuesday morning, 10:00. The caller's number is + 4 9 3 0 1 2 3 4 5." in out
    assert "limits: max minutes 20; beyond: reject 486\n" in out


def test_the_explanation_tells_who_is_shown_as_calling(bare: Path) -> None:
    step = "action: dial, to: '+493087654321', trunk: out, caller_id: caller"
    (bare / "p.yaml").write_text(f"agents: {{a: {{instructions: x}}}}\nroutes: [{{name: b, {step}}}]\n")
    code, out, _ = run("explain", "--plan", "p.yaml", "--to", "1000")
    assert code == 0
    assert "dial +493087654321 through the trunk out as caller, 30 s" in out


def test_the_explanation_as_json_has_the_session_that_is_asked_for() -> None:
    code, out, _ = run(
        *("explain", "--plan", PLANS / "campaign.yaml", "--to", "+448001234567", "--header", "X-Campaign=spring"),
        *("--call-id", "call-1", "--json"),
    )
    assert code == 0
    told = json.loads(out)
    assert [route["name"] for route in told["routes"] if route["matched"]] == ["campaign"]
    assert told["routes"][0]["why"] == "the load is 0%, not above 80%"
    assert told["routes"][1]["why"].startswith("this call drew ")
    assert told["metadata"] == {"campaign": "spring", "variant": "standard"}
    update = told["agents"][0]["session_update"]
    assert (update["type"], update["event_id"]) == ("session.update", "configure")
    assert "about the spring offer" in update["session"]["instructions"]
    assert update["session"]["audio"]["input"]["turn_detection"]["idle_timeout_ms"] == 8000
    assert update["session"]["max_output_tokens"] == 600


def test_a_call_that_no_route_takes_is_explained(bare: Path) -> None:
    (bare / "p.yaml").write_text("agents: {a: {instructions: x}}\nroutes: [{name: b, match: {to: '1'}, agent: a}]\n")
    code, out, _ = run("explain", "--plan", "p.yaml", "--to", "2")
    assert code == 0
    assert "b: to is 2, not 1" in out
    assert "no route matches: the caller gets 404" in out
    assert json.loads(run("explain", "--plan", "p.yaml", "--to", "2", "--json")[1])["code"] == 404


def test_wrong_options_are_told(bare: Path) -> None:
    (bare / "p.yaml").write_text("agents: {a: {instructions: x}}\nroutes: [{name: b, agent: a}]\n")
    for words, problem in (
        (("--at", "noon"), "'noon' is not a time"),
        (("--at", "0001-01-01T00:00"), "is out of range"),
        (("--header", "X-A"), "give NAME=VALUE"),
    ):
        code, _, err = run("explain", "--plan", "p.yaml", *words)
        assert code == 1
        assert problem in err


def test_a_text_that_cannot_be_filled_in_is_told_with_exit_code_1(bare: Path) -> None:
    (bare / "p.yaml").write_text("agents: {a: {instructions: '{{ caller + 1 }}'}}\nroutes: [{name: b, agent: a}]\n")
    code, _, err = run("explain", "--plan", "p.yaml", "--from", "1")
    assert code == 1
    assert "cannot be filled in" in err


def test_cases_that_fail_are_told_and_stand_in_the_junit_file(bare: Path) -> None:
    (bare / "p.yaml").write_text(
        "agents: {a: {instructions: Hello}}\nroutes:\n  - {name: b, match: {to: '1'}, agent: a}\n"
    )
    (bare / "cases.yaml").write_text("""\
plan: p.yaml
cases:
  - {name: good, call: {to: "1"}, expect: {route: b, agent: a, contains: Hello}}
  - {name: wrong, call: {to: "1"}, expect: {route: c, action: reject, contains: Bye, lacks: Hello}}
  - {name: nobody, call: {to: "2"}, expect: {route: none, code: 404}}
  - {name: no menu, call: {to: "1"}, keys: ["1"], expect: {agent: a}}
""")
    code, out, _ = run("test", "cases.yaml", "--junit", "out.xml")
    assert code == 1
    for line in ("ok   cases.yaml: good", "FAIL cases.yaml: wrong", "route is b, not c", "action is agent, not reject"):
        assert line in out
    assert "2 of 4 cases as expected" in out
    suite = ET.parse(bare / "out.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("4", "2")
    failures = [failure.get("message", "") for failure in suite.iter("failure")]
    assert "'Bye' is not in 'Hello" in failures[0]
    assert failures[1] == "key 1: this is not a menu, but agent"


def test_a_wrong_file_of_cases_is_told_with_its_places(bare: Path) -> None:
    (bare / "cases.yaml").write_text("cases:\n  - {name: x, call: {at: noon, tu: 1}, expect: {action: agnt}}\n")
    code, _, err = run("test", "cases.yaml", "--plan", "p.yaml")
    assert code == 1
    assert "cases.yaml:2:26: cases[0].call.at: 'noon' is not a time" in err
    assert "cases[0].expect.action: unknown action 'agnt'; did you mean 'agent'?" in err
    (bare / "cases.yaml").write_text("cases: [{name: x, expect: {}}]\n")
    assert "names no plan" in run("test", "cases.yaml")[2]


@pytest.mark.parametrize("path", sorted(PLANS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_is_explained(path: Path) -> None:
    for to in ("1000", "1999", "2042", "+448001234567", "+33140000000"):
        words = ("--to", to, "--from", "+493012345", "--at", "2026-12-22T10:00", "--json")
        code, out, err = run("explain", "--plan", path, *words)
        assert (code, err) == (0, "")
        told = json.loads(out)
        assert told["route"] is not None
        assert told["steps"]
        for agent in told["agents"]:
            assert agent["session_update"]["session"]["instructions"] == agent["instructions"]
