"""The SIP side's settings: the user agent itself, and the trunks it lives among."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from gateway.phone_numbers import NumberFormat, is_country
from gateway.settings.section import Name, Port, PositiveSeconds, Section, listed

MAX_TRUNKS = 6
"""A build of pjsua2 holds 8 accounts; one takes the calls from no trunk, one is kept free."""

Codec = Literal["G722", "PCMU", "PCMA"]
Srtp = Literal["off", "optional", "required"]
RtpSource = Literal["learned", "signalled"]
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,253}[A-Za-z0-9])?(:\d{1,5})?")


NO_IPV6 = "this build of pjsua2 has no IPv6; put a SIP proxy that has it in front, such as Kamailio"


def _host(text: str) -> str:
    if text.count(":") > 1:
        raise ValueError(NO_IPV6)
    if _HOST.fullmatch(text) is None:
        raise ValueError(f"{text!r} is not a host; give a name or an IPv4 address, with :port unless it is the default")
    return text


def _network(text: str) -> str:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is not a network; give one such as 192.0.2.0/24 or 192.0.2.7") from None
    return str(network)


def _ipv4_network(text: str) -> str:
    network = _network(text)
    if ":" in network:
        raise ValueError(NO_IPV6)
    return network


def _name_server(text: str) -> str:
    address, _, port = text.partition(":")
    try:
        ipaddress.IPv4Address(address)
    except ValueError:
        raise ValueError(f"{text!r} is not an IPv4 address; give one such as 192.0.2.53 or 192.0.2.53:5353") from None
    if port and not 0 < int(port if port.isdecimal() else 0) < 65536:
        raise ValueError(f"{text!r} has no valid port; give one such as 192.0.2.53:5353")
    return text


Host = Annotated[str, AfterValidator(_host)]
NameServer = Annotated[str, AfterValidator(_name_server)]
Networks = Annotated[tuple[Annotated[str, AfterValidator(_network)], ...], BeforeValidator(listed)]
"""IPv6 too, which comes by an edge alone: ``trunk_mistakes`` looks at that."""
Ipv4Networks = Annotated[tuple[Annotated[str, AfterValidator(_ipv4_network)], ...], BeforeValidator(listed)]
Codecs = Annotated[tuple[Codec, ...], BeforeValidator(listed), Field(min_length=1)]


def _country(code: str) -> str:
    if not is_country(code):
        raise ValueError(
            f"{code!r} is not a country with telephone numbers; use a two-letter ISO 3166 code such as DE or US"
        )
    return code


Country = Annotated[str, AfterValidator(_country)]


IdentityHeader = Literal["from", "p-asserted-identity", "p-preferred-identity", "remote-party-id"]
CalledPlace = Literal["auto", "request-uri", "to", "p-called-party-id", "diversion"]
_DIAL_FORMATS = {"e164": "plus", "national": "national", "as_given": "as-is"}


def _identity_headers(value: object) -> object:
    value = listed(value)
    return ("from", "p-asserted-identity") if value == ("both",) else value


def _number(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isdecimal() else value  # variables are text


class TrunkSettings(Section):
    """
    A carrier or PBX: calls from its addresses are its own, calls out may go through it.

    Its password is not here: ``password_from`` names one of the ``secrets``.
    """

    host: Host = Field(description="registrar or peer: name or IPv4 address, with :port if it is not the default")
    transport: Literal["udp", "tcp", "tls"] = Field("udp", description="transport to reach it over")
    register_here: bool = Field(False, alias="register", description="register there (RFC 3261 section 10)")
    register_expires_s: int = Field(300, ge=30, le=86400, description="registration lifetime to ask for")
    register_retry_s: int = Field(
        30, ge=1, le=3600, description="delay after a failed registration; it doubles with each failure"
    )
    username: str | None = Field(None, min_length=1, description="account name, the user part of our address there")
    auth_username: str | None = Field(
        None, min_length=1, description="user name for digest authentication; if not set, username"
    )
    password_from: Name | None = Field(None, description="which of the `secrets` holds the password")
    realm: str = Field("*", min_length=1, description="realm for digest authentication; * is any")
    outbound_proxy: Host | None = Field(None, description="where to send its requests instead of host")
    networks: Networks = Field(
        (), description="networks its calls come from; an IPv4 address in host is always one of them"
    )
    tls_name: str | None = Field(
        None,
        min_length=1,
        description="name in the certificate that it calls with over TLS, as an edge has verified it",
    )
    challenge: bool = Field(
        False, description="require digest authentication for its INVITEs (username, password_from)"
    )
    digest_uri: Literal["request-uri", "any"] = Field(
        "request-uri",
        description="with challenge: the URI that the digest must cover; any if proxies rewrite the Request-URI",
    )
    codecs: Codecs | None = Field(None, description="G722, PCMU, PCMA in order of preference; if not set, sip.codecs")
    srtp: Srtp | None = Field(None, description="SDES: off, optional or required; if not set, sip.srtp")
    rtp_source: RtpSource | None = Field(None, description="where its RTP may come from; if not set, sip.rtp_source")
    dtmf: Literal["rfc4733", "info"] = Field("rfc4733", description="how DTMF digits are sent")
    caller_id: str | None = Field(None, min_length=1, description="number we call as, unless an order gives another")
    caller_id_header: Annotated[tuple[IdentityHeader, ...], BeforeValidator(_identity_headers), Field(min_length=1)] = (
        Field(
            ("from",),
            description="headers that carry the number we call as: from, p-asserted-identity, p-preferred-identity "
            "(RFC 3325), remote-party-id, or a list of them; with privacy, From never carries it",
        )
    )
    own_number_header: Literal["p-asserted-identity", "p-preferred-identity"] | None = Field(
        None, description="header that carries caller_id when another number is shown, for trunks that want both"
    )
    show_caller: bool | None = Field(
        None,
        description="calls placed for a caller (dial, transfers) show the caller's number; if not set, only "
        "when the trunk has neither caller_id nor username",
    )
    privacy: bool = Field(False, description="ask the trunk to withhold our number (RFC 3323)")
    trust_identity: bool = Field(False, description="take the caller from its P-Asserted-Identity or Remote-Party-ID")
    called_number: CalledPlace = Field(
        "auto",
        description="where the called number is read: request-uri, to, p-called-party-id, diversion; auto is "
        "the Request-URI, or for a trunk with a username the first of them whose number is not the "
        "username",
    )
    country: Country | None = Field(
        None, description="ISO 3166 country whose national numbers it uses; if not set, numbers are left as they are"
    )
    numbers: NumberFormat | None = Field(
        None,
        description="how it writes numbers: plus, e164-without-plus, national, as-is; if not set, only "
        "unambiguous ones are read",
    )
    numbers_out: NumberFormat | None = Field(
        None,
        description="how numbers are sent to it, if not the way it writes them; if not set, as numbers says, or as-is",
    )
    user_phone: Literal["plus", "always", "never"] = Field(
        "plus",
        description="which numbers in calls we place get ;user=phone: those with a plus, always, never",
    )
    max_calls: int | None = Field(
        None,
        ge=1,
        description="concurrent calls in both directions, per worker; behind an edge, those that come in over all "
        "workers; if not set, no limit",
    )
    transfers: Literal["refer", "refer_or_bridge", "bridge"] = Field(
        "refer_or_bridge",
        description="how callers are transferred: by REFER, by bridging in the gateway, or REFER first and then "
        "bridging",
    )

    @model_validator(mode="before")
    @classmethod
    def _takes_dial_format(cls, given: Any) -> Any:
        """Take the key that ``numbers_out`` was before."""
        if not isinstance(given, dict) or "dial_format" not in given:
            return given
        old = given["dial_format"]
        if old not in _DIAL_FORMATS or "numbers_out" in given:
            raise ValueError("dial_format is now numbers_out (plus, e164-without-plus, national, as-is); use that")
        return {key: each for key, each in given.items() if key != "dial_format"} | {"numbers_out": _DIAL_FORMATS[old]}

    @property
    def sends_numbers(self) -> NumberFormat:
        """How numbers are sent to it."""
        return self.numbers_out or self.numbers or "as-is"

    @property
    def shows_caller(self) -> bool:
        """Whether a call that is placed for a caller shows the caller's number."""
        has_own = self.caller_id is not None or self.username is not None
        return not has_own if self.show_caller is None else self.show_caller


class SipSettings(Section):
    """The SIP user agent and its RTP."""

    host: str = Field("0.0.0.0", description="IPv4 address to listen on; 0.0.0.0 is every interface")
    port: Port = Field(5060, description="SIP port for UDP and TCP; 0 picks a free one")
    udp: bool = Field(True, description="listen for SIP over UDP")
    tcp: bool = Field(True, description="listen for SIP over TCP")
    tls: bool = Field(
        False, description="listen for SIP over TLS; the OpenSSL inside is old: use it for trunks, not for strangers"
    )
    tls_port: Port = Field(5061, description="SIP port for TLS; 0 picks a free one")
    tls_certificate: Path | None = Field(None, description="PEM file with our certificate and its chain")
    tls_key: Path | None = Field(None, description="PEM file with the certificate's private key")
    tls_authorities: Path | None = Field(
        None, description="PEM file with certificate authorities; if set, trunks' certificates are verified"
    )
    public_address: str | None = Field(
        None, description="address that callers reach us at, sent in Contact and SDP (behind NAT)"
    )
    stun_server: Host | None = Field(
        None, description="host[:port] of a STUN server that tells our public address (RFC 5389)"
    )
    media_address: str | None = Field(
        None, description="address for RTP in SDP, if it is not the one that SIP uses, such as behind an edge"
    )
    edges: Ipv4Networks = Field(
        (),
        description="networks of the SIP proxies in front (edges): only they may call, and they say who the caller is, "
        "in X-Gateway-Source",
    )
    edge: Host | None = Field(None, description="host:port of the edge that calls out and registrations leave through")
    edge_contact: Host | None = Field(
        None, description="host:port that trunks reach the edge at, for registrations; if not set, edge"
    )
    name_servers: Annotated[tuple[NameServer, ...], BeforeValidator(listed)] = Field(
        (), description="IPv4 addresses of DNS servers, with :port if not 53; if not set, those of /etc/resolv.conf"
    )
    dns_timeout_s: PositiveSeconds = Field(4, description="limit for one query to the DNS servers")
    failover_s: PositiveSeconds = Field(
        4, description="a server that sends no answer for this long is skipped if its name has another"
    )
    rtp_port_min: Port = Field(10000, description="first RTP port, an even number")
    rtp_port_max: Port = Field(10199, description="last RTP port; a call takes two (RTP, RTCP)")
    codecs: Codecs = Field(("PCMU", "PCMA"), description="in order of preference; G722 makes the worker's audio 16 kHz")
    ptime_ms: Annotated[Literal[10, 20, 30, 40, 60], BeforeValidator(_number)] = Field(
        20, description="milliseconds of audio per RTP packet, unless the other side asks for another length"
    )
    srtp: Srtp = Field("off", description="SDES for calls that belong to no trunk: off, optional or required")
    rtp_source: RtpSource = Field(
        "learned", description="learned: RTP may come from any address (NAT); signalled: only from the address in SDP"
    )
    jitter_start_ms: int = Field(60, ge=0, le=500, description="jitter buffer: delay at the start and after a pause")
    jitter_min_ms: int = Field(
        20, ge=0, le=500, description="jitter buffer: delay after an underrun, on a line without gaps"
    )
    jitter_max_ms: int = Field(200, ge=40, le=2000, description="jitter buffer: longest delay")
    reliable_ringing: Literal["off", "optional", "required"] = Field(
        "optional", description="reliable provisional responses, 100rel (RFC 3262)"
    )
    session_timer: Literal["off", "optional", "required"] = Field("optional", description="session timers (RFC 4028)")
    session_expires_s: int = Field(1800, ge=90, description="session interval that we request")
    session_min_s: int = Field(
        90, ge=90, description="shortest session interval we accept (Min-SE); a shorter one gets 422"
    )
    no_rtp_timeout_s: float = Field(30, ge=0, description="hang up when no RTP has arrived for this long; 0 never does")
    late_ms: float = Field(
        20, gt=0, le=200, description="delay from which on a tick of the media clock (every 20 ms) counts as late"
    )
    late_percent: float = Field(
        10,
        ge=0,
        le=100,
        description="share of late ticks, over 5 s, beyond which new calls get 503; 0 never refuses any",
    )
    retry_after_s: int = Field(5, ge=0, description="Retry-After in a 503 response")
    allow_from: Networks | None = Field(
        None,
        description="networks that may call without being a trunk; if not set, anyone, or no one once there are trunks",
    )
    deny_code: int = Field(403, ge=400, le=699, description="SIP status for a caller whose network may not call")
    requests_per_second: float = Field(
        50, gt=0, description="new requests that one source may send; beyond that it gets no answer for a while"
    )
    scanners: Annotated[tuple[str, ...], BeforeValidator(listed)] = Field(
        ("friendly-scanner", "sipvicious", "sipcli", "sip-scan", "sundayddr", "vaxsipuseragent", "pplsip"),
        description="User-Agents that get no answer: any that contain one of these",
    )
    trace: Literal["off", "failed", "all"] = Field("off", description="which calls have their SIP messages saved")
    trace_folder: Path = Field(
        Path("traces"), description="folder for each traced call's ladder (.txt) and capture (.pcap)"
    )
    trace_keep_days: float = Field(0, ge=0, description="traces older than this are deleted; 0 keeps all")
    quality_every_s: PositiveSeconds = Field(10, description="interval of measuring and noting a call's quality")
    log_level: int = Field(1, ge=0, le=6, description="verbosity of PJSIP's own log: 0 none, 1 errors, 4 debug")

    @field_validator("host", "public_address", "media_address")
    @classmethod
    def _ipv4(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            address = ipaddress.ip_address(value)
        except ValueError:
            raise ValueError(f"{value!r} is not an IP address; give one such as 192.0.2.10") from None
        if address.version == 6:
            raise ValueError(NO_IPV6)
        return value

    @property
    def transports(self) -> tuple[str, ...]:
        """What it listens on: udp, tcp, tls."""
        return tuple(name for name, on in (("udp", self.udp), ("tcp", self.tcp), ("tls", self.tls)) if on)

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if not self.transports:
            raise ValueError("udp, tcp and tls are all off, so no call could come in; turn one on")
        if self.tls and not (self.tls_certificate and self.tls_key):
            raise ValueError("tls needs tls_certificate and tls_key; set both to PEM files")
        if self.rtp_port_min % 2:
            raise ValueError(f"rtp_port_min {self.rtp_port_min} is odd; RTP takes even ports (RFC 3550 section 11)")
        if self.udp and self.rtp_port_min <= self.port <= self.rtp_port_max:
            raise ValueError(f"port {self.port} lies between rtp_port_min and rtp_port_max; move one of them")
        if self.rtp_port_max - self.rtp_port_min < 15:
            raise ValueError(
                "the RTP range is too small: a worker needs at least 16 ports (two for each call and spare)"
            )
        if not self.jitter_min_ms <= self.jitter_start_ms <= self.jitter_max_ms:
            raise ValueError("jitter_start_ms must lie between jitter_min_ms and jitter_max_ms; change one of them")
        if self.session_expires_s < self.session_min_s:
            raise ValueError(f"session_expires_s {self.session_expires_s} is less than session_min_s; raise it")
        if self.edge is not None and not self.edges:
            raise ValueError("edge is set, but edges is empty, so its requests would count as its own; set edges, too")
        return self


def media_host(settings: SipSettings) -> str:
    """Return the address that our media is at; ``0.0.0.0`` where the library finds out by itself."""
    return settings.media_address or settings.public_address or settings.host


def trunk_mistakes(
    sip: SipSettings, trunks: Mapping[str, TrunkSettings], secrets: Collection[str], *, edge: bool
) -> Iterator[tuple[str, str]]:
    """
    Yield each mistake: the setting by its dotted name (``trunks.main.password_from``), and the problem with its cure.

    Args:
        sip: the user agent.
        trunks: name -> trunk.
        secrets: names of all secrets.
        edge: whether all requests come by an edge.
    """
    if len(trunks) > MAX_TRUNKS:
        yield (
            "trunks",
            f"{len(trunks)} trunks; one process can hold {MAX_TRUNKS}, so spread them over several gateways",
        )
    if not edge and any(":" in network for network in sip.allow_from or ()):
        yield "sip.allow_from", NO_IPV6
    for name, trunk in trunks.items():
        for key, problem in (*_mistakes(sip, trunk, secrets), *(() if edge else _mistakes_without_edge(trunk))):
            yield f"trunks.{name}.{key}", problem
    named: dict[str, str] = {}
    for name, trunk in trunks.items():
        other = named.setdefault(trunk.tls_name.lower(), name) if trunk.tls_name else name
        if other != name:
            yield (
                f"trunks.{name}.tls_name",
                f"is that of trunks.{other} too, so their calls look alike; change one",
            )


def _mistakes_without_edge(trunk: TrunkSettings) -> Iterator[tuple[str, str]]:
    if any(":" in network for network in trunk.networks):
        yield "networks", NO_IPV6
    if trunk.tls_name is not None:
        yield "tls_name", "only an edge verifies certificates; use networks, or put an edge in front (sip.edges)"


def _mistakes(sip: SipSettings, trunk: TrunkSettings, secrets: Collection[str]) -> Iterator[tuple[str, str]]:
    yield from _password_mistakes(trunk, secrets)
    off = (trunk.transport == "udp" and not sip.udp) or (trunk.transport == "tcp" and not sip.tcp)
    if off and sip.edge is None:
        yield "transport", f"{trunk.transport}, but sip.{trunk.transport} is off; turn it on or choose another"
    for key in ("numbers", "numbers_out"):
        if getattr(trunk, key) == "national" and trunk.country is None:
            yield key, "national numbers need a country; set country, for example DE"
    if trunk.own_number_header is not None and trunk.caller_id is None:
        yield "own_number_header", "carries caller_id, which is not set; set it"
    if trunk.own_number_header in trunk.caller_id_header:
        yield (
            "own_number_header",
            f"{trunk.own_number_header} is in caller_id_header too, and a call carries it once; take one out",
        )
    if trunk.codecs is not None and "G722" in trunk.codecs and "G722" not in sip.codecs:
        yield "codecs", "G722 makes the whole worker's audio 16 kHz; add it to sip.codecs too"


def _password_mistakes(trunk: TrunkSettings, secrets: Collection[str]) -> Iterator[tuple[str, str]]:
    if trunk.password_from is not None and trunk.password_from not in secrets:
        known = ", ".join(sorted(secrets)) or "none"
        yield "password_from", f"there is no secret {trunk.password_from!r}; add it to [secrets] (it has: {known})"
    for key, wanted in (("register", trunk.register_here), ("challenge", trunk.challenge)):
        missing = [needed for needed in ("username", "password_from") if wanted and getattr(trunk, needed) is None]
        if missing:
            yield key, f"needs a digest account; set {' and '.join(missing)}"
    if trunk.password_from is not None and trunk.username is None and not (trunk.register_here or trunk.challenge):
        yield "password_from", "a password needs a user name; set username"
