"""The container image: built as an operator builds it, and each process that it is for started in it."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.free_port import free_port
from tests.rigs.image import Container, Image, built_image, missing
from tests.rigs.sipp import Sipp, play, seen_message
from tests.rigs.sipp_steps import ANSWERED, BYE, invite, pause

pytestmark = [pytest.mark.e2e, pytest.mark.docker, pytest.mark.xdist_group("image"), pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
READY_S = 60.0


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    if why := missing():
        pytest.skip(why)
    with built_image(tmp_path_factory.mktemp("image"), ROOT) as built:
        yield built


def on_loopback(**more: str) -> dict[str, str]:
    return {
        "GATEWAY_SIP__HOST": "127.0.0.1",
        "GATEWAY_SIP__PORT": str(free_port()),
        "GATEWAY_SIP__RTP_PORT_MIN": "31000",
        "GATEWAY_SIP__RTP_PORT_MAX": "31099",
        **more,
    }


async def probed(image: Image, target: str, *words: str) -> bool:
    async with Container(*image.command("python", "-I", "-m", "gateway.probe", target, *words)) as probe:
        return await probe.wait(30) == 0


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
        assert await probed(image, f"sip:127.0.0.1:{port}", "--ready")
        await play(port, tmp_path / "short", invite(), ANSWERED, pause(700), BYE)
        async with Sipp(port, (invite(), ANSWERED, pause(6000), BYE), tmp_path / "long") as call:
            await seen_message(tmp_path / "long", "SIP/2.0 200 OK")
            gateway.send_signal(signal.SIGTERM)
            while await probed(image, f"sip:127.0.0.1:{port}", "--ready"):
                pass  # it has not seen the signal yet
            assert await probed(image, f"sip:127.0.0.1:{port}")
            assert await call.finish() == 0, call.output
        assert await gateway.wait(30) == 0


async def test_kamailio_in_the_image_is_new_enough_and_speaks_tls(image: Image) -> None:
    version = re.search(r"version: kamailio (\d+)\.(\d+)", image.run("kamailio", "-v"))
    assert version is not None
    assert (int(version[1]), int(version[2])) >= (5, 6)
    assert list(image.files.glob("usr/lib/*/kamailio/modules/tls.so"))
