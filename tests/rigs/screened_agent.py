"""
A SIP user agent behind the screen, in a process of its own: what kills it fails one test and not the run.

Started with the settings as JSON; says ``port tls_port`` when it listens, answers every call with 200 (``early``: 183,
no more), calls every URI that its standard input names in a line, and ends at the end of that. Its last line
is what was screened, as JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import threading
import time
from collections import deque
from contextlib import ExitStack
from typing import Any

import structlog
from pydantic import SecretStr

from gateway.errors import SipError
from gateway.settings.sip import SipSettings, TrunkSettings
from gateway.sip.admission.access_list import AccessList
from gateway.sip.admission.screening import Occupancy, Screening
from gateway.sip.library.endpoint import quiet_start
from gateway.sip.library.pj import pj
from gateway.sip.library.transports import listen
from gateway.sip.native.handles import Handles
from gateway.sip.native.parser import ParserGate
from gateway.sip.screen.connections import AcceptGuard
from gateway.sip.screen.screen import Screen
from gateway.sip.screen.trace import Tracer
from gateway.threads import enter_role

CALLS: dict[int, Any] = {}
MOST_CALLS = 4


class _Call(pj.Call):
    tracer: Tracer

    def onCallState(self, prm: Any) -> None:
        info = self.getInfo()
        if info.state == pj.PJSIP_INV_STATE_DISCONNECTED:
            self.tracer.finish(info.callIdString, keep=info.lastStatusCode >= 300)
            CALLS.pop(info.id, None)


class _Account(pj.Account):
    tracer: Tracer

    def onIncomingCall(self, prm: Any) -> None:
        call = _Call(self, prm.callId)
        call.tracer = self.tracer
        CALLS[prm.callId] = call
        parameters = pj.CallOpParam()
        parameters.statusCode = 183 if "early@" in call.getInfo().localUri else 200
        try:
            call.answer(parameters)
        except pj.Error:
            CALLS.pop(prm.callId, None)


def _call(account: _Account, uri: str) -> None:
    call = _Call(account)
    call.tracer = account.tracer
    call.makeCall(uri, pj.CallOpParam(True))
    CALLS[call.getId()] = call


def bare_endpoint() -> pj.Endpoint:
    """Return the library's endpoint, initialised: no thread, no transport, no log."""
    quiet_start()
    endpoint = pj.Endpoint()
    endpoint.libCreate()
    config = pj.EpConfig()
    config.uaConfig.threadCnt, config.uaConfig.mainThreadOnly = 0, True
    config.logConfig.level = config.logConfig.consoleLevel = 0
    endpoint.libInit(config)
    return endpoint


def _refuse(gate: ParserGate) -> None:
    raise SipError("this build has no import table")


def _run(
    settings: SipSettings,
    trunks: dict[str, TrunkSettings],
    secrets: dict[str, SecretStr],
    silent_s: float,
    *,
    gated: bool,
) -> dict[str, float]:
    enter_role("sip")
    endpoint = bare_endpoint()
    endpoint.audDevManager().setNullDev()
    access_list = AccessList(settings, trunks)
    rules = Screening(
        settings, access_list, trunks, secrets=secrets, occupancy=Occupancy(full=lambda: len(CALLS) >= MOST_CALLS)
    )
    accept_guard, tracer = AcceptGuard(access_list, silent_s=silent_s), Tracer(settings)
    counting = ExitStack()
    screen = Screen(rules, tracer, accept_guard, handles=counting.enter_context(Handles()))
    if not gated:
        setattr(ParserGate, "install", _refuse)  # noqa: B010
    assert screen.install()
    assert accept_guard.guarded
    listening = listen(settings, endpoint)
    if listening.tls_port:
        accept_guard.tls_on(listening.tls_port)
    tracer.listens_on(listening.port)
    endpoint.libStart()
    account_config = pj.AccountConfig()
    account_config.idUri = "sip:gateway@127.0.0.1"
    account_config.mediaConfig.srtpUse = {"off": 0, "optional": 1, "required": 2}[settings.srtp]
    account_config.mediaConfig.srtpSecureSignaling = 0
    account = _Account()
    account.tracer = tracer
    account.create(account_config, True)
    over, asked = threading.Event(), deque[str]()

    def read_orders() -> None:
        asked.extend(sys.stdin)
        over.set()

    threading.Thread(target=read_orders, daemon=True).start()
    print(listening.port, listening.tls_port, flush=True)
    tick_at = 0.0
    while not over.is_set():
        endpoint.libHandleEvents(20)
        if asked:
            _call(account, asked.popleft().strip())
        if (now := time.monotonic()) >= tick_at:
            tick_at = now + 0.25
            screen.tick(now)
    endpoint.hangupAllCalls()
    limit = time.monotonic() + 2
    while CALLS and time.monotonic() < limit:
        endpoint.libHandleEvents(20)
    CALLS.clear()
    screen.tick(time.monotonic())
    screen.remove()
    counting.close()
    account.shutdown()
    del account
    endpoint.libDestroy()
    tracer.close()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {"cpu_s": usage.ru_utime + usage.ru_stime, "rss_mb": usage.ru_maxrss / 1024, **screen.counts}


def main() -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # standard output is the test's
    given = json.loads(sys.argv[1])
    settings = SipSettings.model_validate({"host": "127.0.0.1", "port": 0, **given.get("sip", {})})
    trunks = {name: TrunkSettings.model_validate(trunk) for name, trunk in given.get("trunks", {}).items()}
    secrets = {name: SecretStr(value) for name, value in given.get("secrets", {}).items()}
    print(
        json.dumps(_run(settings, trunks, secrets, given.get("silent_s", 10), gated=given.get("gated", True))),
        flush=True,
    )


if __name__ == "__main__":
    main()
