"""Kamailio as a carrier: a registrar with digest, and a proxy between its subscribers and the numbers beyond."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from gateway.child_process import ChildProcess
from gateway.probe import options_over_udp

KAMAILIO = "/usr/sbin/kamailio"
REALM = "carrier.test"
USER = "line1"
PASSWORD = "a-plain-password"

_CONFIG = """#!KAMAILIO
debug=1
log_stderror=yes
fork=yes
children=1
tcp_children=1
auto_aliases=no
dns=no
rev_dns=no
server_header="Server: carrier"
listen=udp:127.0.0.1:{port}
listen=tcp:127.0.0.1:{port}
mpath="/usr/lib/x86_64-linux-gnu/kamailio/modules/"
loadmodule "pv.so"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "xlog.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "auth.so"
modparam("usrloc", "db_mode", 0)
modparam("usrloc", "timer_interval", 1)
modparam("registrar", "max_expires", {max_expires})
modparam("registrar", "append_branches", 0)
modparam("auth", "nonce_expire", 60)

request_route {{
    if (is_method("OPTIONS") && $rU == $null) {{ sl_send_reply("200", "OK"); exit; }}
    if (!mf_process_maxfwd_header("10")) {{ sl_send_reply("483", "Too Many Hops"); exit; }}
    if (is_method("REGISTER")) {{
        xlog("L_WARN", "REGISTER $fU auth=$hdr(Authorization)\\n");
        if (!pv_www_authenticate("{realm}", "{password}", "0")) {{ www_challenge("{realm}", "1"); exit; }}
        save("location");
        exit;
    }}
    if (has_totag()) {{
        if (loose_route() || is_method("ACK")) {{ t_relay(); exit; }}
        sl_send_reply("404", "Not Here");
        exit;
    }}
    if (is_method("CANCEL")) {{ t_relay(); exit; }}
    if (!is_method("INVITE")) {{ sl_send_reply("405", "Method Not Allowed"); exit; }}
    record_route();
    if ($rU == "{user}") {{
        if (!lookup("location")) {{ sl_send_reply("404", "Not Registered"); exit; }}
        t_relay();
        exit;
    }}
    if (!pv_proxy_authenticate("{realm}", "{password}", "0")) {{ proxy_challenge("{realm}", "1"); exit; }}
    consume_credentials();
    $du = "sip:127.0.0.1:{beyond}";
    t_relay();
}}
"""


@dataclass
class Kamailio:
    """
    One Kamailio on a port of 127.0.0.1, UDP and TCP; may be stopped and started again.

    Calls to ``USER`` go to where it registered; calls to anything else need its digest and go to the port ``beyond``.
    """

    port: int
    folder: Path
    beyond: int = 9
    max_expires: int = 3600

    async def __aenter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "kamailio.cfg").write_text(
            _CONFIG.format(
                port=self.port,
                beyond=self.beyond,
                max_expires=self.max_expires,
                realm=REALM,
                user=USER,
                password=PASSWORD,
            ),
            encoding="utf-8",
        )
        self._process: ChildProcess | None = None
        self._logged = ""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start it and wait until it answers."""
        self._process = ChildProcess(
            *(KAMAILIO, "-f", "kamailio.cfg", "-DD", "-E", "-m", "32", "-M", "4"),
            *("-w", str(self.folder), "-Y", str(self.folder), "-P", str(self.folder / "pid")),
            folder=self.folder,
            kept_lines=None,
            new_session=True,  # once in a while it does not end, and is killed
            stop_limit_s=40,
        )
        await self._process.start()
        end = time.monotonic() + 40
        while not await asyncio.to_thread(_answers, self.port):
            assert self._process.exit_code is None, self.log()
            assert time.monotonic() < end, f"Kamailio did not start:\n{self.log()}"

    async def stop(self) -> None:
        """End it, and wait until it is gone."""
        if self._process is not None:
            await self._process.stop()
            self._logged += self._process.output
            self._process = None

    def log(self) -> str:
        """Return what it has logged, before its restarts too."""
        return self._logged + (self._process.output if self._process is not None else "")

    @property
    def trunk(self) -> dict[str, object]:
        """The settings of a trunk that registers here; its password is the secret ``carrier``."""
        return {
            "host": f"127.0.0.1:{self.port}",
            "register": True,
            "username": USER,
            "password_from": "carrier",
            "country": "DE",
        }

    @property
    def variables(self) -> dict[str, str]:
        """The settings of a gateway with that trunk, and calls that end soon."""
        return {
            "GATEWAY_TRUNKS": json.dumps({"carrier": self.trunk}),
            "GATEWAY_SECRETS__CARRIER": PASSWORD,
            "GATEWAY_CALL__MAX_LENGTH_S": "3",
        }

    def registers(self) -> int:
        """Return how many REGISTER requests it has seen."""
        return self.log().count("REGISTER ")


def _answers(port: int) -> bool:
    try:
        return options_over_udp("127.0.0.1", port, (0.3,)) == 200
    except OSError:
        return False
