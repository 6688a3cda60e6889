"""A whole fleet at a carrier: registered once, called through it; the worker that registered is killed."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest

from gateway.free_port import free_port
from tests.rigs.fleet import open_fleet, pid_of
from tests.rigs.kamailio import PASSWORD, USER, Kamailio
from tests.rigs.sipp import Sipp
from tests.rigs.sipp_steps import ANSWERED, BYE, invite, pause, refused
from tests.rigs.waiting import until

pytestmark = pytest.mark.e2e

ROUTED_BYE = BYE.replace("Max-Forwards: 70", "[routes]\n      Max-Forwards: 70")
_TAKEN = re.compile(r"trunk_lease_taken.*worker=(\S+)")


async def test_a_fleet_is_registered_once_and_called_through_its_edge(tmp_path: Path) -> None:
    async with Kamailio(free_port(), tmp_path / "carrier", max_expires=4) as carrier:
        trunk = {"host": f"127.0.0.1:{carrier.port}", "register": True, "username": USER, "password_from": "carrier"}
        given = {"GATEWAY_TRUNKS": json.dumps({"carrier": trunk}), "GATEWAY_SECRETS__CARRIER": PASSWORD}
        async with open_fleet(tmp_path, given) as fleet:
            await until(lambda: carrier.registers() >= 2, what="the registration with its digest")
            await call(carrier.port, tmp_path / "before")
            (holder,) = _TAKEN.findall(fleet.output)
            os.kill(pid_of(holder), signal.SIGKILL)
            await until(lambda: len(_TAKEN.findall(fleet.output)) == 2, what="another holder")
            taken_over = carrier.registers()
            await until(lambda: carrier.registers() > taken_over + 1, what="the renewal")
            await call(carrier.port, tmp_path / "after")
        assert "its binding is removed" in fleet.output
        await call(carrier.port, tmp_path / "gone", refused(404))  # nobody is registered


async def call(port: int, folder: Path, *steps: str) -> None:
    """Call the number of the fleet, and hang up after a while."""
    steps = steps or (ANSWERED, pause(500), ROUTED_BYE)
    async with Sipp(port, (invite(), *steps), folder, service=USER) as caller:
        assert await caller.finish() == 0, caller.output
