"""
What Kamailio is told: its configuration, from the settings. Pure.

The logic is in ``kamailio.cfg.jinja``, beside this file. Every value that goes into it is a number, a checked address
or network, or text that is made literal here; nothing that comes from the network at run time ever does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import jinja2

from gateway.edge.workers import Place, tables
from gateway.errors import ConfigError
from gateway.settings.sections import Settings
from gateway.settings.sip import SipSettings
from gateway.sip.admission.access_list import networks_of

OLDEST = (5, 6)
"""Kamailio's oldest version that has all that the configuration uses."""
WORKER_BYTES = 4000
"""What a worker's SIP library reads of a message."""
_ADDED_BYTES = 500
"""Via, Record-Route and X-Gateway-Source that are added after the length was looked at."""
PROBE_S = 2
_PACKETS = 20
"""So many messages of one source go with one new request: those of calls, and trunks may send ten times as much."""
HOLD_STEPS = 20
"""So often, every 50 ms, an INVITE that finds no room tries again while workers start."""
MOST_TRIES = 10
FULL_S = 2
"""How long a worker that refused for want of room gets no call; by then the registry has its calls."""
ALLOW = "INVITE, ACK, BYE, CANCEL, OPTIONS, PRACK, UPDATE, INFO, NOTIFY"
_MODULES = (
    *("tm", "sl", "rr", "pv", "maxfwd", "textops", "textopsx", "siputils", "sanity", "xlog", "kex", "corex"),
    *("tmx", "htable", "jsonrpcs", "pike", "nathelper", "sdpops", "async", "uac", "rtimer"),
)
_PHRASES = {403: "Forbidden", 404: "Not Found", 480: "Temporarily Unavailable", 486: "Busy Here", 603: "Decline"}
# By their short names too (RFC 3261 section 7.3.3).
_KEPT = (
    *("Via", "v", "From", "f", "To", "t", "Call-ID", "i", "CSeq", "Contact", "m", "Max-Forwards", "Record-Route"),
    *("Content-Type", "c", "Content-Length", "l", "Content-Encoding", "e", "Require", "Supported", "k", "Allow"),
    *("Session-Expires", "x", "Min-SE", "RAck", "RSeq", "Event", "o", "Subscription-State", "Refer-To", "r"),
    *("Referred-By", "b", "Replaces", "Reason", "Retry-After", "Privacy", "P-Asserted-Identity", "Remote-Party-ID"),
    *("P-Preferred-Identity", "P-Called-Party-ID", "Diversion", "Authorization", "Proxy-Authorization"),
    *("WWW-Authenticate", "Proxy-Authenticate", "Expires", "Min-Expires", "Unsupported", "X-Gateway-Source"),
)
"""What a worker acts on; of a request that is too long all else goes."""
_DROPPED_FIRST = (
    *("Accept", "Accept-Encoding", "Accept-Language", "Alert-Info", "Call-Info", "Content-Language", "Date"),
    *("Error-Info", "Geolocation", "Geolocation-Routing", "Identity", "y", "Identity-Info", "n", "In-Reply-To"),
    *("MIME-Version", "Organization", "Priority", "Server", "User-Agent", "Allow-Events", "u", "Accept-Contact", "a"),
    *("Reject-Contact", "j", "Request-Disposition", "d", "P-Access-Network-Info", "P-Charging-Vector"),
    *("P-Charging-Function-Addresses", "P-Visited-Network-ID", "P-Early-Media", "Security-Client", "Security-Verify"),
    *("Feature-Caps", "Path", "Warning"),
)
"""What of a request that is too long goes first: no dialplan routes by it in practice."""
_DROPPED_LINES = (
    *("a=candidate", "a=ice", "a=extmap", "a=ssrc", "a=msid", "a=rtcp-fb", "a=rtcp-mux", "a=rtcp-rsize", "a=mid"),
    *("a=fingerprint", "a=setup", "a=group", "a=end-of-candidates", "a=rtcp-xr", "a=X-", "a=cap", "a=tcap", "a=pcfg"),
)


@dataclass(frozen=True, slots=True)
class EdgePlace:
    """
    Where one Kamailio runs.

    Attributes:
        port: SIP port for UDP and TCP.
        tls_port: SIP port for TLS; unused without TLS.
        inner: ``host:port`` where workers reach it, by UDP.
        control: Unix socket for JSON-RPC.
        tls_config: the file with the certificates.
        public: IPv4 address that callers reach it at.
        key: hides the addresses of workers from callers: letters and digits.
        children: processes for each socket.
        child: it runs as our child and logs to us; else to syslog.
    """

    port: int
    tls_port: int
    inner: str
    control: Path
    tls_config: Path
    public: str
    key: str
    children: int = 2
    child: bool = True


def kamailio_config(
    settings: Settings,
    place: EdgePlace,
    *,
    held: Mapping[Place, str | int] | None = None,
    located: Iterable[str] = (),
    head: Iterable[str] = (),
) -> str:
    """
    Return the text of ``kamailio.cfg``.

    Args:
        settings: all of them; SIP, trunks and edge are read.
        place: where it runs.
        held: what its tables hold from the start (``workers.tables``): (table, key) -> value.
        located: addresses that trunks' names have, for a Kamailio that is not told later.
        head: lines of comment for people.
    """
    template = _ENVIRONMENT.get_template("kamailio.cfg.jinja")
    return template.render(
        _sockets_and_files(settings, place),
        **_who_may_call(settings, located),
        **_limits(settings.sip),
        longest_s=int(settings.call.max_length_s) + 600,
        head=[" ".join(line.split()) for line in head],
        child=place.child,
        children=place.children,
        modules=(*_MODULES, *_more_modules(settings)),
        key=place.key,
        held=[(table, name, value) for (table, name), value in (held or tables(place.key, ())).items()],
    )


def _more_modules(settings: Settings) -> Iterator[str]:
    if settings.sip.tls:
        yield "tls"
    if settings.edge.rtpengine:
        yield "rtpengine"


def _sockets_and_files(settings: Settings, place: EdgePlace) -> dict[str, object]:
    sockets = _sockets(settings.sip, place, settings.edge.host_ipv6)
    return {
        "tls": settings.sip.tls,
        "host6": settings.edge.host_ipv6,
        "listens": _listens(settings.sip, place, sockets),
        "control": _quotable(place.control),
        "tls_config": _quotable(place.tls_config),
        "rtpengine": settings.edge.rtpengine,
        "inner": place.inner,
        "inner_host": place.inner.rpartition(":")[0],
        "inner_port": int(place.inner.rpartition(":")[2]),
        "inner_re": place.inner.replace(".", "[.]"),
        "inner_socket": f"udp:{place.inner}",
        "udp_socket": sockets.get("udp", f"udp:{place.inner}"),
        "udp6_socket": sockets.get("udp6", ""),
        "public4": place.public,
        "public6": f"[{settings.edge.host_ipv6}]",
        "port": place.port,
        "tls_port": place.tls_port,
    }


def _who_may_call(settings: Settings, located: Iterable[str]) -> dict[str, object]:
    sip, trunks = settings.sip, settings.trunks.values()
    networks = [*(network for trunk in trunks for network in networks_of(trunk)), *located]
    return {
        "anyone": sip.allow_from is None and not trunks,
        "trunk_networks": [_bracketed(network) for network in dict.fromkeys(networks)],
        "trunk_names": _any_of(trunk.tls_name for trunk in trunks) if any(trunk.tls_name for trunk in trunks) else "",
        "allowed_networks": [_bracketed(network) for network in sip.allow_from or ()],
        "scanners": _any_of(sip.scanners),
        "deny_code": sip.deny_code,
        "deny_phrase": _PHRASES.get(sip.deny_code, "Refused"),
    }


def _limits(sip: SipSettings) -> dict[str, object]:
    return {
        "failover_ms": int(sip.failover_s * 1000),
        "packets_per_second": max(10, int(_PACKETS * sip.requests_per_second)),
        "new_per_second": max(1, int(sip.requests_per_second)),
        "retry_after_s": sip.retry_after_s,
        "probe_s": PROBE_S,
        "hold_steps": HOLD_STEPS,
        "most_tries": MOST_TRIES,
        "full_s": FULL_S,
        "allow": ALLOW,
        "worker_bytes": WORKER_BYTES,
        "short_bytes": WORKER_BYTES - _ADDED_BYTES,
        "kept": "|".join(_KEPT),
        "dropped_first": "|".join(_DROPPED_FIRST),
        "dropped_lines": _DROPPED_LINES,
    }


def tls_config(sip: SipSettings) -> str:
    """Return the text of ``tls.cfg``: our certificate, and who verifies whom."""
    verify = "yes" if sip.tls_authorities else "no"
    lines = ["method = TLSv1.2+", f"verify_certificate = {verify}", "require_certificate = no"]
    if sip.tls_authorities:
        lines.append(f"ca_list = {_quotable(sip.tls_authorities.absolute())}")
    own = [f"certificate = {_quotable(path.absolute())}" for path in (sip.tls_certificate,) if path]
    own += [f"private_key = {_quotable(path.absolute())}" for path in (sip.tls_key,) if path]
    server = "\n".join(("[server:default]", *lines, *own))
    client = "\n".join(("[client:default]", *(line for line in lines if not line.startswith("require")), *own))
    required = "require_certificate = yes\n" if sip.tls_authorities else ""
    return f"{server}\n\n{client}\n{required}"


def _sockets(sip: SipSettings, place: EdgePlace, host6: str | None) -> dict[str, str]:
    host = f"{sip.host}:{place.port}"
    six = f"[{host6}]:{place.port}"
    sockets = {}
    for transport, here in (("udp", sip.udp), ("tcp", sip.tcp)):
        if here:
            sockets[transport] = f"{transport}:{host}"
            if host6:
                sockets[f"{transport}6"] = f"{transport}:{six}"
    if sip.tls:
        sockets["tls"] = f"tls:{sip.host}:{place.tls_port}"
        if host6:
            sockets["tls6"] = f"tls:[{host6}]:{place.tls_port}"
    return sockets


def _listens(sip: SipSettings, place: EdgePlace, sockets: Mapping[str, str]) -> list[str]:
    """Return what to listen on, the inner socket last: what names no socket leaves by the first that fits."""
    lines = []
    for name, socket in sockets.items():
        port = socket.rpartition(":")[2]
        told = f" advertise {place.public}:{port}" if not name.endswith("6") and place.public != sip.host else ""
        lines.append(f"{socket}{told}")
    return [*lines, f"udp:{place.inner}"]


def _bracketed(network: str) -> str:
    address, slash, length = network.partition("/")
    return f"[{address}]{slash}{length}" if ":" in address else network


def _any_of(names: Iterable[str | None]) -> str:
    """Return a POSIX expression that finds any of these texts as they are written; without any, one that finds none."""
    found = ["".join(_literal(letter) for letter in name) for name in names if name]
    return "|".join(found) or "^$a"


def _literal(letter: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9 _/-]", letter):
        return letter
    return "." if letter in '^"\\' or not letter.isascii() or not letter.isprintable() else f"[{letter}]"


def _quotable(path: Path) -> str:
    text = str(path)
    if not re.fullmatch(r"[A-Za-z0-9._/+@=,~ -]+", text):
        raise ConfigError(f"edge: Kamailio cannot be given the path {text!r}; use letters, digits and . _ - / only")
    return text


_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    autoescape=False,  # no HTML: what goes in is checked above
)
