"""The SIP transports: UDP, TCP and TLS sockets of the library."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from gateway.errors import SipError
from gateway.free_port import free_port
from gateway.settings.sip import SipSettings
from gateway.sip.library.pj import pj
from gateway.sip.native.guard import describe


@dataclass(frozen=True, slots=True)
class ListeningPorts:
    """Where SIP comes in: the port of UDP and TCP, the one of TLS (0: none), and what is open."""

    port: int
    tls_port: int
    names: tuple[str, ...]


def listen(settings: SipSettings, endpoint: pj.Endpoint, *, client_tls: bool = False) -> ListeningPorts:
    """
    Open the transports. Thread: sip, after ``libInit``.

    Args:
        settings: which, where, and the certificate of TLS.
        endpoint: the ``pj.Endpoint``.
        client_tls: a trunk is reached over TLS, so there must be a TLS transport even if it takes no calls.

    Raises:
        SipError: an address, port or certificate is not available; the text names the setting.
    """
    port = settings.port or free_port(settings.host)
    opened = []
    for name, kind, wanted in (
        ("UDP", pj.PJSIP_TRANSPORT_UDP, settings.udp),
        ("TCP", pj.PJSIP_TRANSPORT_TCP, settings.tcp),
    ):
        if wanted:
            _open(settings, endpoint, name, kind, port)
            opened.append(name)
    tls_port = 0
    if settings.tls or client_tls:
        tls_port = (settings.tls_port if settings.tls else 0) or free_port(settings.host)
        _open(settings, endpoint, "TLS", pj.PJSIP_TRANSPORT_TLS, tls_port)
    if settings.tls:
        opened.append("TLS")
    return ListeningPorts(port, tls_port if settings.tls else 0, tuple(opened))


def _open(settings: SipSettings, endpoint: pj.Endpoint, name: str, kind: int, port: int) -> None:
    config = pj.TransportConfig()
    config.port = port
    config.boundAddress = "" if settings.host == "0.0.0.0" else settings.host
    config.publicAddress = settings.public_address or ""
    if name == "TLS":
        _set_tls(config.tlsConfig, settings)
    try:
        endpoint.transportCreate(kind, config)
    except pj.Error as error:
        variable = "GATEWAY_SIP__TLS_PORT" if name == "TLS" else "GATEWAY_SIP__PORT or --port"
        raise SipError(
            f"cannot listen for SIP on {settings.host}:{port} over {name}: {describe(error)}. "
            f"Is another program using it? Choose another with {variable}"
        ) from error


def check_tls_files(settings: SipSettings) -> None:
    """
    Read the files of TLS: the library takes any, and then refuses every connection.

    Raises:
        SipError: one is missing or no PEM file; the text names it and the setting.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        if settings.tls and settings.tls_certificate is not None:
            context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    except OSError as error:
        raise SipError(
            f"sip.tls_certificate and sip.tls_key: {settings.tls_certificate} and {settings.tls_key} are no PEM files "
            f"of a certificate and its key: {error}; correct them"
        ) from error
    try:
        if settings.tls_authorities is not None:
            context.load_verify_locations(settings.tls_authorities)
    except OSError as error:
        raise SipError(
            f"sip.tls_authorities: {settings.tls_authorities} is no PEM file of certificates: {error}; correct it"
        ) from error


def _set_tls(tls: pj.TlsConfig, settings: SipSettings) -> None:
    # 1.3 is not in this build's OpenSSL; 1.0 and 1.1 are no longer to be used (RFC 8996).
    tls.proto = pj.PJ_SSL_SOCK_PROTO_TLS1_2
    if settings.tls:
        tls.certFile = str(settings.tls_certificate)
        tls.privKeyFile = str(settings.tls_key)
    if settings.tls_authorities is not None:
        tls.CaListFile = str(settings.tls_authorities)
        tls.verifyServer = True
    tls.msecTimeout = 5000
