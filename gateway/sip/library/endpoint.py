"""
``SipSettings`` -> pjsua2's configuration objects, and the endpoint made of them.

How this folder works. ``pj`` is the one import of pjsua2 and raises an error that says what is missing where the
wheel is not installed. ``sip/thread.py`` creates the ``GatewayEndpoint`` on the SIP thread and has it started here:
log, media, codecs and jitter buffer are set first, then the screen is put in front (``before_listening``), and only
then are ``transports`` opened, so that no message ever reaches an unscreened library. ``account_config`` turns a
trunk's settings into an account, ``frame_bytes`` finds the fastest way to a frame's samples, ``stun`` asks for our
public address, ``log`` takes the library's lines into ours, and ``loopback`` is the least that a call costs, for the
bench.

All of it runs on the SIP thread. What pjsua2 cannot do is reached through ``sip/native``.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from gateway.audio.pcm import PHONE, WIDEBAND, PcmFormat
from gateway.errors import SipError
from gateway.settings.sip import Codec, SipSettings, TrunkSettings
from gateway.sip.core.jitter import FRAME_MS
from gateway.sip.library.log import PjLog
from gateway.sip.library.pj import pj
from gateway.sip.library.transports import listen
from gateway.sip.native.guard import callback, describe
from gateway.sip.native.jitter_buffer import DISCARD_NONE, DISCARD_STATIC
from gateway.sip.native.library import native, stay_on_udp
from gateway.threads import runs_on

USER_AGENT = "sip-voice-gateway"
MOST_CALLS = 1000
CODEC_IDS: Mapping[Codec, str] = {"G722": "G722/16000/1", "PCMU": "PCMU/8000/1", "PCMA": "PCMA/8000/1"}

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SipInfo:
    """
    What the SIP stack turned out to be.

    Attributes:
        version: of pjproject.
        capacity: calls this build holds at once.
        host: address it listens on.
        port: SIP port.
        transports: names of the transports that listen there.
        frame_access: how audio frames are read.
        tls_port: SIP port of TLS; 0 when it does not listen there.
        pcm: what the bridge carries: 16 kHz when G.722 is among the codecs, else 8 kHz.
    """

    version: str
    capacity: int
    host: str
    port: int
    transports: tuple[str, ...]
    frame_access: str
    tls_port: int = 0
    pcm: PcmFormat = PHONE


class GatewayEndpoint(pj.Endpoint):
    """
    The library itself, with the two questions it asks us. Thread: sip.

    Attributes:
        account_for: gives the number of the account that takes a request, from ``address:port`` and its text; None
            leaves the choice to the library, which goes by the Request-URI, and anyone can write that.
        connection_lost: hears that a TCP or TLS connection of ours is gone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.account_for: Callable[[str, str], int] | None = None
        self.connection_lost: Callable[[], None] | None = None

    @callback
    def onSelectAccount(self, prm: pj.OnSelectAccountParam) -> None:
        """Let the source decide whose call it is."""
        if self.account_for is not None:
            received = prm.rdata
            prm.accountIndex = self.account_for(received.srcAddress, received.wholeMsg)

    @callback
    def onTransportState(self, prm: pj.OnTransportStateParam) -> None:
        """Hear of broken connections."""
        if prm.state == pj.PJSIP_TP_STATE_DISCONNECTED and self.connection_lost is not None:
            self.connection_lost()

    @runs_on("sip")
    def ask_nobody(self) -> None:
        """Ask no questions any more: who could answer is going away."""
        self.account_for = self.connection_lost = None


def quiet_start() -> None:
    """Keep the library from printing to standard output before its log is configured."""
    set_level = native("pj_log_set_level")
    if set_level is not None:
        set_level(0)


def call_capacity(configured: int) -> int:
    """
    Return how many calls this build of pjsua2 holds at once.

    A constant of the build (``PJSUA_MAX_CALLS``) that pjsua2 does not show, so the C function behind it is asked.

    Args:
        configured: what ``uaConfig.maxCalls`` offers by default; true for builds that export no C function.
    """
    ask = native("pjsua_call_get_max_count")
    return int(ask()) if ask is not None else configured


def probed_capacity() -> int:
    """
    Return how many calls one process of this build holds; the library tells only once it was started.

    So a process that is forked for the purpose starts it and ends. Call it in a process without other threads.

    Raises:
        SipError: the library is missing or does not start.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            quiet_start()
            endpoint, config = GatewayEndpoint(), pj.EpConfig()
            endpoint.libCreate()
            default = config.uaConfig.maxCalls
            config.uaConfig.maxCalls = MOST_CALLS
            config.uaConfig.threadCnt = 0
            config.logConfig.level = config.logConfig.consoleLevel = 0
            endpoint.libInit(config)
            os.write(writing, str(call_capacity(default)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as answer:
        told = answer.read()
    os.waitpid(pid, 0)
    if not told:
        raise SipError("pjsua2 did not start in a process of its own; `gateway serve` without --calls tells why")
    return int(told)


def phone_format(settings: SipSettings, trunks: Mapping[str, TrunkSettings]) -> PcmFormat:
    """Return what a call's audio is here: 16 kHz when G.722 is among the codecs, else 8 kHz."""
    return WIDEBAND if "G722" in codecs_wanted(settings, trunks) else PHONE


def start_endpoint(
    settings: SipSettings,
    endpoint: pj.Endpoint,
    trunks: Mapping[str, TrunkSettings] | None = None,
    *,
    before_listening: Callable[[], object] = lambda: None,
    jitter_followed: bool = False,
) -> tuple[SipInfo, pj.LogWriter]:
    """
    Initialise and start an endpoint that ``libCreate`` was called on.

    Args:
        settings: address, ports, log level.
        endpoint: the ``pj.Endpoint``.
        trunks: whose codecs are needed too, and whose TLS needs a transport of ours.
        before_listening: called when the library is initialised but not reachable yet.
        jitter_followed: the jitter buffers are looked after; else they get shorter by themselves.

    Returns:
        What was started (without ``frame_access``), and the log writer, which must live as long as the endpoint.

    Raises:
        SipError: an address or port is not available, or the library failed; the text names the setting.

    Thread: sip.
    """
    trunks = trunks or {}
    codecs = codecs_wanted(settings, trunks)
    pcm = phone_format(settings, trunks)
    config = pj.EpConfig()
    default_calls = config.uaConfig.maxCalls
    writer = PjLog()
    _set_agent(config, settings, writer)
    _set_media(config.medConfig, settings, pcm, DISCARD_NONE if jitter_followed else DISCARD_STATIC)
    if not stay_on_udp():
        _log.warning("sip_long_requests_by_tcp", detail="this build sends requests over 1300 bytes by TCP")
    try:
        endpoint.libInit(config)
        endpoint.audDevManager().setNullDev()  # the bridge runs on its own clock, without a sound card
        _set_codecs(endpoint, codecs, settings.ptime_ms)
        before_listening()
        client_tls = settings.edge is None and any(trunk.transport == "tls" for trunk in trunks.values())
        listening = listen(settings, endpoint, client_tls=client_tls)
        endpoint.libStart()
    except pj.Error as error:
        raise SipError(f"pjsua2 did not start: {describe(error)}") from error
    if not settings.tls and any(_srtp_of(trunk, settings) != "off" for trunk in (None, *trunks.values())):
        _log.info("srtp_keys_in_clear", detail="SRTP is on; over UDP and TCP its keys travel unencrypted: use TLS")
    info = SipInfo(
        version=endpoint.libVersion().full,
        capacity=call_capacity(default_calls),
        host=settings.host,
        port=listening.port,
        transports=listening.names,
        frame_access="",
        tls_port=listening.tls_port,
        pcm=pcm,
    )
    return info, writer


def codecs_wanted(settings: SipSettings, trunks: Mapping[str, TrunkSettings]) -> tuple[Codec, ...]:
    """Return the codecs that this process must have, the settings' own first, in order."""
    more = (codec for trunk in trunks.values() for codec in trunk.codecs or ())
    return tuple(dict.fromkeys((*settings.codecs, *more)))


def _srtp_of(trunk: TrunkSettings | None, settings: SipSettings) -> str:
    return settings.srtp if trunk is None or trunk.srtp is None else trunk.srtp


def _set_agent(config: pj.EpConfig, settings: SipSettings, writer: pj.LogWriter) -> None:
    agent, log = config.uaConfig, config.logConfig
    agent.maxCalls = MOST_CALLS  # cut down by the library to what the build holds
    agent.userAgent = USER_AGENT
    agent.threadCnt = 0
    agent.mainThreadOnly = True
    log.level = log.consoleLevel = settings.log_level
    log.msgLogging = settings.log_level >= 4
    log.decor = 0
    log.writer = writer


def _set_media(media: pj.MediaConfig, settings: SipSettings, pcm: PcmFormat, discard: int) -> None:
    media.clockRate = media.sndClockRate = pcm.rate_hz  # the bridge resamples nothing
    media.audioFramePtime = pcm.ptime_ms
    media.noVad = True  # RTP flows all the time: callers behind NAT and impatient peers need it
    media.ecTailLen = 0
    media.jbInit = settings.jitter_start_ms
    media.jbMinPre = settings.jitter_min_ms
    media.jbMaxPre = settings.jitter_max_ms
    media.jbMax = settings.jitter_max_ms + max(settings.jitter_max_ms // 4, 2 * pcm.ptime_ms)
    _set_jitter_discard(media, discard)


def _set_codecs(endpoint: pj.Endpoint, codecs: tuple[Codec, ...], ptime_ms: int) -> None:
    ranks = {CODEC_IDS[codec]: 255 - rank for rank, codec in enumerate(codecs)}
    for codec in endpoint.codecEnum2():
        endpoint.codecSetPriority(codec.codecId, ranks.get(codec.codecId, 0))
    for codec_id in ranks:
        # A default: the far end's a=ptime counts above it (RFC 4566 section 6).
        parameters = endpoint.codecGetParam(codec_id)
        setting = parameters.setting
        setting.frmPerPkt = max(1, ptime_ms // FRAME_MS)
        setting.plc = True
        endpoint.codecSetParam(codec_id, parameters)


def _set_jitter_discard(media: pj.MediaConfig, algorithm: int) -> None:
    """Set an enumeration that the binding shows as a bare pointer to a C ``int``."""
    pointer = media.jbDiscardAlgo
    ctypes.c_int.from_address(int(pointer)).value = algorithm
    media.jbDiscardAlgo = pointer
    pointer.disown()  # else SWIG prints that it does not know how to free an int
