"""``SipSettings`` -> pjsua2's configuration objects, and the endpoint made of them."""

from __future__ import annotations

import ctypes
import socket
import sys
from dataclasses import dataclass
from typing import Any

import structlog

from gateway.audio.pcm import PHONE
from gateway.errors import SipError
from gateway.settings import SipSettings
from gateway.sip.binding import pj
from gateway.sip.guard import describe

USER_AGENT = "sip-voice-gateway"
CODECS = ("PCMU/8000/1", "PCMA/8000/1")
# Measured: with the library's default the jitter buffer damages up to 7 % of the frames even on loopback.
JITTER_BUFFER_MS = 40
# PJMEDIA_JB_DISCARD_STATIC shortens only a buffer that stays too long. The default, progressive, takes 10 ms out of
# nearly every call in its second second, which is a click.
JITTER_DISCARD = 1

_pjsip_log = structlog.get_logger("pjsip")


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
    """

    version: str
    capacity: int
    host: str
    port: int
    transports: tuple[str, ...]
    frame_access: str


class _PjLog(pj.LogWriter):
    """PJSIP's own log lines, into ours. The library hands over lines of other threads on ``sip``."""

    # What PJSIP calls an error is mostly a peer's: an offer without a codec of ours, a connection that broke.
    _LEVELS = ("error", "warning", "info", "info", "debug", "debug", "debug")

    def write(self, entry: Any) -> None:
        text = entry.msg.encode("utf-8", "surrogateescape").decode("utf-8", "replace").strip()
        getattr(_pjsip_log, self._LEVELS[min(entry.level, 6)])(text)


def quiet_start() -> None:
    """Keep the library from printing to standard output before its log is configured."""
    native = _native("pj_log_set_level")
    if native is not None:
        native(0)


def _native(name: str) -> Any:
    """Return a function of the C library inside the extension module, or None where it is not exported."""
    extension = sys.modules.get("pjsua2._pjsua2") or sys.modules.get("_pjsua2")
    path = getattr(extension, "__file__", None)
    return getattr(ctypes.CDLL(path), name, None) if path else None


def call_capacity(configured: int) -> int:
    """
    Return how many calls this build of pjsua2 holds at once.

    A constant of the build (``PJSUA_MAX_CALLS``) that pjsua2 does not show, so the C function behind it is asked.

    Args:
        configured: what ``uaConfig.maxCalls`` offers by default; true for builds that export no C function.
    """
    native = _native("pjsua_call_get_max_count")
    return int(native()) if native is not None else configured


def start_endpoint(settings: SipSettings, endpoint: Any) -> tuple[SipInfo, Any]:
    """
    Initialise and start an endpoint that ``libCreate`` was called on.

    Args:
        settings: address, ports, log level.
        endpoint: the ``pj.Endpoint``.

    Returns:
        What came of it (without ``frame_access``), and the log writer, which must live as long as the endpoint.

    Raises:
        SipError: an address or port cannot be had, or the library failed; the text names the setting.

    Thread: sip.
    """
    config = pj.EpConfig()
    default_calls = config.uaConfig.maxCalls
    config.uaConfig.maxCalls = 1000  # cut down by the library to what the build holds
    config.uaConfig.userAgent = USER_AGENT
    config.uaConfig.threadCnt = 0
    config.uaConfig.mainThreadOnly = True
    writer = _PjLog()
    config.logConfig.level = config.logConfig.consoleLevel = settings.log_level
    config.logConfig.msgLogging = settings.log_level >= 4
    config.logConfig.decor = 0
    config.logConfig.writer = writer
    media = config.medConfig
    media.clockRate = media.sndClockRate = PHONE.rate_hz  # the bridge resamples nothing
    media.audioFramePtime = PHONE.ptime_ms
    media.noVad = True  # RTP flows all the time: callers behind NAT and impatient peers need it
    media.ecTailLen = 0
    media.jbInit = media.jbMinPre = JITTER_BUFFER_MS
    _set_jitter_discard(media, JITTER_DISCARD)
    try:
        endpoint.libInit(config)
        endpoint.audDevManager().setNullDev()  # the bridge runs on its own clock, without a sound card
        for codec in endpoint.codecEnum2():
            rank = CODECS.index(codec.codecId) if codec.codecId in CODECS else None
            endpoint.codecSetPriority(codec.codecId, 0 if rank is None else 255 - rank)
        port, transports = _listen(settings, endpoint)
        endpoint.libStart()
    except pj.Error as error:
        raise SipError(f"pjsua2 did not start: {describe(error)}") from error
    info = SipInfo(
        version=endpoint.libVersion().full,
        capacity=call_capacity(default_calls),
        host=settings.host,
        port=port,
        transports=transports,
        frame_access="",
    )
    return info, writer


def _set_jitter_discard(media: Any, algorithm: int) -> None:
    """Set an enumeration that the binding shows as a bare pointer to a C ``int``."""
    pointer = media.jbDiscardAlgo
    ctypes.c_int.from_address(int(pointer)).value = algorithm
    media.jbDiscardAlgo = pointer
    pointer.disown()  # else SWIG prints that it does not know how to free an int


def _listen(settings: SipSettings, endpoint: Any) -> tuple[int, tuple[str, ...]]:
    """Open the transports on one port; return it and their names."""
    port = settings.port or _free_port(settings.host)
    opened = []
    for name, kind, wanted in (
        ("UDP", pj.PJSIP_TRANSPORT_UDP, settings.udp),
        ("TCP", pj.PJSIP_TRANSPORT_TCP, settings.tcp),
    ):
        if not wanted:
            continue
        config = pj.TransportConfig()
        config.port = port
        config.boundAddress = "" if settings.host == "0.0.0.0" else settings.host
        config.publicAddress = settings.public_address or ""
        try:
            endpoint.transportCreate(kind, config)
        except pj.Error as error:
            raise SipError(
                f"cannot listen for SIP on {settings.host}:{port} over {name}: {describe(error)}. "
                "Is another program using it? Choose another with GATEWAY_SIP__PORT or --port"
            ) from error
        opened.append(name)
    return port, tuple(opened)


def _free_port(host: str) -> int:
    """Return a port that neither UDP nor TCP uses now."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            udp.bind((host, 0))
            port = int(udp.getsockname()[1])
            try:
                tcp.bind((host, port))
            except OSError:
                continue
            return port


def account_config(settings: SipSettings) -> Any:
    """Return the configuration of the one account that takes every call. Thread: sip."""
    config = pj.AccountConfig()
    address = settings.public_address or (settings.host if settings.host != "0.0.0.0" else "127.0.0.1")
    config.idUri = f"sip:gateway@{address}"
    transport = config.mediaConfig.transportConfig
    transport.port = settings.rtp_port_min
    transport.portRange = settings.rtp_port_max - settings.rtp_port_min
    transport.boundAddress = "" if settings.host == "0.0.0.0" else settings.host
    transport.publicAddress = settings.public_address or ""
    return config
