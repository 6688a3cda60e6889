"""The screen before the library: what is known to kill or fool this build of pjsua2, sent to a process of its own."""

from __future__ import annotations

import hashlib
import os
import random
import re
import socket
import ssl
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from gateway.settings.sip import SipSettings
from gateway.sip.admission.access_list import AccessList
from gateway.sip.screen.connections import AcceptGuard, _Accepted
from gateway.threads import enter_role
from tests.rigs.screened import DTLS, KEY, PLAIN, Caller, Target, caller, screened, sdp, tag_of
from tests.rigs.tls import self_signed

pytestmark = pytest.mark.integration

SCANNER = "User-Agent: friendly-scanner\r\n"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    own = self_signed(tmp_path_factory.mktemp("tls"))
    return {"tls": True, "tls_certificate": str(own.certificate), "tls_key": str(own.key)}


def over_stream(target: Target, sock: socket.socket) -> str:
    """Ask OPTIONS over an open TCP or TLS connection."""
    host, port = sock.getsockname()[:2]
    sock.settimeout(40)
    sock.sendall(
        f"OPTIONS sip:127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP {host}:{port};branch=z9hG4bK{random.getrandbits(60):x}\r\n"
        f"Max-Forwards: 70\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: {random.getrandbits(60):x}\r\n"
        "CSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n".encode()
    )
    return sock.recv(4000).decode()


def tls_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    return context


# --- connections ---


def test_three_hundred_quick_tls_connections_leave_the_process_and_tls_alive(certificate: dict[str, Any]) -> None:
    with screened(certificate) as target:
        for number in range(300):
            source = (f"127.0.2.{number % 100 + 1}", 0)
            socket.create_connection(("127.0.0.1", target.tls_port), source_address=source).close()
        assert target.alive()
        time.sleep(1.2)  # the library frees a handle 0.5 s after the end of its connection
        with socket.create_connection(("127.0.0.1", target.tls_port)) as plain:
            plain.settimeout(40)
            with tls_context().wrap_socket(plain) as secure:
                assert over_stream(target, secure).startswith("SIP/2.0 200")
    turned_away = ("connection gone at once", "too many connections", "too many connections of a source")
    assert sum(target.counts.get(why, 0) for why in turned_away) >= 50


def test_idle_tcp_connections_take_neither_udp_nor_tcp_from_others() -> None:
    with screened() as target, ExitStack() as stack:
        for _ in range(150):
            stack.enter_context(socket.create_connection(("127.0.0.1", target.port)))
        assert target.alive()
        with socket.create_connection(("127.0.0.1", target.port), source_address=("127.0.0.3", 0)) as other:
            assert over_stream(target, other).startswith("SIP/2.0 200")
    assert target.counts["too many connections of a source"] >= 100


def test_connections_from_many_sources_never_use_up_the_handles() -> None:
    with screened() as target:
        with ExitStack() as stack:
            for number in range(150):
                source = (f"127.0.1.{number % 100 + 1}", 0)
                stack.enter_context(socket.create_connection(("127.0.0.1", target.port), source_address=source))
            assert target.alive()
        time.sleep(1.2)
        with socket.create_connection(("127.0.0.1", target.port)) as later:
            assert over_stream(target, later).startswith("SIP/2.0 200")
    # On a slow machine some wait to be accepted until they are closed again.
    assert target.counts["too many connections"] + target.counts.get("connection gone at once", 0) >= 100


def test_a_silent_connection_is_shut_down_and_one_that_spoke_is_not() -> None:
    with (
        screened(silent_s=0.5) as target,
        socket.create_connection(("127.0.0.1", target.port)) as silent,
        socket.create_connection(("127.0.0.1", target.port)) as speaking,
    ):
        assert over_stream(target, speaking).startswith("SIP/2.0 200")
        silent.settimeout(40)
        assert silent.recv(100) == b""
        assert over_stream(target, speaking).startswith("SIP/2.0 200")
    assert target.counts["silent connection"] == 1


def test_a_keep_alive_is_answered_and_a_trunk_may_be_silent() -> None:
    trunk = {"main": {"host": "127.0.0.1", "transport": "tcp"}}
    with (
        screened(silent_s=0.5, trunks=trunk) as target,
        socket.create_connection(("127.0.0.1", target.port)) as silent,
        socket.create_connection(("127.0.0.1", target.port)) as pinging,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
    ):
        for each in (silent, pinging, datagrams):
            each.settimeout(10)
        pinging.sendall(b"\r\n\r\n")
        assert pinging.recv(100) == b"\r\n"
        pinging.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(2):  # in two pieces, too
            pinging.sendall(b"\r\n")
            time.sleep(0.1)
        assert pinging.recv(100) == b"\r\n"
        time.sleep(1.5)
        silent.sendall(b"\r\n\r\n")
        assert silent.recv(100) == b"\r\n"
        datagrams.sendto(b"\r\n\r\n", ("127.0.0.1", target.port))  # over UDP that is no question
        assert target.alive()
        datagrams.settimeout(0.2)
        with pytest.raises(TimeoutError):
            datagrams.recv(100)
    assert not target.counts.get("silent connection")


@pytest.fixture
def on_the_sip_thread() -> Iterator[None]:
    """The test plays the SIP thread."""
    enter_role("sip")
    yield
    enter_role("loop")


@pytest.mark.usefixtures("on_the_sip_thread")
def test_a_silent_connection_that_was_reset_meanwhile_does_no_harm() -> None:
    accept_guard = AcceptGuard(AccessList(SipSettings(), {}), silent_s=0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        caller = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
        with accepted:
            connection = _Accepted(accepted.fileno(), os.fstat(accepted.fileno()).st_ino, "127.0.0.1", since=0.0)
            accept_guard._accepted["127.0.0.1:1"] = connection
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            caller.close()  # with a reset, that the library has not read yet
            with pytest.raises(ConnectionResetError):
                accepted.recv(1)
            accept_guard.tick(1.0)
            assert accept_guard.open == 0
            accept_guard.hang_up("127.0.0.1:1")


def test_trunks_keep_connections_when_strangers_hold_all_others() -> None:
    trunks = {"main": {"host": "127.0.0.9"}}
    with screened({"allow_from": "127.0.0.0/8"}, trunks=trunks) as target, ExitStack() as stack:
        for number in range(60):
            source = (f"127.0.1.{number + 1}", 0)
            stack.enter_context(socket.create_connection(("127.0.0.1", target.port), source_address=source))
        with socket.create_connection(("127.0.0.1", target.port), source_address=("127.0.0.9", 0)) as trunk:
            assert over_stream(target, trunk).startswith("SIP/2.0 200")


def test_tls_of_a_stranger_is_closed_before_the_handshake(certificate: dict[str, Any]) -> None:
    trunks = {"main": {"host": "127.0.0.9"}}
    with screened(certificate, trunks=trunks) as target:
        with socket.create_connection(("127.0.0.1", target.tls_port)) as plain:
            plain.settimeout(40)
            with pytest.raises(OSError):  # noqa: PT011 - end of file or reset, as it happens
                tls_context().wrap_socket(plain)
        with socket.create_connection(("127.0.0.1", target.tls_port), source_address=("127.0.0.9", 0)) as plain:
            plain.settimeout(40)
            with tls_context().wrap_socket(plain) as secure:
                assert over_stream(target, secure).startswith("SIP/2.0 200")


# --- media that kills, or cannot be ---


@pytest.mark.parametrize("srtp", ["optional", "required"])
def test_a_dtls_offer_is_refused_while_srtp_is_on(srtp: str) -> None:
    mixed = "m=audio 7000 RTP/SAVP 0\r\n" + KEY
    with screened({"srtp": srtp}) as target:
        for media in (DTLS, DTLS.lower(), DTLS.replace("SAVPF", "SAVP"), "m=audio  9 UDP/TLS/X 0\r\n"):
            with caller(target) as one:
                assert one.ask(one.request("INVITE", body=sdp(media))).startswith("SIP/2.0 488"), media
        for media in (mixed + DTLS, DTLS + mixed):
            with caller(target) as one:
                tag = one.call(sdp(media))
                assert one.ask(one.request("BYE", cseq=3, to_tag=tag)).startswith("SIP/2.0 200")
        with caller(target) as one:
            tag = one.call(sdp(mixed))
            assert one.ask(one.request("INVITE", cseq=2, to_tag=tag, body=sdp(DTLS))).startswith("SIP/2.0 488")
            assert one.ask(one.request("BYE", cseq=3, to_tag=tag)).startswith("SIP/2.0 200")
        assert target.alive()


def test_an_offer_without_a_codec_of_ours_inside_a_call_leaves_the_call_up() -> None:
    with screened() as target, caller(target) as one:
        tag = one.call()
        answer = one.ask(one.request("INVITE", cseq=2, to_tag=tag, body=sdp("m=audio 7000 RTP/AVP 18\r\n")))
        assert answer.startswith("SIP/2.0 488")
        one.send(one.request("ACK", cseq=2, to_tag=tag))
        answer = one.ask(one.request("OPTIONS", cseq=3, to_tag=tag))
        assert answer.startswith("SIP/2.0 200")
        assert "Allow: INVITE" in answer
        assert one.ask(one.request("INVITE", cseq=4, to_tag=tag, body=sdp())).startswith("SIP/2.0 200")
        one.send(one.request("ACK", cseq=4, to_tag=tag))
        assert one.ask(one.request("BYE", cseq=5, to_tag=tag)).startswith("SIP/2.0 200")


def test_a_multipart_body_is_hidden_from_the_librarys_parser_and_its_sdp_answered() -> None:
    part = f"--x\r\nContent-Type: application/sdp\r\n\r\n{sdp()}\r\n"
    with screened() as target:
        for body, code in ((f"{part}--x--\r\n", 200), (f"{part}--x\r\nContent-Type", 400), ("--x" * 500, 400)):
            with caller(target) as one:
                text = one.request("INVITE", body=body)
                text = text.replace("Content-Type: application/sdp", "Content-Type: multipart/mixed;boundary=x", 1)
                assert one.ask(text).startswith(f"SIP/2.0 {code} "), body
        assert target.alive()


# --- copies ---


def test_an_invite_again_after_its_ack_makes_no_second_call() -> None:
    with screened() as target, caller(target) as one:
        first = one.request("INVITE", branch="same", body=sdp())
        tag = tag_of(one.ask(first))
        # Not acknowledged yet: the copy is absorbed, what comes is the 200 again.
        one.send(first)
        again = one.receive()
        assert again.startswith("SIP/2.0 200")
        assert tag_of(again) == tag
        one.send(one.request("ACK", to_tag=tag))
        time.sleep(0.3)
        while one.receive(0.2):
            pass
        assert one.ask(first).startswith("SIP/2.0 482")
        assert one.ask(one.request("INVITE", branch="other", body=sdp())).startswith("SIP/2.0 482")
        assert one.ask(one.request("BYE", cseq=2, to_tag=tag)).startswith("SIP/2.0 200")


def test_a_retransmission_while_the_call_is_refused_gets_the_same_answer() -> None:
    with screened() as target, caller(target) as one:
        first = one.request("INVITE", branch="same", body=sdp("m=audio 7000 RTP/AVP 18\r\n"))
        answers = [one.ask(first).split("\r\n")[0] for _ in range(2)]
        assert answers == ["SIP/2.0 488 Not Acceptable Here"] * 2


# --- who and what ---


def test_methods_that_are_not_ours_get_their_answer() -> None:
    with screened() as target:
        for method, code in (("KITMETHOD", 501), ("REGISTER", 405), ("PUBLISH", 405), ("MESSAGE", 405), ("REFER", 405)):
            with caller(target) as one:
                answer = one.ask(one.request(method))
                assert answer.startswith(f"SIP/2.0 {code}"), method
                assert "Allow: INVITE, ACK" in answer
        with caller(target) as one:
            assert one.ask(one.request("BYE", to_tag="none")).startswith("SIP/2.0 481")
            assert one.ask(one.request("CANCEL")).startswith("SIP/2.0 481")
            replaces = "Replaces: nobody;to-tag=1;from-tag=2\r\n"
            assert one.ask(one.request("INVITE", body=sdp(), more=replaces)).startswith("SIP/2.0 481")


def test_an_answered_call_is_promised_only_what_is_done() -> None:
    with screened() as target, caller(target) as one:
        answer = one.ask(one.request("INVITE", branch=one.call_id, body=sdp()))
        lines = dict(line.partition(": ")[::2] for line in answer.split("\r\n"))
        assert "INVITE" in lines["Allow"]
        assert not any(word in lines["Allow"] for word in ("REFER", "MESSAGE", "SUBSCRIBE"))
        assert "replaces" not in lines["Supported"]
        one.send(one.request("ACK", to_tag=tag_of(answer)))  # else the 200 comes again
        require = "Require: replaces\r\n"
        one.call_id += "2"
        assert one.ask(one.request("INVITE", body=sdp(), more=require)).startswith("SIP/2.0 420")


def test_a_scanner_hears_nothing_and_a_stranger_a_few_times_no() -> None:
    with screened({"allow_from": "127.0.0.2", "deny_code": 404}) as target:
        with caller(target, "127.0.0.2") as scanner:
            assert scanner.ask(scanner.request("OPTIONS", more=SCANNER), 0.5) == ""
            assert scanner.ask(scanner.request("OPTIONS")).startswith("SIP/2.0 200")
        with caller(target, "127.0.0.4") as stranger:
            answers = [stranger.ask(stranger.request("INVITE", body=sdp()), 0.5)[:11] for _ in range(6)]
        assert answers == ["SIP/2.0 404"] * 3 + [""] * 3
    assert target.counts["scanner"] == 1


def test_a_full_process_says_when_to_try_again_and_still_takes_retransmissions() -> None:
    with screened({"retry_after_s": 7}) as target, ExitStack() as stack:
        calls = [stack.enter_context(caller(target)) for _ in range(5)]
        for one in calls[:4]:
            one.call()
        answer = calls[4].ask(calls[4].request("INVITE", body=sdp()))
        assert answer.startswith("SIP/2.0 503")
        assert "Retry-After: 7" in answer


def test_calls_that_nobody_acknowledges_make_room_for_others() -> None:
    with screened() as target, ExitStack() as stack:
        half_open = [stack.enter_context(caller(target)) for _ in range(4)]
        for one in half_open:
            assert one.ask(one.request("INVITE", body=sdp())).startswith("SIP/2.0 200")

        def calls() -> bool:
            with caller(target) as other:
                return other.ask(other.request("INVITE", body=sdp())).startswith("SIP/2.0 200")

        assert not calls()
        until = time.monotonic() + 25  # by themselves they have 32 s
        while not calls():
            assert time.monotonic() < until
            time.sleep(0.5)
        assert any(half_open[0].receive().startswith(("BYE", "SIP/2.0 200")) for _ in range(20))
        assert target.alive()
    assert target.counts["no ACK"] >= 1


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
def test_a_challenged_trunk_gets_in_with_its_password_only(algorithm: str) -> None:
    trunk = {"host": "127.0.0.1", "challenge": True, "username": "kit", "password_from": "kit"}
    with screened(trunks={"main": trunk}, secrets={"kit": "secret"}) as target:
        for password, code in (("wrong", 401), ("secret", 200)):
            with caller(target) as one:
                asked = one.ask(one.request("INVITE", body=sdp()))
                assert asked.startswith("SIP/2.0 401")
                one.send(one.request("ACK"))
                header = digest(asked, algorithm, "kit", password)
                assert one.ask(one.request("INVITE", cseq=2, body=sdp(), more=header)).startswith(f"SIP/2.0 {code}")


def digest(challenge: str, algorithm: str, username: str, password: str) -> str:
    line = next(line for line in challenge.split("\r\n") if f"algorithm={algorithm}," in line)
    nonce, realm = (re.search(rf'{name}="([^"]*)"', line)[1] for name in ("nonce", "realm"))  # type: ignore[index]

    def h(*parts: str) -> str:
        return hashlib.new(algorithm.replace("-", ""), ":".join(parts).encode()).hexdigest()

    uri = "sip:1000@127.0.0.1"
    response = h(h(username, realm, password), nonce, "00000001", "c", "auth", h("INVITE", uri))
    return (
        f'Authorization: Digest username="{username}", realm="{realm}", nonce="{nonce}", uri="{uri}", qop=auth, '
        f'nc=00000001, cnonce="c", response="{response}", algorithm={algorithm}\r\n'
    )


# --- slipping past ---

TAG = ";tag=abc"
TO = "<sip:1000@127.0.0.1>"


def invite_of(one: Caller, to: str, more: str = "") -> str:
    """Return a new INVITE with this To header."""
    one.call_id = f"{random.getrandbits(60):x}"
    text = one.request("INVITE", body=sdp(), more=more)
    return text.replace("To: <sip:1000@127.0.0.1>\r\n", to)


def invite_with(one: Caller, to: str, more: str = "") -> str:
    """Send it and return the first line of its answer."""
    return one.ask(invite_of(one, to, more)).split("\r\n")[0]


SPELLINGS = (
    (f"To: {TO}\r\n", "", 401),
    (f'To: {TO};x="y{TAG}"\r\n', "", 401),
    (f'To: "x{TAG}" {TO}\r\n', "", 401),
    (f"To: <sip:1000{TAG}@127.0.0.1>\r\n", "", 401),
    (f"To: <sip:1000@127.0.0.1{TAG}>\r\n", "", 401),
    (f"To: {TO}{TAG}\r\n", "", 481),
    (f"To: {TO}\r\n {TAG}\r\n", "", 481),
    (f"To: {TO}{TAG}\r\nTo: {TO}\r\n", "", 400),
    (f"To: {TO}\r\nto : {TO}{TAG}\r\n", "", 400),
    (f"t: {TO}{TAG}\r\nTo: {TO}\r\n", "", 400),
    (f"To: {TO}{TAG}\rTo: {TO}\r\n", "", 400),
    (f"To: {TO}{TAG}\nTo: {TO}\r\n", "", 400),
    (f"To: {TO}{TAG};tag=def\r\n", "", 400),
    (f"To: foo:bar{TAG}\r\n", "", 400),
    (f"To: {TO}\r\n", f"Session-Expires: 1800&To: {TO}{TAG}\r\n", 400),
    (f"To: {TO}\r\n", f"Route: <sip:127.0.0.1;lr>&To: {TO}{TAG}\r\n", 400),
    (f"To: {TO}\r\n", "CSeq: 1 BYE\r\n", 400),
    (f"To: {TO}\r\n", "i: other\r\n", 400),
    (f"To: {TO}\r\n", "From: <sip:x@y>;tag=x\r\n", 400),
)


def test_no_spelling_of_to_spares_the_password_of_a_trunk() -> None:
    trunk = {"host": "127.0.0.9", "challenge": True, "username": "kit", "password_from": "kit"}
    with screened(trunks={"main": trunk}, secrets={"kit": "secret"}) as target:
        for to, more, code in SPELLINGS:
            with caller(target, "127.0.0.9") as one:
                assert invite_with(one, to, more).startswith(f"SIP/2.0 {code} "), (to, more)
        with caller(target, "127.0.0.7") as stranger:  # who may not call learns nothing
            assert invite_with(stranger, f'To: {TO};x="y{TAG}"\r\n').startswith("SIP/2.0 403")
            stranger.send(invite_of(stranger, f"To: {TO}\r\nTo: {TO}\r\n"))
            assert stranger.receive(0.5) == ""
        assert target.alive("127.0.0.9")


def test_an_ended_call_lets_nobody_in_and_a_live_one_its_own_far_end_only() -> None:
    with screened({"allow_from": "127.0.0.0/8"}) as target:
        with caller(target, "127.0.0.4") as one, caller(target, "127.0.0.5") as other:
            tag = one.call()
            other.call_id = one.call_id
            for method in ("INVITE", "UPDATE", "BYE", "INFO"):
                body = sdp() if method in ("INVITE", "UPDATE") else ""
                refused = other.ask(other.request(method, cseq=5, to_tag=tag, body=body))
                assert refused.startswith("SIP/2.0 481"), method
            assert one.ask(one.request("INVITE", cseq=2, to_tag=tag, body=sdp())).startswith("SIP/2.0 200")
            one.send(one.request("ACK", cseq=2, to_tag=tag))
            bye = one.request("BYE", cseq=3, to_tag=tag)
            assert one.ask(bye).startswith("SIP/2.0 200")
            assert one.ask(bye).startswith("SIP/2.0 200")  # its retransmission
            assert one.ask(one.request("INVITE", cseq=4, to_tag=tag, body=sdp())).startswith("SIP/2.0 481")
            assert other.ask(other.request("INVITE", cseq=4, to_tag=tag, body=sdp())).startswith("SIP/2.0 481")
        assert target.alive("127.0.0.4")


def test_a_build_without_a_gate_is_screened_behind_the_librarys_parser() -> None:
    trunk = {"host": "127.0.0.9", "challenge": True, "username": "kit", "password_from": "kit"}
    with screened(trunks={"main": trunk}, secrets={"kit": "secret"}, gated=False) as target:
        for to, more, code in SPELLINGS:
            with caller(target, "127.0.0.9") as one:
                one.send(invite_of(one, to, more))
                # What the library itself cannot read draws no answer.
                assert one.receive(0.5)[:11] in (f"SIP/2.0 {code}", ""), (to, more)
        assert target.alive("127.0.0.9")
    assert target.counts["malformed"] >= 1


def test_a_cancel_from_elsewhere_does_nothing() -> None:
    with (
        screened({"allow_from": "127.0.0.0/8"}) as target,
        caller(target, "127.0.0.4") as one,
        caller(target, "127.0.0.5") as other,
    ):
        other.call_id = one.call_id
        assert other.ask(other.request("CANCEL", branch="same")).startswith("SIP/2.0 481")
        assert one.ask(one.request("INVITE", branch="same", body=sdp())).startswith("SIP/2.0 200")


def test_malformed_requests_are_answered_and_count_for_the_limit() -> None:
    with screened({"requests_per_second": 20}) as target, caller(target) as one:
        for broken, reason in (
            (one.request("OPTIONS").replace("Call-ID: ", "Call-ID: a b "), "Bad Call-ID"),
            (one.request("OPTIONS").replace("CSeq: 1 OPTIONS", "CSeq: 1 INVITE"), "Bad CSeq"),
            (one.request("OPTIONS").replace("\r\n", "\r\nX y: z\r\n", 1), "Bad Header Name"),
            (one.request("OPTIONS").replace("Max-Forwards: 70", "Max-Forwards: x"), "Bad Max-Forwards"),
            (one.request("OPTIONS").replace("OPTIONS sip", "OPTIONS  sip", 1), "Bad Request-Line"),
            (one.request("OPTIONS").replace("SIP/2.0\r\n", "SIP/3.0\r\n", 1), "Version Not Supported"),
            (one.request("OPTIONS", more="Route: <sip:a/b;lr>\r\n"), "Bad Request"),  # our grammar takes it
        ):
            assert one.ask(broken).split("\r\n")[0][12:] == reason
        for _ in range(300):
            one.send(one.request("OPTIONS").replace("Call-ID: ", "Call-ID: a b "))
        answers = 0
        while one.receive(0.3):
            answers += 1
        assert answers < 100
    assert target.counts["too many"] > 100
    assert target.counts["malformed"] > 5


# --- garbage ---


def mutations(one: Caller, seed: int, count: int) -> Iterator[bytes]:
    chance = random.Random(seed)
    media = (PLAIN, DTLS, "m=audio 7000 RTP/SAVP 0\r\n" + KEY * 3, "m=audio 0 RTP/AVP 0\r\nm=video 9 RTP/AVP 96\r\n")
    for _ in range(count):
        one.call_id = f"{chance.getrandbits(60):x}"
        method = chance.choice(
            ("INVITE", "INVITE", "INVITE", "ACK", "BYE", "UPDATE", "PRACK", "INFO", "OPTIONS", "NOTIFY")
        )
        text = one.request(method, to_tag=chance.choice(("", "", "x")), body=sdp(chance.choice(media)))
        data = bytearray(text.encode())
        for _ in range(chance.randrange(1, 6)):
            place = chance.randrange(len(data))
            kind = chance.randrange(5)
            if kind == 0:
                data[place] = chance.randrange(256)
            elif kind == 1:
                del data[place : place + chance.randrange(40)]
            elif kind == 2:
                data[place:place] = bytes(chance.randrange(256) for _ in range(chance.randrange(30)))
            elif kind == 3:
                data[place:place] = data[max(0, place - 60) : place]
            else:
                data[place : place + 1] = chance.choice(
                    (b"\0", b"\r\n", b"-1", b"99999999999999999999", b"%s%n", b"\xff\xfe")
                )
            if not data:
                data += b"x"
        yield bytes(data[: chance.choice((100, 4000, 4000, 4000))])


@pytest.mark.parametrize("srtp", ["off", "optional"])
def test_hundreds_of_mutated_messages_do_not_end_the_process(srtp: str) -> None:
    with screened({"srtp": srtp}) as target, caller(target) as one:
        for number, data in enumerate(mutations(one, seed=4, count=600)):
            one.send(data)
            if number % 20 == 0:
                time.sleep(0.02)  # its socket's buffer is not ours to fill
        assert target.alive()


def test_oversized_messages_harm_nobody() -> None:
    with screened() as target:
        with caller(target) as one:
            one.send(one.request("INVITE", more="X-Long: " + "x" * 60_000 + "\r\n", body=sdp()))
            one.send(one.request("INVITE", body=sdp("a=x:" + "y" * 3000 + "\r\n" + PLAIN * 40)))
        with socket.create_connection(("127.0.0.1", target.port)) as stream:
            stream.sendall(b"INVITE sip:x SIP/2.0\r\n" + b"X: y\r\n" * 20_000)
        assert target.alive()


def test_a_flood_gets_few_answers_and_a_live_call_still_ends_in_order() -> None:
    with screened({"requests_per_second": 20}) as target, caller(target) as live, caller(target) as flood:
        tag = live.call()
        for _ in range(3000):
            flood.call_id = f"{random.getrandbits(60):x}"
            flood.send(flood.request("INVITE", body=sdp("m=audio 7000 RTP/AVP 18\r\n")))
        bye = live.request("BYE", cseq=2, to_tag=tag)  # sent again: the flood fills the socket's buffer too
        assert any(live.ask(bye, 0.5).startswith("SIP/2.0 200") for _ in range(20))
        answers = 0
        while flood.receive(0.3):
            answers += 1
        assert 1 <= answers < 200
    assert target.counts["too many"] > 100


# --- the trace ---


def test_a_refused_and_a_finished_call_are_traced_without_their_secrets(tmp_path: Path) -> None:
    with screened({"trace": "all", "trace_folder": str(tmp_path), "srtp": "optional"}) as target:
        with caller(target) as refused:
            refused.ask(refused.request("INVITE", body=sdp(DTLS)))
        with caller(target) as one:
            tag = one.call(sdp("m=audio 7000 RTP/SAVP 0\r\n" + KEY))
            one.ask(one.request("BYE", cseq=2, to_tag=tag))
    texts = {path.name.split("-", 1)[1]: path.read_text() for path in tmp_path.glob("*.txt")}
    assert set(texts) == {f"{refused.call_id}.txt", f"{one.call_id}.txt"}
    assert "488 Not Acceptable Here to INVITE" in texts[f"{refused.call_id}.txt"]
    finished = texts[f"{one.call_id}.txt"]
    for part in ("INVITE (SDP)", "200 OK to INVITE (SDP)", "ACK", "BYE", "200 OK to BYE"):
        assert re.search(rf"\|.*-* {re.escape(part)} -*.*\|", finished), part
    assert "QUJDREVG" not in finished
    for path in tmp_path.glob("*.pcap"):
        shown = subprocess.run(["tcpdump", "-n", "-A", "-r", str(path)], capture_output=True, text=True, check=True)
        assert "INVITE sip:1000" in shown.stdout
        assert f"> 127.0.0.1.{target.port}: " in shown.stdout


def test_a_request_too_large_for_the_library_is_told_so() -> None:
    with screened() as target, caller(target) as one:
        assert one.ask(one.request("INVITE", more=f"X-Long: {'a' * 6000}\r\n")).startswith("SIP/2.0 513 ")
        for size in (4001, 4030, 4100):  # the end of the SDP is cut off, all headers are there
            text = one.request("INVITE", more="X-Fill: f\r\n", body=sdp())
            text = text.replace("X-Fill: ", "X-Fill: " + "f" * (size - len(text)))
            assert one.ask(text).startswith("SIP/2.0 513 "), size
        one.send(b"\x00" * 6000)
        assert target.alive()


def test_a_message_too_large_over_tcp_is_told_so_and_its_connection_closed() -> None:
    with screened() as target, caller(target) as one:
        with socket.create_connection(("127.0.0.1", target.port)) as stream:
            stream.settimeout(10)
            text = one.request("INVITE", more=f"X-Long: {'a' * 6000}\r\n", body=sdp())
            stream.sendall(text.replace("SIP/2.0/UDP", "SIP/2.0/TCP").encode())
            data = b""
            while chunk := stream.recv(4000):
                data += chunk
            assert data.startswith(b"SIP/2.0 513 ")
        with socket.create_connection(("127.0.0.1", target.port)) as stream:
            assert over_stream(target, stream).startswith("SIP/2.0 200")


def test_what_is_no_sip_over_tcp_closes_its_connection() -> None:
    with screened() as target:
        with socket.create_connection(("127.0.0.1", target.port)) as stream:
            stream.settimeout(10)
            stream.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert stream.recv(100) == b""
        assert target.alive()


def test_tcp_is_back_at_once_when_a_hundred_idle_connections_of_an_address_are_closed() -> None:
    with screened() as target:
        with ExitStack() as stack:
            for _ in range(100):
                stack.enter_context(socket.create_connection(("127.0.0.1", target.port)))
            assert target.alive()
        with socket.create_connection(("127.0.0.1", target.port)) as later:
            assert over_stream(target, later).startswith("SIP/2.0 200")
