"""The network: ports, the address that callers see, what a firewall must let through."""

from __future__ import annotations

import errno
import ipaddress
import os
import shutil
import socket
from collections.abc import Iterator
from typing import Literal

from gateway.child_process import ChildFailed, ChildProcess
from gateway.doctor.finding import Finding
from gateway.own_address import ANY, own_address_towards
from gateway.probe import options_over_tcp, options_over_udp
from gateway.settings.sections import Settings
from gateway.settings.sip import SipSettings
from gateway.sip.library.stun import ask as ask_stun

PORTS_OF_A_CALL = 2
_QUICK_S = (0.3, 0.7)
_COMMAND_LIMIT_S = 5


def ports(settings: Settings) -> Iterator[Finding]:
    """Look whether SIP, RTP and the API can listen, or whether a gateway does already."""
    sip = settings.sip
    listeners: list[tuple[str, Literal["udp", "tcp"], int]] = []
    listeners += [("SIP over UDP", "udp", sip.port)] if sip.udp else []
    listeners += [("SIP over TCP", "tcp", sip.port)] if sip.tcp else []
    listeners += [("SIP over TLS", "tcp", sip.tls_port)] if sip.tls else []
    for subject, transport, port in listeners:
        yield _listener(subject, transport, sip.host, port, "sip.tls_port" if subject.endswith("TLS") else "sip.port")
    yield rtp_ports(sip, settings.fleet.calls, taken=_taken_of(sip))


def _listener(subject: str, transport: Literal["udp", "tcp"], host: str, port: int, setting: str) -> Finding:
    problem = cannot_listen(transport, host, port)
    if problem is None:
        return Finding(subject, "ok", f"{host}:{port} is free")
    if problem == errno.EADDRINUSE:
        near = "127.0.0.1" if host == ANY else host
        answer = _sip_answer(near, port, transport)
        if answer is not None and not subject.endswith("TLS"):
            return Finding(subject, "ok", f"{host}:{port}: a SIP server answers there ({answer})")
        cure = f"find it with `ss -lnp 'sport = :{port}'` and end it, or set {setting}"
        return Finding(subject, "note" if subject.endswith("TLS") else "failure", f"{host}:{port} is taken", cure)
    cure = f"set {setting} above 1023" if problem == errno.EACCES else "set sip.host to an address of this machine"
    return Finding(subject, "failure", f"{host}:{port}: {os.strerror(problem)}", cure)


def cannot_listen(transport: Literal["udp", "tcp"], host: str, port: int) -> int | None:
    """Return the system's error number for listening there; None when it is possible."""
    kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind) as probe:
        if transport == "tcp":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.errno or errno.EIO
    return None


def _sip_answer(host: str, port: int, transport: Literal["udp", "tcp"]) -> int | None:
    try:
        return options_over_udp(host, port, _QUICK_S) if transport == "udp" else options_over_tcp(host, port)
    except OSError:
        return None


def _taken_of(sip: SipSettings) -> int:
    ports = range(sip.rtp_port_min, sip.rtp_port_max + 1)
    return sum(cannot_listen("udp", sip.host, port) is not None for port in ports)


def rtp_ports(sip: SipSettings, calls: int, *, taken: int) -> Finding:
    """
    Judge the range of RTP ports.

    Args:
        sip: the range.
        calls: at once, over all workers.
        taken: ports of the range that somebody listens on.
    """
    size = sip.rtp_port_max - sip.rtp_port_min + 1
    detail = (
        f"{sip.rtp_port_min} to {sip.rtp_port_max}: room for {size // PORTS_OF_A_CALL} calls, {taken} ports are in use"
    )
    if size // PORTS_OF_A_CALL < calls:
        last = sip.rtp_port_min + calls * 2 * PORTS_OF_A_CALL - 1
        return Finding("RTP ports", "failure", detail, f"{calls} calls need more: set sip.rtp_port_max to {last}")
    if taken > size // 2:
        return Finding(
            "RTP ports", "warning", detail, "set sip.rtp_port_min and sip.rtp_port_max to a range of ours alone"
        )
    return Finding("RTP ports", "ok", detail)


def address(sip: SipSettings, own: str, seen: str | None) -> Finding:
    """
    Judge the address that callers are told.

    Args:
        sip: what is configured.
        own: this machine's address towards the Internet.
        seen: the address that the STUN server sees; None when none was asked, or it did not answer.
    """
    told = sip.public_address or sip.media_address
    private = ipaddress.ip_address(own).is_private
    if told is not None:
        if seen is not None and told != seen:
            cure = "set sip.public_address to that, unless the router sends other traffic another way"
            return Finding("Public address", "warning", f"{told} is configured, {sip.stun_server} sees {seen}", cure)
        return Finding("Public address", "ok", f"{told}, as configured")
    if seen is not None:
        return Finding("Public address", "ok", f"{seen}, as {sip.stun_server} sees it")
    if sip.stun_server is not None:
        cure = "let UDP to it through the firewall, or set sip.public_address instead"
        return Finding("Public address", "failure", f"{sip.stun_server} (STUN) does not answer", cure)
    if ipaddress.ip_address(own).is_loopback:
        cure = "without a network only this machine can call"
        return Finding("Public address", "note", "this machine has no network but its own", cure)
    if private:
        cure = (
            "phones of the same network are fine; if a trunk is on the Internet, set sip.public_address to the address "
            "of the router and forward SIP and RTP ports to this machine, or set sip.stun_server"
        )
        return Finding(
            "Public address", "warning", f"{own} is a private address, and no public one is configured", cure
        )
    return Finding("Public address", "ok", f"{own}, the machine's own")


def own_and_seen(sip: SipSettings, *, online: bool) -> tuple[str, str | None]:
    """Return this machine's address, and how the STUN server sees it if one is configured and may be asked."""
    own = sip.host if sip.host != ANY else own_address_towards()
    return own, ask_stun(sip.stun_server, sip.host) if online and sip.stun_server is not None else None


def firewall(settings: Settings, rules: str | None) -> Finding:
    """
    Judge what a packet filter lets in.

    Args:
        settings: the ports.
        rules: of nftables, as ``nft list ruleset`` prints them; None when they cannot be read.
    """
    sip = settings.sip
    wanted = [f"UDP {sip.port}"] if sip.udp else []
    wanted += [f"TCP {sip.port}"] if sip.tcp else []
    wanted += [f"TCP {sip.tls_port}"] if sip.tls else []
    wanted.append(f"UDP {sip.rtp_port_min}-{sip.rtp_port_max}")
    cure = f"let in {', '.join(wanted)}, here and at the router or the cloud's security group"
    if rules is None:
        return Finding("Firewall", "skipped", "the rules of this machine cannot be read without root", cure)
    if "hook input" in rules and "policy drop" in rules:
        return Finding("Firewall", "note", "this machine drops what no rule lets in", cure)
    return Finding("Firewall", "ok", "no rule of this machine drops packets by default", cure)


async def nftables_rules() -> str | None:
    """Return the rules of nftables (iptables' too, on systems of today); None when there is no telling."""
    program = shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if program is None:
        return None
    try:
        async with ChildProcess(program, "list", "ruleset", kept_lines=None) as nft:
            return nft.output if await nft.wait(_COMMAND_LIMIT_S) == 0 else None
    except (OSError, ChildFailed):
        return None
