"""What a look at the files of ``docker/`` can show; the image itself is built by ``tests/e2e/test_image.py``."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft7Validator
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from gateway.fleet.worker_settings import fleet_size
from gateway.settings.load import FIELDS, SOURCES, load_settings
from gateway.settings.sections import CallSettings, Settings
from gateway.settings.sources import variable_of
from tests.rigs.compose import COMPOSE, services
from tests.rigs.pods import MANIFESTS, PODS, variables

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / "docker"
DOCKERFILE = DOCKER / "Dockerfile"
WRITTEN = sorted(path for path in DOCKER.rglob("*") if path.is_file())
SERVICES = services({})
PYTHON = {"python_version": "3.11", "python_full_version": "3.11.2"}
"""Debian 12's, as markers name it."""


def test_the_dockerfile_passes_the_linter() -> None:
    done = subprocess.run([f"{sys.prefix}/bin/hadolint", str(DOCKERFILE)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def pins() -> dict[str, str]:
    lines = (DOCKER / "requirements.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def test_what_the_image_installs_is_what_the_project_asks_for() -> None:
    versions = {canonicalize_name(name): version for name, version in pins().items()}
    for line in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]:
        wanted = Requirement(line)
        if wanted.marker is None or wanted.marker.evaluate(PYTHON):
            assert versions[canonicalize_name(wanted.name)] in wanted.specifier, f"docker/requirements.txt: {line}"


def test_the_image_copies_what_the_build_is_allowed_to_see() -> None:
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE.read_text(), re.MULTILINE)
    wanted = {name for line in copied for name in line.split()}
    allowed = set(re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    assert wanted == allowed


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.relative_to(DOCKER).as_posix())
def test_no_file_names_a_setting_that_is_not_there(path: Path) -> None:
    known = {variable_of(name) for name in FIELDS}
    entries = tuple(f"{variable_of(name)}__" for name, folded in SOURCES.mappings.items() if folded)
    unknown = {name for name in re.findall(r"\bGATEWAY_[A-Z]\w*", path.read_text()) if name not in known}
    assert not {name for name in unknown if not name.startswith(entries)}


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.relative_to(DOCKER).as_posix())
def test_no_file_holds_a_secret(path: Path) -> None:
    assert not re.search(r"\b(sk|ek)[-_][A-Za-z0-9]{8,}", path.read_text())


def test_the_compose_file_follows_its_schema() -> None:
    schema = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    problems = [
        f"{'.'.join(map(str, error.absolute_path))}: {error.message}"
        for error in Draft7Validator(json.loads(schema.read_text())).iter_errors(yaml.safe_load(COMPOSE.read_text()))
    ]
    assert not problems


@pytest.mark.parametrize(
    ("name", "part"), MANIFESTS, ids=lambda value: value if isinstance(value, str) else value["kind"]
)
def test_each_manifest_follows_the_schema_of_its_kind(name: str, part: dict[str, Any]) -> None:
    kubernetes_validate.validate(part, kubernetes_validate.latest_version(), strict=True)


def test_the_kustomization_names_every_manifest_but_the_example_of_a_secret() -> None:
    kustomization = yaml.safe_load((DOCKER / "kubernetes" / "kustomization.yaml").read_text())
    assert {*kustomization["resources"]} == {name for name, _ in MANIFESTS} - {"secret.example.yaml"}
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert [image["newTag"] for image in kustomization["images"]] == [version]


def test_every_key_of_the_secret_that_pods_read_is_in_the_example_without_a_value() -> None:
    (example,) = (part for _, part in MANIFESTS if part["kind"] == "Secret")
    text = "".join(path.read_text() for path in (DOCKER / "kubernetes").glob("*.yaml"))
    assert set(re.findall(r"secretKeyRef: \{name: gateway, key: ([\w-]+)\}", text)) == example["stringData"].keys()
    assert not any(example["stringData"].values())


def test_nobody_kills_a_gateway_before_its_calls_have_had_their_time() -> None:
    pod = PODS["gateway"]
    drain_s = float(variables(pod)["GATEWAY_CALL__DRAIN_LIMIT_S"])
    assert pod["terminationGracePeriodSeconds"] >= drain_s + 30
    for name in ("gateway-a", "gateway-b"):
        node = SERVICES[name]
        limit = node["environment"].get("GATEWAY_CALL__DRAIN_LIMIT_S", CallSettings().drain_limit_s)
        assert seconds(node["stop_grace_period"]) >= float(limit) + 20


def seconds(text: str) -> float:
    assert text.endswith("s"), text
    return float(text.removesuffix("s"))


def of_compose(name: str) -> dict[str, str]:
    """Return the variables of a service that sets nothing else."""
    return {variable: value for variable, value in SERVICES[name]["environment"].items() if value}


@pytest.mark.parametrize("name", [name for name, each in SERVICES.items() if "environment" in each])
def test_the_settings_of_each_compose_service_are_good(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings_from(of_compose(name), monkeypatch).redis.url is not None


@pytest.mark.parametrize("name", ["edge", "gateway", "web"])
def test_the_settings_of_each_pod_are_good(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings_from(variables(PODS[name]), monkeypatch).redis.url is not None


def settings_from(given: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    for variable, value in given.items():
        if variable.startswith("GATEWAY_"):
            monkeypatch.setenv(variable, value)
    monkeypatch.chdir(DOCKER / "kubernetes")  # no .env, no gateway.toml
    return load_settings()


def test_nodes_on_one_machine_share_no_port(monkeypatch: pytest.MonkeyPatch) -> None:
    sip = [settings_from(of_compose(name), monkeypatch).sip for name in ("gateway-a", "gateway-b")]
    ports = [{*range(each.rtp_port_min, each.rtp_port_max + 1)} for each in sip]
    assert not ports[0] & ports[1]
    pod = settings_from(
        variables(PODS["gateway"]) | {"GATEWAY_FLEET__CALLS": PODS["gateway"]["containers"][0]["args"][-1]}, monkeypatch
    )
    slots = fleet_size(pod, 4).slices
    edge = int(variables(PODS["edge"])["GATEWAY_EDGE__INNER_PORT"])
    assert edge not in range(pod.fleet.port, pod.fleet.port + slots)


def test_the_docs_name_the_ports_that_are_used() -> None:
    text = (ROOT / "docs" / "containers.md").read_text()
    given = [
        *of_compose("gateway-a").values(),
        *of_compose("gateway-b").values(),
        *variables(PODS["gateway"]).values(),
    ]
    ports = {value for value in given if value.isdecimal() and int(value) >= 5000}
    assert len(ports) > 4
    assert not [port for port in ports if port not in text]


@pytest.mark.parametrize("pod", PODS.values(), ids=PODS)
def test_every_pod_runs_without_rights_and_is_asked_how_it_is(pod: dict[str, Any]) -> None:
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["livenessProbe"]
        assert container["readinessProbe"]
        assert container["resources"]["limits"]["memory"]


@pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)
def test_every_compose_service_runs_without_rights_and_is_asked_how_it_is(service: dict[str, Any]) -> None:
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"][0] == "CMD"
