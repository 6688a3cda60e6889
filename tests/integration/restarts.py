"""
The SIP thread, started and stopped again and again in one process, while another thread keeps the interpreter busy.

``python -m tests.integration.restarts TIMES``: what kills it fails one test and not the run. The clock mostly waits
for the interpreter inside a frame callback, which is when its ports must not go away.
"""

from __future__ import annotations

import asyncio
import faulthandler
import sys
import threading

from gateway.settings.sip import SipSettings
from gateway.sip.calls.calls import Calls
from gateway.sip.thread import SipThread

PORTS = 8


def _make_ports(table: Calls) -> None:
    table.idle_ports.extend([table.borrow_port() for _ in range(PORTS)])


async def _run(times: int) -> None:
    settings = SipSettings.model_validate({"host": "127.0.0.1", "port": 0})
    for _ in range(times):
        sip = SipThread(settings, lambda _event: None)
        await sip.start()
        sip.submit(_make_ports)
        await asyncio.sleep(0.1)
        await sip.stop()


def main() -> None:
    faulthandler.enable()
    over = threading.Event()

    def keep_busy() -> None:
        while not over.is_set():
            pass

    busy = threading.Thread(target=keep_busy)
    busy.start()
    asyncio.run(_run(int(sys.argv[1])))
    over.set()
    busy.join()


if __name__ == "__main__":
    main()
