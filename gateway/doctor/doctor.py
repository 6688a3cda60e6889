"""
``gateway doctor``: examines this machine and what the gateway is to work with, and says what to do.

Each room of the examination has a file: ``machine`` (the library's build, files, memory, disk, clock), ``network``
(ports, address, firewall) and ``services`` (dialplan, Redis, the model's service, trunks, edge, API). A check has two
parts wherever the second is worth testing by itself: one looks, the other judges what was seen and is a pure function.
``examine`` runs them in the order in which one would mend things, and yields each finding as soon as it is there.

Nothing is changed, no call is placed. With ``online`` false nothing is sent beyond this machine but what finds names.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from gateway.api_client.place import ApiPlace
from gateway.doctor import machine, network, services
from gateway.doctor.finding import Finding
from gateway.errors import SipError
from gateway.settings.sections import Settings
from gateway.sip.library.endpoint import probed_capacity

OF_ONE_WORKER = 4


async def examine(settings: Settings, api: ApiPlace, *, online: bool) -> AsyncIterator[Finding]:
    """
    Yield the findings, one after the other.

    Args:
        settings: those of the gateway.
        api: where its HTTP API is.
        online: ask the model's service, trunks and the STUN server.

    Thread: loop; some checks wait for a few seconds.
    """
    for finding in _of_machine(settings):
        yield finding
    for finding in network.ports(settings):
        yield finding
    own, seen = network.own_and_seen(settings.sip, online=online)
    yield network.address(settings.sip, own, seen)
    yield network.firewall(settings, await network.nftables_rules())
    finding, plan = services.dialplan(settings)
    yield finding
    if plan is not None:
        for finding in await services.models(settings, plan, online=online):
            yield finding
    for finding in await services.redis(settings.redis):
        yield finding
    for finding in await services.trunks(settings, online=online):
        yield finding
    if (found := services.edge(settings, _capacity())) is not None:
        yield found
    yield services.api(api)


def _of_machine(settings: Settings) -> Iterator[Finding]:
    yield from machine.library(settings)
    calls = max(settings.fleet.calls, OF_ONE_WORKER)
    yield machine.open_files(OF_ONE_WORKER, machine.file_limit())
    yield machine.memory(calls, machine.free_memory_bytes())
    yield machine.folder("Recordings", settings.recording.folder, "recording.folder", is_needed=False)
    if settings.sip.trace != "off":
        yield machine.folder("SIP traces", settings.sip.trace_folder, "sip.trace_folder", is_needed=False)
    yield machine.clock(machine.clock_status())


def _capacity() -> int:
    try:
        return probed_capacity()
    except SipError:
        return OF_ONE_WORKER
