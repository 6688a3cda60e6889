"""The settings of many workers: the fleet of one machine, and the edge in front of all of them."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from gateway.settings.section import PositiveSeconds, Section
from gateway.settings.sip import Host


class FleetSettings(Section):
    """Workers of one machine (``gateway serve --calls``)."""

    calls: int = Field(
        0, ge=0, le=10_000, description="most calls at once; as many as one worker holds, or 0: one worker, no edge"
    )
    spare_workers: int = Field(2, ge=0, le=100, description="workers without calls that are kept ready")
    idle_s: PositiveSeconds = Field(120, description="a spare worker that was not needed for this long is ended")
    control: Path | None = Field(
        None,
        description="socket for `gateway fleet`; if not set, one in XDG_RUNTIME_DIR or the folder of temporary files",
    )


class EdgeSettings(Section):
    """The SIP proxy in front of the workers: Kamailio."""

    start: bool = Field(True, description="start Kamailio on this machine; false if the edge runs elsewhere")
    kamailio: Path = Field(Path("kamailio"), description="the program, version 5.6 or newer")
    host_ipv6: str | None = Field(None, description="IPv6 address to listen on as well; its media need rtpengine")
    rtpengine: Host | None = Field(
        None, description="host:port of rtpengine's control socket, which then relays the media of IPv6 callers"
    )
