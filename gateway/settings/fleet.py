"""The settings of many workers: the fleet of one machine, and the edge in front of all of them."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

from gateway.settings.section import Port, PositiveSeconds, Section
from gateway.settings.sip import Host


def _address(text: str) -> str:
    try:
        address = ipaddress.IPv4Address(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an IPv4 address; give one such as 10.0.0.12") from None
    if address.is_unspecified:
        raise ValueError(f"{text} is every address, and the other side must know one; give one such as 10.0.0.12")
    return text


Address = Annotated[str, AfterValidator(_address)]
"""One IPv4 address of this machine, which goes into the registry or into a Record-Route."""


class FleetSettings(Section):
    """Workers of one machine (``gateway serve --calls``)."""

    calls: int = Field(
        0, ge=0, le=10_000, description="most calls at once; as many as one worker holds, or 0: one worker, no edge"
    )
    spare_workers: int = Field(2, ge=0, le=100, description="workers without calls that are kept ready")
    idle_s: PositiveSeconds = Field(120, description="a spare worker that was not needed for this long is ended")
    host: Address = Field(
        "127.0.0.1",
        description="IPv4 address that workers listen on; with 127.0.0.1 only an edge of this machine reaches them",
    )
    port: Port = Field(0, description="SIP port of the first worker, the others take the next ones; 0 picks free ones")
    control: Path | None = Field(
        None,
        description="socket for `gateway fleet`; if not set, one in XDG_RUNTIME_DIR or the folder of temporary files",
    )


class EdgeSettings(Section):
    """The SIP proxy in front of the workers: Kamailio."""

    start: bool = Field(True, description="start Kamailio on this machine; false if the edge runs elsewhere")
    kamailio: Path = Field(Path("kamailio"), description="the program, version 5.6 or newer")
    inner_host: Address = Field(
        "127.0.0.1", description="IPv4 address that the edge listens on for workers; private, if they run elsewhere"
    )
    inner_port: Port = Field(0, description="SIP port that the edge listens on for workers; 0 picks a free one")
    host_ipv6: str | None = Field(None, description="IPv6 address to listen on as well; its media need rtpengine")
    key: SecretStr | None = Field(
        None,
        description="text that hides workers' addresses from callers, the same for all edges of an installation; "
        "if not set, a random one",
    )
    rtpengine: Host | None = Field(
        None, description="host:port of rtpengine's control socket, which then relays the media of IPv6 callers"
    )
