"""Settings of the SIP side and of a trunk -> pjsua2's configuration of an account."""

from __future__ import annotations

import socket

from gateway.settings.sip import SipSettings, Srtp, TrunkSettings, media_host
from gateway.sip.core.addressing import own_uri
from gateway.sip.library.pj import pj

CATCH_ALL_USER = "gateway"


def account_config(
    settings: SipSettings,
    trunk: TrunkSettings | None = None,
    password: str | None = None,
    *,
    register: bool = False,
) -> pj.AccountConfig:
    """
    Return the configuration of an account. Thread: sip.

    Args:
        settings: of the user agent.
        trunk: the trunk it serves; None for the one that takes every other call.
        password: of the trunk's digest.
        register: have the library keep a registration at the trunk.
    """
    config = pj.AccountConfig()
    _set_media(config, settings, trunk)
    _set_call(config.callConfig, settings)
    if settings.public_address or settings.edge:
        config.natConfig.contactRewriteUse = 0  # our address is known: nobody need tell us
    if trunk is None:
        config.idUri = f"sip:{CATCH_ALL_USER}@{own_address(settings)}"
        _set_proxies(config, settings)
    else:
        config.idUri = own_uri(trunk)
        _set_proxies(config, settings, trunk)
        _set_trunk(config, trunk, password, register=register)
    return config


def own_address(settings: SipSettings) -> str:
    """Return the host in our addresses where no trunk's is meant."""
    host = settings.public_address or media_host(settings)
    return host if host != "0.0.0.0" else "127.0.0.1"


def edge_contact(settings: SipSettings, trunk: TrunkSettings) -> tuple[str, str]:
    """
    Return where a trunk reaches the edge that registrations leave through: ``host:port``, and parameters of the URI.

    Over TLS that is another port, ``tls_port``.
    """
    at = settings.edge_contact or settings.edge or ""
    if trunk.transport == "tls":
        at = f"{at.partition(':')[0]}:{settings.tls_port}"
    return at, _over(trunk)


def server_uri(trunk: TrunkSettings) -> str:
    """Return the address of a trunk's server: its registrar, if it has one."""
    return f"sip:{trunk.host}{_over(trunk)}"


def media_bound_to(settings: SipSettings) -> str:
    """Return the address that RTP sockets are bound to; empty for any, as where ``media_address`` is a router's."""
    if settings.media_address is None:
        return "" if settings.host == "0.0.0.0" else settings.host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((settings.media_address, 0))
        except OSError:
            return ""
    return settings.media_address


def _set_media(config: pj.AccountConfig, settings: SipSettings, trunk: TrunkSettings | None) -> None:
    media = config.mediaConfig
    transport = media.transportConfig
    transport.port = settings.rtp_port_min
    transport.portRange = settings.rtp_port_max - settings.rtp_port_min
    transport.boundAddress = media_bound_to(settings)
    transport.publicAddress = settings.media_address or settings.public_address or ""
    media.srtpUse = _srtp(trunk.srtp if trunk is not None and trunk.srtp is not None else settings.srtp)
    media.lockCodecEnabled = False  # an UPDATE nobody needs, and unanswered it would end the call; see CodecWatch
    media.srtpSecureSignaling = 0  # SDES over plain SIP too: what a trunk offers is its decision, a log line says so
    # SDES alone: an offer of DTLS-SRTP kills this build of the library when it may answer it.
    media.srtpOpt.keyings = pj.IntVector([pj.PJMEDIA_SRTP_KEYING_SDES])


def _srtp(policy: Srtp) -> int:
    uses = {
        "off": pj.PJMEDIA_SRTP_DISABLED,
        "optional": pj.PJMEDIA_SRTP_OPTIONAL,
        "required": pj.PJMEDIA_SRTP_MANDATORY,
    }
    return int(uses[policy])


def _set_call(call: pj.AccountCallConfig, settings: SipSettings) -> None:
    reliable = {
        "off": pj.PJSUA_100REL_NOT_USED,
        "optional": pj.PJSUA_100REL_OPTIONAL,
        "required": pj.PJSUA_100REL_MANDATORY,
    }
    timers = {
        "off": pj.PJSUA_SIP_TIMER_INACTIVE,
        "optional": pj.PJSUA_SIP_TIMER_OPTIONAL,
        "required": pj.PJSUA_SIP_TIMER_REQUIRED,
    }
    call.prackUse = reliable[settings.reliable_ringing]
    call.timerUse = timers[settings.session_timer]
    call.timerMinSESec = settings.session_min_s
    call.timerSessExpiresSec = settings.session_expires_s


def _set_proxies(config: pj.AccountConfig, settings: SipSettings, trunk: TrunkSettings | None = None) -> None:
    """Set the way of all that begins here (RFC 3261 section 16.12): the edge, then the trunk's own proxy."""
    if settings.edge is not None:
        config.sipConfig.proxies.append(f"sip:{settings.edge};lr")
    if trunk is not None and trunk.outbound_proxy is not None:
        config.sipConfig.proxies.append(f"sip:{trunk.outbound_proxy};lr{_over(trunk)}")


def _over(trunk: TrunkSettings) -> str:
    return "" if trunk.transport == "udp" else f";transport={trunk.transport}"


def _set_trunk(config: pj.AccountConfig, trunk: TrunkSettings, password: str | None, *, register: bool) -> None:
    if trunk.username is not None and password is not None:
        credential = pj.AuthCredInfo("digest", trunk.realm, trunk.auth_username or trunk.username, 0, password)
        config.sipConfig.authCreds.append(credential)
    if not register:
        return
    registration = config.regConfig
    registration.registrarUri = server_uri(trunk)
    registration.registerOnAdd = False  # the first REGISTER goes out when everything else stands
    registration.timeoutSec = trunk.register_expires_s
    # accounts.py decides when to try again and when to refresh: the library knows no growing waits and no Retry-After,
    # and measured, it never refreshes a binding that was granted for less than its margin.
    registration.retryIntervalSec = registration.firstRetryIntervalSec = 0
