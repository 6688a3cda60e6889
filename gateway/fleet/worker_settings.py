"""The settings of one worker of a fleet, from those that an operator wrote for the whole of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from gateway.edge.edge import public_address
from gateway.errors import ConfigError
from gateway.settings.section import Section
from gateway.settings.sections import Settings
from gateway.settings.sip import SipSettings

RTP_PORTS = 16
"""Of each worker: two for each of four calls, and as many again, so that a port rests before it is used again."""
S = TypeVar("S", bound=Section)


@dataclass(frozen=True, slots=True)
class FleetSize:
    """
    How large a fleet can become.

    Attributes:
        workers: most workers that take calls.
        capacity: calls of each.
        slices: parts that the range of RTP ports has; each worker holds one, those that end their last calls, too.
    """

    workers: int
    capacity: int
    slices: int

    @property
    def calls(self) -> int:
        """Most calls at once."""
        return self.workers * self.capacity


def fleet_size(settings: Settings, capacity: int) -> FleetSize:
    """
    Return how large the fleet can become.

    Args:
        settings: the operator's.
        capacity: calls that one worker holds.

    Raises:
        ConfigError: the range of RTP ports is too small for the calls; names one that fits.
    """
    sip = settings.sip
    workers = math.ceil(settings.fleet.calls / capacity)
    slices = (sip.rtp_port_max - sip.rtp_port_min + 1) // RTP_PORTS
    wanted = workers + 1  # one to replace another with, while that one still has calls
    if slices < wanted:
        last = sip.rtp_port_min + wanted * RTP_PORTS - 1
        cure = (
            f"set sip.rtp_port_max to {last} or more"
            if last <= 65535
            else f"set sip.rtp_port_min to {65536 - wanted * RTP_PORTS} or less and sip.rtp_port_max to 65535"
            if wanted * RTP_PORTS < 64000
            else "spread them over several machines"
        )
        raise ConfigError(
            f"fleet.calls: {settings.fleet.calls} calls take {workers} workers and one to replace another, with "
            f"{RTP_PORTS} RTP ports each, but {sip.rtp_port_min}-{sip.rtp_port_max} has room for {slices}; {cure}"
        )
    return FleetSize(workers, capacity, slices)


def worker_settings(
    settings: Settings, *, slot: int, port: int, media_address: str, edge: str, edge_contact: str
) -> Settings:
    """
    Return the settings of one worker: SIP for the edge alone, RTP of its own on the public address.

    Args:
        settings: the fleet's, with its Redis and its voice model.
        slot: which part of the RTP ports is its own, from 0.
        port: its SIP port.
        media_address: where callers send their RTP.
        edge: ``host:port`` where the edge listens for workers; empty if it runs elsewhere.
        edge_contact: ``host:port`` that trunks reach the edge at; likewise.
    """
    first = settings.sip.rtp_port_min + slot * RTP_PORTS
    sip: dict[str, Any] = {
        "host": settings.fleet.host,
        "port": port,
        "udp": True,
        "tcp": False,
        "tls": False,
        "public_address": None,
        "stun_server": None,
        "media_address": media_address,
        "rtp_port_min": first,
        "rtp_port_max": first + RTP_PORTS - 1,
    }
    if edge:
        sip |= {
            "edges": (*settings.sip.edges, edge.partition(":")[0]),
            "edge": settings.sip.edge or edge,
            "edge_contact": settings.sip.edge_contact or edge_contact,
        }
    return settings.model_copy(update={"sip": changed(settings.sip, sip)})


def _place(host: str, port: int) -> str:
    return f"{host}:{port}" if port else host


def media_address(sip: SipSettings) -> str:
    """Return the address that callers send RTP to: as it is set, or the one that they reach the edge at."""
    return sip.media_address or public_address(sip)


def changed(section: S, values: Mapping[str, Any]) -> S:
    """Return a section with other values, checked as a whole."""
    return type(section).model_validate({**section.model_dump(), **values})
