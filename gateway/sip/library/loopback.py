"""
The least a call costs: a SIP user agent that joins each call's audio with itself inside PJMEDIA.

It has the gateway's configuration, and no Python in the audio path. What the gateway needs above this is its own doing;
the bench measures both. Run as ``python -m gateway.sip.library.loopback``; ends with SIGTERM.
"""

from __future__ import annotations

import argparse
import signal
import sys

from gateway.settings.sip import SipSettings
from gateway.sip.library.account_config import account_config
from gateway.sip.library.endpoint import quiet_start, start_endpoint
from gateway.sip.library.pj import pj
from gateway.sip.library.refusing_call import RefusingCall
from gateway.sip.native.guard import callback
from gateway.threads import enter_role, runs_on

_POLL_MS = 10  # as the gateway polls while calls are up


class LoopbackCall(RefusingCall):
    """A call that hears itself. It leaves ``calls`` in its DISCONNECTED callback, and no other reference is kept."""

    def __init__(self, account: pj.Account, pj_id: int, calls: dict[int, LoopbackCall]) -> None:
        super().__init__(account, pj_id)
        self._pj_id = pj_id
        self._calls = calls
        calls[pj_id] = self

    @callback
    def onCallState(self, prm: pj.OnCallStateParam) -> None:
        """Let go of the call when it is over, before its number goes to another."""
        if self.getInfo().state == pj.PJSIP_INV_STATE_DISCONNECTED:
            self._calls.pop(self._pj_id, None)

    @callback
    def onCallMediaState(self, prm: pj.OnCallMediaStateParam) -> None:
        """Join the call's stream with itself."""
        info = self.getInfo()  # kept: what its vector gives out lives only as long as it does
        for media in info.media:
            if media.type == pj.PJMEDIA_TYPE_AUDIO and media.status == pj.PJSUA_CALL_MEDIA_ACTIVE:
                stream = self.getAudioMedia(media.index)
                stream.startTransmit(stream)


class LoopbackAccount(pj.Account):
    """Answers every call at once."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[int, LoopbackCall] = {}

    @callback
    def onIncomingCall(self, prm: pj.OnIncomingCallParam) -> None:
        """Send 200 OK."""
        parameters = pj.CallOpParam()
        parameters.statusCode = pj.PJSIP_SC_OK
        LoopbackCall(self, prm.callId, self.calls).answer(parameters)


@runs_on("sip")
def loop_back(settings: SipSettings) -> None:
    """
    Answer calls until SIGTERM or SIGINT.

    Raises:
        SipError: no library, or an address or port that is not available.
    """
    stopping: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _frame: stopping.append(received))
    quiet_start()
    endpoint = pj.Endpoint()
    endpoint.libCreate()
    account = writer = None
    try:
        info, writer = start_endpoint(settings, endpoint)
        account = LoopbackAccount()
        account.create(account_config(settings), True)
        sys.stdout.write(f"ready: sip:{info.host}:{info.port}, holds {info.capacity} calls\n")
        sys.stdout.flush()
        while not stopping:
            endpoint.libHandleEvents(_POLL_MS)
        endpoint.hangupAllCalls()
        for _ in range(100):
            if not account.calls:
                break
            endpoint.libHandleEvents(_POLL_MS)
    finally:
        # By hand and in this order: the library aborts when it ends before what was made of it.
        if account is not None:
            account.calls.clear()
            account.shutdown()
        endpoint.libDestroy()
        del writer


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(
        prog="python -m gateway.sip.library.loopback", description="Play each caller's audio back."
    )
    parser.add_argument("--host", default="127.0.0.1", help="IPv4 address to listen on")
    parser.add_argument("--port", type=int, default=0, help="SIP port; 0 takes a free one")
    parser.add_argument("--rtp-port-min", type=int, default=18000, help="first RTP port, even")
    options = parser.parse_args()
    enter_role("sip")  # the whole program is the SIP thread
    first = options.rtp_port_min
    loop_back(SipSettings(host=options.host, port=options.port, rtp_port_min=first, rtp_port_max=first + 98))


if __name__ == "__main__":
    main()
