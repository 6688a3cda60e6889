"""
The manifests of ``docker/kubernetes`` as a cluster reads them; and, as a program, their pods on a node of our own.

``python -m tests.rigs.pods STORAGE CONTAINER FOLDER`` starts them in the image, asks their probes, places calls and
drains the fleet. The manifests have fixed ports, so it wants a network to itself: run it with ``unshare --net``.
"""

from __future__ import annotations

import asyncio
import fcntl
import signal
import socket
import struct
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import yaml

from gateway.child_process import ChildProcess
from tests.rigs.image import CALLS_ON_A_BUSY_MACHINE, Container, Image, Storage, image_in
from tests.rigs.sipp import play
from tests.rigs.sipp_steps import ANSWERED, BYE, invite, pause

FOLDER = Path(__file__).parents[2] / "docker" / "kubernetes"
NODE = "10.0.1.10"
_SECRET = "0123456789abcdef"
SOME_TOKEN = '{"monitor": {"hash": "sha256:%s", "scopes": "read"}}' % ("0" * 64)
"""What ``gateway web`` needs where others reach it."""
_START_LIMIT_S = 60.0
_SIOCSIFADDR, _SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8916, 0x8913, 0x8914, 1

MANIFESTS = [
    (path.name, part)
    for path in sorted(FOLDER.glob("*.yaml"))
    if path.name != "kustomization.yaml"  # the client's own, which no cluster has a schema of
    for part in yaml.safe_load_all(path.read_text(encoding="utf-8"))
]
"""Each object of the manifests, with the name of its file."""
MAPS: dict[str, dict[str, str]] = {
    part["metadata"]["name"]: part["data"] for _, part in MANIFESTS if part["kind"] == "ConfigMap"
}
PODS: dict[str, dict[str, Any]] = {
    part["metadata"]["name"]: part["spec"]["template"]["spec"]
    for _, part in MANIFESTS
    if "template" in part.get("spec", {})
}


def variables(pod: Mapping[str, Any], host: str = NODE) -> dict[str, str]:
    """Return the environment of a pod's container on a node with this address; all secrets but tokens are one text."""
    container = pod["containers"][0]
    found: dict[str, str] = {}
    for each in container.get("envFrom", ()):
        found |= MAPS[each["configMapRef"]["name"]]
    for each in container.get("env", ()):
        text = each.get("value", host if "fieldRef" in each.get("valueFrom", {}) else _secret(each))
        for name, value in found.items():
            text = text.replace(f"$({name})", value)
        found[each["name"]] = text
    return found


def _secret(variable: Mapping[str, Any]) -> str:
    reference = variable.get("valueFrom", {}).get("secretKeyRef", {})
    return SOME_TOKEN if reference.get("key") == "web-tokens" else _SECRET


def give_the_network_addresses() -> None:
    """Bring this network's loopback up, with the node's address beside 127.0.0.1."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for name, address in (("lo", "127.0.0.1"), ("lo:node", NODE)):
            request = struct.pack("16sHH4s8x", name.encode(), socket.AF_INET, 0, socket.inet_aton(address))
            fcntl.ioctl(control, _SIOCSIFADDR, request)
        flags = struct.unpack("16sH", fcntl.ioctl(control, _SIOCGIFFLAGS, struct.pack("16sH", b"lo", 0)))[1]
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH", b"lo", flags | _IFF_UP))


async def _pass_probes(image: Image, pod: Mapping[str, Any], process: Container, temporary: Path) -> None:
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        command = pod["containers"][0][name]["exec"]["command"]
        async with asyncio.timeout(_START_LIMIT_S):
            while await image.says(*command, temporary=temporary) != 0:
                assert process.exit_code is None, process.output


async def _run(image: Image, folder: Path) -> None:
    plan = image.files / "etc" / "gateway" / "dialplans" / "plan.yaml"
    plan.write_text(MAPS["gateway-dialplans"]["plan.yaml"], encoding="utf-8")
    redis = PODS["redis"]["containers"][0]
    words = [word.replace("$(REDIS_PASSWORD)", _SECRET) for word in (*redis["command"], *redis["args"])]
    words[words.index("--dir") + 1] = str(folder)
    elsewhere = CALLS_ON_A_BUSY_MACHINE | {
        "GATEWAY_REDIS__URL": f"redis://:{_SECRET}@{NODE}:6379",
        "GATEWAY_REALTIME__URL": f"ws://{NODE}:8090/v1/realtime",
    }
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(ChildProcess(*words))
        await stack.enter_async_context(image.start("simulator", "--host", NODE, temporary=folder / "simulator"))
        running = {}
        for name in ("edge", "gateway", "web"):
            given = variables(PODS[name]) | elsewhere
            args = PODS[name]["containers"][0]["args"]
            process = image.start(*args, variables=given, temporary=folder / name)
            running[name] = await stack.enter_async_context(process)
        await running["web"].find("^ready: ", _START_LIMIT_S)
        for name in ("gateway", "edge"):
            await _pass_probes(image, PODS[name], running[name], folder / name)
        await play(5060, folder / "calls", invite(), ANSWERED, pause(1500), BYE, calls=8, at_once=8)
        running["gateway"].send_signal(signal.SIGTERM)
        assert await running["gateway"].wait(60) == 0, running["gateway"].output


if __name__ == "__main__":
    give_the_network_addresses()
    asyncio.run(_run(image_in(Storage(Path(sys.argv[1])), sys.argv[2]), Path(sys.argv[3])))
