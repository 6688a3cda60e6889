"""``gateway serve`` as a child process, for programs that need a whole gateway: demo, bench, tests."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from gateway.child_process import ChildFailed, ChildProcess
from gateway.errors import SipError
from gateway.free_port import free_port
from gateway.settings.sources import environment_for_child

START_LIMIT_S = 120.0
_READY = r"ready: sip:[^ ]*:(\d+)"


def first_of_rtp_ports() -> int:
    """Return an even port above 30000 at which a hundred RTP ports may begin: another number for each caller."""
    return free_port() // 2 * 2 % 20000 + 30000


def on_loopback(dialplan: Path, realtime_url: str) -> dict[str, str]:
    """
    Return the settings, as environment variables, of a gateway on loopback: a free SIP port and a hundred RTP ports.

    Args:
        dialplan: its file or folder.
        realtime_url: of the voice model's service, a simulator.
    """
    first_rtp_port = first_of_rtp_ports()
    return {
        "GATEWAY_DIALPLAN": str(dialplan.resolve()),
        "GATEWAY_SIP__HOST": "127.0.0.1",
        "GATEWAY_SIP__PORT": "0",
        "GATEWAY_SIP__RTP_PORT_MIN": str(first_rtp_port),
        "GATEWAY_SIP__RTP_PORT_MAX": str(first_rtp_port + 99),
        "GATEWAY_REALTIME__URL": realtime_url,
        "GATEWAY_REALTIME__API_KEY": "simulated",
    }


class GatewayProcess(ChildProcess):
    """
    A gateway of its own, ready inside the ``async with`` block, ended with SIGTERM behind it.

    Args:
        variables: settings as environment variables; no other setting of this machine reaches it but the working
            directory's files.
        debug: run Python in development mode, with the checks of threads on.
        flags: of `gateway serve`.

    Attributes:
        port: its SIP port.
    """

    def __init__(self, variables: Mapping[str, str], *, debug: bool = False, flags: Sequence[str] = ()) -> None:
        checks = {"GATEWAY_LOG__DEBUG_THREADS": "true"} if debug else {}
        python = (sys.executable, "-X", "dev") if debug else (sys.executable,)
        environment = environment_for_child({**checks, **variables})
        super().__init__(*python, "-m", "gateway", "serve", *flags, name="the gateway", environment=environment)
        self.port = 0

    async def __aenter__(self) -> Self:
        """
        Start it and wait until it takes calls.

        Raises:
            SipError: it ended, or was not ready in time; the text is what it printed.
        """
        await super().__aenter__()
        try:
            self.port = int((await self.find(_READY, START_LIMIT_S))[1])
        except ChildFailed:
            raise SipError("the gateway did not start:\n" + self.output) from None
        finally:
            if not self.port:
                await self.stop()
        return self
