"""The container image: built as an operator builds it, and each process that it is for started in it."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, closing
from pathlib import Path

import pytest

from gateway.child_process import ChildProcess
from gateway.free_port import free_port
from gateway.lab.callers.gateway_process import first_of_rtp_ports
from tests.rigs.compose import on_the_host, services
from tests.rigs.image import CALLS_ON_A_BUSY_MACHINE, Container, Image, built_image, missing
from tests.rigs.pods import SOME_TOKEN
from tests.rigs.redis_server import RedisServer
from tests.rigs.sipp import Sipp, play, seen_message
from tests.rigs.sipp_steps import ANSWERED, BYE, invite, pause
from tests.rigs.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.docker, pytest.mark.xdist_group("image"), pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
READY_S = 60.0
PROBE = ("python", "-I", "-m", "gateway.probe")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    if why := missing():
        pytest.skip(why)
    with built_image(tmp_path_factory.mktemp("image"), ROOT) as built:
        yield built


def on_loopback() -> dict[str, str]:
    first = first_of_rtp_ports()
    return CALLS_ON_A_BUSY_MACHINE | {
        "GATEWAY_SIP__HOST": "127.0.0.1",
        "GATEWAY_SIP__PORT": str(free_port()),
        "GATEWAY_SIP__RTP_PORT_MIN": str(first),
        "GATEWAY_SIP__RTP_PORT_MAX": str(first + 99),
    }


async def is_alive(image: Image, target: str, *words: str) -> bool:
    return await image.says(*PROBE, target, *words) == 0


async def test_the_image_has_no_more_than_it_needs_and_nothing_of_its_own_to_write(image: Image) -> None:
    assert image.config["User"] == "10001:10001"
    assert image.config["Cmd"] == ["serve"]
    assert image.config["Healthcheck"]["Test"][0] in ("CMD", "CMD-SHELL")
    assert not [text for text in image.config["Env"] if "KEY" in text or "TOKEN" in text or "PASSWORD" in text]
    there = {path.name for path in (image.files / "src").glob("*")} if (image.files / "src").exists() else set()
    assert not there, "what the image was built from is still in it"
    writable = image.run("sh", "-c", "find / -xdev -writable -not -type l 2>/dev/null; true").split()
    assert "/var/lib/gateway" in writable
    assert not [path for path in writable if not path.startswith(("/tmp", "/var/tmp", "/var/lib/gateway", "/run/lock"))]


async def test_the_image_holds_the_packages_that_were_listed(image: Image) -> None:
    frozen = image.run("python", "-c", "from importlib.metadata import distributions as d; "
                       "print(*(f'{each.name}=={each.version}' for each in d()), sep='\\n')")  # fmt: skip
    listed = [line for line in (ROOT / "docker" / "requirements.txt").read_text().splitlines() if "==" in line]
    ours = {line.lower().replace("_", "-") for line in frozen.splitlines() if not line.startswith("sip-voice-gateway")}
    assert ours == {line.lower().replace("_", "-") for line in listed}


async def test_a_gateway_in_the_image_answers_a_call_and_drains_on_sigterm(image: Image, tmp_path: Path) -> None:
    settings = on_loopback()
    port = int(settings["GATEWAY_SIP__PORT"])
    async with image.start("serve", "--simulate", variables=settings) as gateway:
        await gateway.find("^ready: ", READY_S)
        assert await is_alive(image, f"sip:127.0.0.1:{port}", "--ready")
        await play(port, tmp_path / "short", invite(), ANSWERED, pause(700), BYE)
        async with Sipp(port, (invite(), ANSWERED, pause(6000), BYE), tmp_path / "long") as call:
            await seen_message(tmp_path / "long", "SIP/2.0 200 OK")
            gateway.send_signal(signal.SIGTERM)
            while await is_alive(image, f"sip:127.0.0.1:{port}", "--ready"):
                pass  # it has not seen the signal yet
            assert await is_alive(image, f"sip:127.0.0.1:{port}")
            assert await call.finish() == 0, call.output
        assert await gateway.wait(30) == 0


async def test_a_fleet_and_its_edge_need_no_rights_and_write_to_temporary_files_alone(
    image: Image, tmp_path: Path
) -> None:
    settings = on_loopback()
    port = int(settings["GATEWAY_SIP__PORT"])
    async with image.locked_down("serve", "--calls", "8", "--simulate", variables=settings) as gateway:
        await gateway.find("^ready: ", READY_S)
        await play(port, tmp_path, invite(), ANSWERED, pause(700), BYE)
        gateway.send_signal(signal.SIGTERM)
        assert await gateway.wait(30) == 0, gateway.output
    assert "Read-only" not in gateway.output
    assert "not permitted" not in gateway.output


async def test_kamailio_in_the_image_starts_with_the_configuration_that_is_printed(image: Image) -> None:
    port = free_port()
    variables = {
        "GATEWAY_SIP__HOST": "127.0.0.1",
        "GATEWAY_SIP__PORT": str(port),
        "GATEWAY_EDGE__INNER_PORT": str(free_port()),
        "GATEWAY_EDGE__KEY": "a text that only this test knows",
    }
    printed = image.run("gateway", "edge", "config", variables=variables)
    config = image.files / "tmp" / "kamailio.cfg"
    config.write_text(
        printed.replace("/run/kamailio", "/tmp"), encoding="utf-8"
    )  # which that package alone may write to
    image.run("kamailio", "-c", "-f", "/tmp/kamailio.cfg")
    words = ("-DD", "-E", "-f", "/tmp/kamailio.cfg", "-Y", "/tmp", "-P", "/tmp/kamailio.pid")
    async with Container(*image.command("tini", "--", "kamailio", *words)) as kamailio:
        await until_it_is(image, kamailio, *PROBE, f"sip:127.0.0.1:{port}")
        assert not await is_alive(image, f"sip:127.0.0.1:{port}", "--ready"), "it has no worker"
    assert list(image.files.glob("usr/lib/*/kamailio/modules/tls.so"))


def ports_of_an_operator(redis: str) -> dict[str, str]:
    first = first_of_rtp_ports()
    rtp = {"RTP_A_MIN": first, "RTP_A_MAX": first + 63, "RTP_B_MIN": first + 64, "RTP_B_MAX": first + 127}
    single = {name: free_port() for name in ("SIP_PORT", "EDGE_PORT", "WEB_PORT", "SIMULATOR_PORT")}
    return {name: str(port) for name, port in {**rtp, **single, "REDIS_PORT": redis}.items()}


async def until_it_is(image: Image, process: Container, *words: str, temporary: Path | None = None) -> None:
    async with asyncio.timeout(READY_S):
        while await image.says(*words, temporary=temporary) != 0:
            assert process.exit_code is None, process.output


async def test_the_services_of_the_compose_file_take_calls_together(image: Image, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        redis = stack.enter_context(closing(RedisServer(tcp=True)))
        operator = ports_of_an_operator(redis.url.rpartition(":")[2].partition("/")[0])
        operator["WEB_TOKENS"] = SOME_TOKEN
        ours = {name: each for name, each in on_the_host(services(operator)).items() if name != "redis"}
        running: dict[str, Container] = {}
        for name, each in ours.items():
            process = image.start(
                *each["command"],
                variables=each.get("environment", {}) | CALLS_ON_A_BUSY_MACHINE,
                temporary=tmp_path / name,
            )
            running[name] = await stack.enter_async_context(process)
        for name, each in ours.items():
            check = each["healthcheck"]["test"][1:]
            await until_it_is(image, running[name], *check, temporary=tmp_path / name)
        port = int(operator["SIP_PORT"])
        await until_it_is(image, running["edge"], *PROBE, f"sip:127.0.0.1:{port}", "--ready")  # it has found workers
        answered = (invite(), ANSWERED, pause(8000), BYE)
        async with Sipp(port, answered, tmp_path / "calls", calls=10, at_once=10) as sipp:
            await until(lambda: sum(each.first_line == "SIP/2.0 200 OK" for each in sipp.seen()) >= 10)
            running["gateway-a"].send_signal(signal.SIGTERM)
            assert await sipp.finish() == 0, sipp.output
        assert await running["gateway-a"].wait(30) == 0
        await play(port, tmp_path / "after", invite(), ANSWERED, pause(300), BYE)


async def test_the_pods_of_the_manifests_take_calls_together(image: Image, tmp_path: Path) -> None:
    words = ("-m", "tests.rigs.pods", str(image.storage.folder), image.container, str(tmp_path))
    async with ChildProcess("unshare", "--net", sys.executable, *words, folder=ROOT) as node:
        assert await node.wait(240) == 0, node.output
