"""
The process under fire: the real SIP thread behind the real screen, with a stand-in for the rest of the gateway.

Started with the settings as JSON; says ``ready PORT`` when it listens. What a call gets depends on the user that
is called (``_on_invite``). Lines of its standard input are orders: ``dial:PORT`` calls 127.0.0.1:PORT; its end stops
the process. Each name that the SIP library would have looked up is written as ``asked NAME``.
"""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable
from typing import Any

import structlog

from gateway.audio.pcm import PHONE
from gateway.audio.playout import PlayoutBuffer
from gateway.audio.uplink import UplinkTap
from gateway.call.actions import CallSecond
from gateway.call.events import CallEvent, IncomingInvite, LegClosed, MediaUp, SecondUp
from gateway.ids import CallId, new_call_id
from gateway.settings.sip import SipSettings
from gateway.sip.leg import PjLeg
from gateway.sip.native.library import ImportSlot, native
from gateway.sip.thread import SipThread

SPEECH = bytes(range(256)) * 250
CALL_S = 2.0  # then the stand-in hangs up: lines must come free whatever a broken peer does
TIMERS_MS = (50, 200, 250, 1600)  # T1, T2, T4 and 64*T1 (RFC 3261, table 4), a tenth of the usual
LOOPBACK = 127
EAI_NONAME, ECONNREFUSED = -2, 111


class Walls:
    """
    Keeps the library inside this machine: it asks no name server, and packets to other machines go nowhere.

    What a mutated message names is anybody's address.
    """

    def __init__(self, asked: Callable[[str], None]) -> None:
        self._asked = asked
        word, text = ctypes.c_void_p, ctypes.c_char_p
        library = ctypes.CDLL(None, use_errno=True)
        self._sendto = ctypes.CFUNCTYPE(
            ctypes.c_ssize_t, ctypes.c_int, word, ctypes.c_size_t, ctypes.c_int, word, ctypes.c_uint, use_errno=True
        )
        self._connect = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, word, ctypes.c_uint, use_errno=True)
        self._real_sendto = self._sendto(ctypes.cast(library.sendto, word).value or 0)
        self._real_connect = self._connect(ctypes.cast(library.connect, word).value or 0)
        self._kept = {
            "getaddrinfo": ctypes.CFUNCTYPE(ctypes.c_int, text, text, word, word)(self._on_getaddrinfo),
            "gethostbyname": ctypes.CFUNCTYPE(word, text)(self._on_gethostbyname),
            "sendto": self._sendto(self._on_sendto),
            "connect": self._connect(self._on_connect),
        }

    def build(self) -> None:
        """Put them up, once the library listens; they stand until the process ends."""
        for name, function in self._kept.items():
            ImportSlot(name).exchange(function)

    def _on_getaddrinfo(self, name: bytes | None, _service: Any, _hints: Any, _result: Any) -> int:
        self._asked((name or b"").decode("latin-1"))
        return EAI_NONAME

    def _on_gethostbyname(self, name: bytes | None) -> None:
        self._asked((name or b"").decode("latin-1"))

    def _on_sendto(self, sock: int, data: int, size: int, flags: int, address: int | None, length: int) -> int:
        if address and not _is_here(address):
            return size
        sent: int = self._real_sendto(sock, data, size, flags, address, length)
        return sent

    def _on_connect(self, sock: int, address: int, length: int) -> int:
        if not _is_here(address):
            ctypes.set_errno(ECONNREFUSED)
            return -1
        done: int = self._real_connect(sock, address, length)
        return done


def _is_here(address: int) -> bool:
    return ctypes.string_at(address + 4, 1)[0] == LOOPBACK  # sockaddr_in: family, port, address


class StandIn:
    """Answers calls as the user says that they call."""

    def __init__(self, settings: SipSettings) -> None:
        self.sip = SipThread(settings, self.take)
        self._legs: dict[CallId, PjLeg] = {}
        self._wanted: dict[CallId, str] = {}

    def take(self, event: CallEvent) -> None:
        """Take a fact. Thread: loop."""
        leg = self._legs.get(getattr(event, "call_id", CallId("")))
        if isinstance(event, IncomingInvite):
            self._on_invite(event)
        elif isinstance(event, LegClosed):
            self._legs.pop(event.call_id, None)
            self._wanted.pop(event.call_id, None)
        elif isinstance(event, MediaUp) and leg is not None:
            self._on_media(leg, self._wanted.get(event.call_id, ""))
        elif isinstance(event, SecondUp) and leg is not None:
            leg.join()

    def dial(self, port: int) -> None:
        """Call 127.0.0.1:``port``."""
        call_id = new_call_id(time.time_ns())
        leg = self.sip.new_call(call_id, f"sip:callee@127.0.0.1:{port}", UplinkTap(capacity_frames=50), _speech())
        self._keep(call_id, leg)
        leg.dial()

    def _on_invite(self, event: IncomingInvite) -> None:
        leg = self.sip.leg(event.call_id, UplinkTap(capacity_frames=50), _speech())
        user = re.sub(r"^sips?:|@.*$", "", event.to_uri)
        self._wanted[event.call_id] = user
        self._keep(event.call_id, leg)
        if user == "refused":
            leg.hang_up(486, "Busy here")
        elif user == "ringing":
            leg.ring()
        elif user == "early":
            leg.progress()
            asyncio.get_running_loop().call_later(0.05, leg.answer)
        else:
            leg.ring()
            leg.answer()

    def _on_media(self, leg: PjLeg, user: str) -> None:
        kind, _, port = user.partition("-")
        if kind == "second":
            leg.call_second(CallSecond(f"sip:second@127.0.0.1:{port}"))
        elif kind == "refer":
            leg.transfer(f"sip:elsewhere@127.0.0.1:{port}")
        elif kind == "keys":
            leg.send_digits("12#")

    def _keep(self, call_id: CallId, leg: PjLeg) -> None:
        self._legs[call_id] = leg
        asyncio.get_running_loop().call_later(CALL_S, leg.hang_up, 480, "Long enough")


def _speech() -> PlayoutBuffer:
    playout = PlayoutBuffer(PHONE)
    playout.write("speech", SPEECH)
    return playout


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def _run(settings: SipSettings) -> None:
    stand_in = StandIn(settings)
    info = await stand_in.sip.start()
    walls = Walls(lambda name: _say(f"asked {name!r}"))
    walls.build()
    stand_in.sip.submit(lambda _table: native("pjsip_tsx_set_timers")(*TIMERS_MS))
    loop, over = asyncio.get_running_loop(), asyncio.Event()

    def obey() -> None:
        orders = os.read(sys.stdin.fileno(), 4096).decode()
        for order in orders.split():
            stand_in.dial(int(order.removeprefix("dial:")))
        if not orders:
            over.set()

    loop.add_reader(sys.stdin.fileno(), obey)
    _say(f"ready {info.port}")
    await asyncio.wait((asyncio.ensure_future(over.wait()), stand_in.sip.ended), return_when=asyncio.FIRST_COMPLETED)
    loop.remove_reader(sys.stdin.fileno())
    await stand_in.sip.stop()


def main() -> None:
    faulthandler.enable()
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
    )
    asyncio.run(_run(SipSettings.model_validate(json.loads(sys.argv[1]))))


if __name__ == "__main__":
    main()
