"""The rules in front of the library."""

from __future__ import annotations

import contextlib
import hashlib
import random
import re
from collections.abc import Sized

import pytest

from gateway.sip.admission.screening import Drop, Pass, Respond
from gateway.sip.core.message import Malformed, Message
from gateway.sip.core.source import Source
from tests.unit.sip.admission.judged import DTLS, KEY, PLAIN, SAVP, STRANGER, TRUNK, House, message, sdp

pytestmark = pytest.mark.unit

# --- who ---


def test_a_scanner_hears_nothing_but_a_trunk_may_call_itself_as_it_likes() -> None:
    scanner = message("OPTIONS", more="User-Agent: FRIENDLY-scanner\r\n")
    house = House(trunk={}, sip={"allow_from": "0.0.0.0/0"})
    assert house.ask(scanner) == Drop("scanner")
    assert house.code(scanner, TRUNK) == 200


def test_a_stranger_is_denied_a_few_times_and_then_now_and_then() -> None:
    house = House(trunk={}, sip={"deny_code": 404})
    assert [house.code(message(call=str(number))) for number in range(6)] == [404, 404, 404, -1, -1, -1]
    house.now += 10
    assert [house.code(message(call="later")) for _ in range(2)] == [404, -1]
    assert house.code(message("ACK"), "203.0.113.10:1") == -1  # nobody answers an ACK


def test_anybody_may_ask_whether_we_live_but_not_all_the_time() -> None:
    house = House(trunk={})
    probe, scanner = message("OPTIONS"), message("OPTIONS", more="User-Agent: friendly-scanner\r\n")
    assert [house.code(probe) for _ in range(20)] == [200] * 20
    house.now -= 1
    assert house.code(probe) == 403
    house.now += 30
    assert [house.code(probe), house.code(scanner), house.code(message())] == [200, -1, 403]
    house.draining = True
    assert house.code(probe) == 503


def test_a_source_over_its_limit_gets_no_answer_until_it_was_calm() -> None:
    house = House(sip={"requests_per_second": 10})
    verdicts = [house.request(message(call=str(n)), STRANGER, 100) for n in range(200)]
    assert verdicts == [Pass()] * 10 + [Drop("too many")] * 190
    assert house.request(message(call="soon"), STRANGER, 101) == Drop("too many")
    assert house.request(message(call="calm"), STRANGER, 104) == Pass()
    assert house.request(message(call="other"), "203.0.113.10:1", 100) == Pass()


def test_trunks_and_calls_that_stand_have_more_room() -> None:
    house = House(sip={"requests_per_second": 10, "allow_from": "0.0.0.0/0"}, trunk={})
    assert sum(house.request(message(call=f"t{n}"), TRUNK, 100) == Pass() for n in range(200)) == 100
    house.call()
    flood = [house.request(message(call=f"f{n}"), STRANGER, house.now) for n in range(200)]
    assert flood[-1] == Drop("too many")
    assert house.ask(message("BYE", to_tag="us")) == Pass()
    assert sum(house.request(message("INFO", to_tag="us"), STRANGER, house.now) == Pass() for _ in range(300)) < 110


def test_a_call_that_stands_survives_a_flood_from_everywhere_and_memory_is_bounded() -> None:
    house = House()
    house.call()
    for number in range(20_000):
        source = f"10.{number % 250}.{number // 250}.1:5060"
        house.request(message(call=str(number), body=sdp()), source, house.now)
    assert house.code(message(body=sdp())) == 482
    assert house.ask(message("BYE", to_tag="us")) == Pass()
    assert len(house.rules._strangers._buckets) <= 4096
    assert len(house.rules.dialogs._waiting) <= 1024


def test_a_dialog_may_go_on_from_an_address_that_could_not_begin_one() -> None:
    house = House(trunk={})
    house.call(source=TRUNK)
    assert house.ask(message("BYE", to_tag="us"), STRANGER) == Pass()
    assert house.code(message("BYE", call="b", to_tag="us"), STRANGER) == 403


# --- what ---


@pytest.mark.parametrize(
    ("method", "code"),
    [
        ("REGISTER", 405),
        ("PUBLISH", 405),
        ("MESSAGE", 405),
        ("SUBSCRIBE", 405),
        ("REFER", 405),
        ("FOO", 501),
        ("invite", 501),
        ("INVITE", 0),
        ("OPTIONS", 200),
    ]
    + [(method, 481) for method in ("BYE", "CANCEL", "UPDATE", "INFO", "NOTIFY", "PRACK")],
)
def test_methods_outside_a_call(method: str, code: int) -> None:
    assert House().code(message(method)) == code


@pytest.mark.parametrize("to_tag", ["", "us"])
def test_options_promise_only_what_is_done(to_tag: str) -> None:
    house = House()
    house.call()
    verdict = house.ask(message("OPTIONS", to_tag=to_tag))
    assert (verdict.code, verdict.why) == (200, "")
    promised = " ".join(value for _, value in verdict.headers)
    assert "INVITE" in promised
    assert not any(word in promised for word in ("REFER", "MESSAGE", "SUBSCRIBE", "replaces"))
    assert house.code(message("REFER", to_tag="us")) == 405


def test_a_stray_ack_and_a_stray_response_are_dropped() -> None:
    house = House()
    assert house.ask(message("ACK")) == Drop("stray ACK")
    assert house.response(message("SIP/2.0 200 OK")) == Drop("stray response")
    house.sent(message(call="ours", from_tag="us"))
    for changed in (
        {"branch": "2"},
        {"call": "other"},
        {"from_tag": "else"},
        {"cseq": 2},
        {"method": "BYE"},
    ):
        stray = message("SIP/2.0 200 OK", **{"call": "ours", "from_tag": "us", **changed})  # type: ignore[arg-type]
        assert house.response(stray) == Drop("stray response"), changed
    assert house.response(message("SIP/2.0 200 OK", call="ours", from_tag="us")) == Pass()
    malformed = message("SIP/2.0 200 OK", call="ours", from_tag="us", to="<sip:1@c>>")
    assert house.response(malformed) == Drop("malformed response")


# --- inside a dialog, or not ---

QUOTED = '<sip:1@c>;x="y;tag=us"'


def test_a_request_inside_a_dialog_has_its_call_id_and_both_its_tags() -> None:
    house = House()
    house.call()
    for method in ("INVITE", "UPDATE", "INFO", "BYE"):
        assert house.code(message(method, call="b", cseq=2, to_tag="us")) == 481
        assert house.code(message(method, cseq=2, to_tag="them")) == 481
        assert house.code(message(method, cseq=2, to_tag="us", from_tag="else")) == 481
        assert house.code(message(method, cseq=2, to_tag="us", body=sdp() if method == "INVITE" else "")) == 0
    assert house.ask(message("ACK", cseq=9, to_tag="them")) == Drop("stray ACK")


def test_what_only_looks_like_a_tag_makes_no_request_inside_a_dialog() -> None:
    house = House(trunk={"max_calls": 1, "challenge": True, "username": "kit"})
    for text in (
        message(to=QUOTED, body=sdp()),
        message(to="<sip:1@c;tag=us>", body=sdp()),
        message(to='"a;tag=us" <sip:1@c>', body=sdp()),
    ):
        assert house.code(text, TRUNK) == 401
    for more in ("To: <sip:1@c>;tag=us\r\n", "t: <sip:1@c>;tag=us\r\n", "Session-Expires: 90&t: <sip:1@c>;tag=us\r\n"):
        assert house.code(message(more=more, body=sdp()), TRUNK) == 400
    assert house.code(message(to_tag="us", body=sdp()), TRUNK) == 481


def test_a_dialog_is_its_far_ends_own() -> None:
    house = House(trunk={"networks": ["198.51.100.0/24"]}, sip={"allow_from": "0.0.0.0/0"})
    house.call("a")
    assert house.code(message("BYE", to_tag="us"), "203.0.113.10:5060") == 481
    assert house.code(message("BYE", to_tag="us"), TRUNK) == 481
    assert house.code(message("BYE", to_tag="us"), "203.0.113.9:40000") == 0  # NAT gives other ports
    house.call("b", TRUNK)
    assert house.code(message("BYE", call="b", to_tag="us"), "198.51.100.99:5060") == 0  # another node of the trunk
    assert house.code(message("BYE", call="b", to_tag="us"), "192.0.2.66:5060") == 481


def test_a_far_end_behind_a_proxy_may_go_on_from_where_its_contact_is() -> None:
    house = House(trunk={})
    routed = "Record-Route: <sip:198.51.100.8;lr>, <sip:198.51.100.9:5070;lr>\r\n"
    assert house.code(message(contact="<sip:a@192.0.2.66:5070>", more=routed, body=sdp()), TRUNK) == 0
    house.sent(message("SIP/2.0 200 OK", to_tag="us"), TRUNK)
    for source in (TRUNK, "192.0.2.66:5070", "198.51.100.8:5060", "198.51.100.9:5060"):
        assert house.code(message("INFO", cseq=2, to_tag="us"), source) == 0
    assert house.code(message("INFO", cseq=2, to_tag="us"), STRANGER) == 403


def test_an_ended_call_is_no_pass_and_its_bye_draws_the_same_answer_again() -> None:
    house = House()
    house.call()
    bye = message("BYE", cseq=2, to_tag="us", branch="bye")
    assert house.code(bye, "203.0.113.10:5060") == 481
    house.sent(message("SIP/2.0 481 No", method="BYE", cseq=2, to_tag="us", branch="bye"), "203.0.113.10:5060")
    assert house.code(bye) == 0
    house.sent(message("SIP/2.0 200 OK", method="BYE", cseq=2, to_tag="us", branch="bye"))
    assert house.code(bye) == 0
    assert house.code(message("BYE", cseq=3, to_tag="us", branch="other")) == 481
    assert house.code(message("INVITE", cseq=3, to_tag="us", body=sdp())) == 481
    assert not house.rules.dialogs.knows("a")
    house.now += 60
    assert house.code(bye) == 481


def test_a_call_that_we_end_is_over_with_the_answer_or_for_want_of_one() -> None:
    for answered in (True, False):
        house = House()
        house.call()
        house.sent(message("BYE", from_tag="us", to_tag="here", branch="ours"))
        assert house.code(message("INFO", cseq=2, to_tag="us")) == 0  # it crosses our BYE
        if answered:
            answer = message("SIP/2.0 200 OK", method="BYE", from_tag="us", to_tag="here", branch="ours")
            assert house.response(answer) == Pass()
        else:
            house.now += 60
        assert house.code(message("INFO", cseq=3, to_tag="us")) == 481


def test_a_call_out_has_dialogs_too_early_and_forked_ones() -> None:
    house = House(trunk={})
    house.sent(message(call="ours", from_tag="us", body=sdp()), "192.0.2.10:5060")
    update = message("UPDATE", call="ours", from_tag="one", to_tag="us", contact="<sip:x@192.0.2.11>")
    assert house.code(update, "192.0.2.10:5060") == 403
    for tag in ("one", "two"):
        ringing = message("SIP/2.0 180 Ringing", call="ours", from_tag="us", to_tag=tag, contact="<sip:x@192.0.2.11>")
        assert house.response(ringing, "192.0.2.10:5060") == Pass()
    assert house.code(update, "192.0.2.10:5060") == 0
    assert house.code(update, "192.0.2.11:5060") == 0
    assert house.code(update, STRANGER) == 403
    answer = message("SIP/2.0 200 OK", call="ours", from_tag="us", to_tag="two")
    assert house.response(answer, "192.0.2.10:5060") == Pass()
    assert house.code(message("BYE", call="ours", from_tag="two", to_tag="us"), "192.0.2.10:5060") == 0
    # The far end may do in its call what it likes, and nothing else.
    assert house.code(message(call="new", body=sdp()), "192.0.2.10:5060") == 403


VIDEO = "m=video 7002 RTP/AVP 96\r\n"


@pytest.mark.parametrize("method", ["UPDATE", "INVITE", "PRACK"])
@pytest.mark.parametrize(("first", "later", "code"), [((PLAIN,), (PLAIN,), 0), ((PLAIN,), (PLAIN, VIDEO), 491)])
def test_a_call_keeps_its_media_lines_until_its_ack(
    method: str, first: tuple[str, ...], later: tuple[str, ...], code: int
) -> None:
    house = House(sip={"allow_from": ["0.0.0.0/0"]})
    offer = message(method, cseq=2, to_tag="us", body=sdp(*later))
    ack = message("ACK", to_tag="us")
    assert house.code(message(body=sdp(*first))) == 0
    expected = 491 if method == "INVITE" else code
    for status in ("183 Session Progress", "200 OK"):
        house.sent(message(f"SIP/2.0 {status}", to_tag="us", body=sdp(*first)))
        assert house.code(offer) == expected
        if status != "200 OK":
            house.code(ack)
            assert house.code(offer) == expected  # what acknowledges nothing changes nothing
    house.code(message("ACK", cseq=9, to_tag="us"))
    assert house.code(offer) == expected
    house.code(ack)
    assert house.code(offer) == 0


@pytest.mark.parametrize("method", ["UPDATE", "INVITE", "PRACK"])
@pytest.mark.parametrize("body", ["", sdp()])
def test_no_offer_comes_behind_our_bye(method: str, body: str) -> None:
    house = House()
    house.call()
    house.code(message("ACK", to_tag="us"))
    assert house.code(message(method, cseq=2, to_tag="us", body=body)) == 0
    house.sent(message("BYE", from_tag="us", to_tag="here", branch="ours"))
    assert house.code(message(method, cseq=3, to_tag="us", body=body)) == 481
    assert house.code(message("BYE", cseq=4, to_tag="us")) == 0


def test_an_offer_of_our_own_settles_the_media_lines() -> None:
    house = House(sip={"allow_from": ["0.0.0.0/0"]})
    assert house.code(message()) == 0
    house.sent(message("SIP/2.0 180 Ringing", to_tag="us"))
    offer = message("PRACK", cseq=2, to_tag="us", body=sdp())
    assert house.code(offer) == 491
    house.sent(message("SIP/2.0 200 OK", to_tag="us", body=sdp()))
    house.code(message("ACK", to_tag="us", body=sdp()))
    assert house.code(message("UPDATE", cseq=3, to_tag="us", body=sdp(VIDEO, PLAIN))) == 0


def test_a_fork_that_did_not_win_keeps_its_media_lines() -> None:
    house = House(trunk={})
    house.sent(message(call="ours", from_tag="us", body=sdp()), TRUNK)
    for tag in ("one", "two"):
        house.response(
            message("SIP/2.0 183 Session Progress", call="ours", from_tag="us", to_tag=tag, body=sdp()), TRUNK
        )
    house.response(message("SIP/2.0 200 OK", call="ours", from_tag="us", to_tag="two", body=sdp()), TRUNK)
    house.sent(message("ACK", call="ours", from_tag="us", to_tag="two"), TRUNK)
    for tag, code in (("one", 491), ("two", 0)):
        update = message("UPDATE", call="ours", from_tag=tag, to_tag="us", body=sdp(PLAIN, VIDEO))
        assert house.code(update, TRUNK) == code


def test_a_call_out_that_is_refused_leaves_no_dialog() -> None:
    house = House()
    house.sent(message(call="ours", from_tag="us"))
    assert house.response(message("SIP/2.0 180 Ringing", call="ours", from_tag="us", to_tag="one")) == Pass()
    assert house.rules.dialogs.knows("ours")
    assert house.response(message("SIP/2.0 486 Busy Here", call="ours", from_tag="us", to_tag="one")) == Pass()
    assert not house.rules.dialogs.knows("ours")
    assert house.code(message("BYE", call="ours", from_tag="one", to_tag="us")) == 481


def test_a_refused_re_invite_ends_no_call() -> None:
    house = House()
    house.call()
    house.sent(message("SIP/2.0 488 Not Acceptable Here", cseq=2, to_tag="us", branch="re"))
    assert house.code(message("BYE", cseq=3, to_tag="us")) == 0
    house.dial()
    house.sent(message(call="ours", cseq=2, from_tag="us", to_tag="them", branch="re"))
    refused = message("SIP/2.0 488 No", call="ours", cseq=2, from_tag="us", to_tag="them", branch="re")
    assert house.response(refused) == Pass()
    assert house.code(message("BYE", call="ours", from_tag="them", to_tag="us")) == 0


def test_a_cancel_is_for_an_invite_that_waits_and_from_where_that_came() -> None:
    house = House()
    assert house.code(message(body=sdp())) == 0
    assert house.code(message("CANCEL", branch="2")) == 481
    assert house.code(message("CANCEL", cseq=2)) == 481
    assert house.code(message("CANCEL"), "203.0.113.10:5060") == 481
    assert house.code(message("CANCEL")) == 0
    house.sent(message("SIP/2.0 200 OK", to_tag="us"))
    assert house.code(message("CANCEL")) == 0  # too late, but not unknown
    assert house.code(message("ACK", to_tag="us")) == 0
    assert house.code(message("CANCEL")) == 481


def test_an_early_dialog_takes_prack_and_bye() -> None:
    house = House()
    assert house.code(message(body=sdp())) == 0
    house.sent(message("SIP/2.0 183 Session Progress", to_tag="us"))
    assert house.code(message("PRACK", cseq=2, to_tag="us")) == 0
    assert house.code(message("BYE", cseq=3, to_tag="us")) == 0
    house.sent(message("SIP/2.0 200 OK", method="BYE", cseq=3, to_tag="us"))
    house.sent(message("SIP/2.0 487 Request Terminated", to_tag="us"))
    assert house.code(message("ACK", to_tag="us")) == 0


def test_many_calls_leave_nothing_behind() -> None:
    house = House(sip={"requests_per_second": 1e9})
    for number in range(3000):
        name = f"c{number}"
        house.call(name)
        assert house.code(message("BYE", call=name, cseq=2, to_tag="us", branch=f"b{number}")) == 0
        house.sent(message("SIP/2.0 200 OK", method="BYE", call=name, cseq=2, to_tag="us", branch=f"b{number}"))
        house.dial(f"o{number}")
        house.sent(message("BYE", call=f"o{number}", from_tag="us", to_tag="them", branch=f"e{number}"))
        house.response(
            message(
                "SIP/2.0 200 OK", method="BYE", call=f"o{number}", from_tag="us", to_tag="them", branch=f"e{number}"
            )
        )
    dialogs = house.rules.dialogs
    assert not dialogs._live
    assert not dialogs._call_ids
    kept: tuple[Sized, ...] = (dialogs._waiting, dialogs._accepted, dialogs._ended, dialogs._ours)
    assert max(len(each) for each in kept) <= 1024


# --- malformed ---


def test_a_malformed_request_is_told_what_is_wrong_within_the_limit() -> None:
    house = House(sip={"requests_per_second": 10})
    verdict = house.ask(message(more="To: <sip:2@c>\r\n"))
    assert (verdict.code, verdict.reason, verdict.why) == (400, "Two To Headers", "malformed")
    verdicts = [house.request(message(branch="a b"), STRANGER, house.now) for _ in range(50)]
    assert verdicts.count(Drop("too many")) >= 40
    assert House(trunk={}).code(message(branch="a b")) == -1  # a stranger who may not call is told nothing


@pytest.mark.parametrize("contact", ["", "*", "<sip:a@203.0.113.9>, <sip:b@203.0.113.9>"])
def test_an_invite_says_once_where_its_sender_is(contact: str) -> None:
    house = House()
    assert house.code(message(contact=contact, body=sdp())) == 400
    house.call("b")
    assert house.code(message("BYE", call="b", contact=contact, to_tag="us")) == 0


def test_what_was_cut_off_is_never_taken() -> None:
    house = House()
    text = message(body=sdp() + "a=x\r\n" * 800)
    unsaid = "\r\n".join(line for line in text.split("\r\n") if not line.startswith("Content-Length"))
    for cut in (text[:4000], unsaid[:4000], text[:300]):
        verdict = house.rules.admit(cut, 4000, Source.at(STRANGER), house.now)
        assert verdict == Respond("cut off", 513, "Message Too Large")
    assert isinstance(house.rules.admit(text, 4000, Source.at(STRANGER), house.now), Message)


def test_a_digest_is_for_who_is_called() -> None:
    trunk = {"challenge": True, "username": "kit", "password_from": "pw"}
    for policy, uri, code in (
        ("request-uri", "sip:1@192.0.2.1", 0),
        ("request-uri", "sip:1@carrier.example.net;user=phone", 0),
        ("request-uri", "sip:192.0.2.1:5060", 0),
        ("request-uri", "sip:2@192.0.2.1", 400),
        ("request-uri", "sip:192.0.2.2", 400),
        ("request-uri", "x", 400),
        ("any", "sip:2@192.0.2.1", 0),
    ):
        house = House(trunk={**trunk, "digest_uri": policy})
        challenge = dict(house.ask(message(body=sdp()), TRUNK).headers)["WWW-Authenticate"]
        header = answer_to(challenge, uri)
        assert house.code(message(cseq=2, branch="2", more=header, body=sdp()), TRUNK) == code, uri


def answer_to(challenge: str, uri: str) -> str:
    """Return the Authorization header that answers a challenge."""
    parts = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    algorithm = re.search(r"algorithm=([^,]+)", challenge)
    assert algorithm is not None
    name = "sha256" if algorithm[1] == "SHA-256" else "md5"

    def h(*words: str) -> str:
        return hashlib.new(name, ":".join(words).encode()).hexdigest()

    response = h(h("kit", parts["realm"], "secret"), parts["nonce"], "00000001", "c", "auth", h("INVITE", uri))
    return (
        f'Authorization: Digest username="kit", realm="{parts["realm"]}", nonce="{parts["nonce"]}", uri="{uri}", '
        f'qop=auth, nc=00000001, cnonce="c", response="{response}", algorithm={algorithm[1]}\r\n'
    )


def test_replaces_is_refused_from_anybody() -> None:
    replaces = message(call="new", more="Replaces: a;to-tag=us;from-tag=here\r\n", body=sdp())
    house = House(sip={"allow_from": "0.0.0.0/0"})
    assert house.code(replaces) == 481
    house.call()
    assert house.code(replaces) == 486
    assert house.code(replaces, TRUNK) == 486


# --- copies ---


def test_a_copy_of_an_invite_is_told_from_a_retransmission() -> None:
    house = House()
    first = message(body=sdp())
    assert [house.code(first) for _ in range(3)] == [0, 0, 0]
    assert house.code(message(branch="2", body=sdp())) == 482
    house.sent(message("SIP/2.0 180 Ringing", to_tag="us"))
    assert house.code(first) == 0
    house.sent(message("SIP/2.0 200 OK", to_tag="us"))
    assert house.ask(first) == Drop("answered already")
    assert house.code(message(branch="2", body=sdp())) == 482
    assert house.code(message("ACK", to_tag="us", branch="3")) == 0
    assert house.code(first) == 482
    assert house.code(message(branch="2", body=sdp())) == 482
    assert house.code(message(branch="4", cseq=2, body=sdp())) == 0


def test_a_refused_invite_may_come_again_by_another_way_only() -> None:
    house = House()
    first = message(body=sdp())
    assert house.code(first) == 0
    house.sent(message("SIP/2.0 404 Not Found", to_tag="us"))
    assert house.code(first) == 404
    assert house.code(message("ACK", to_tag="us")) == 0
    assert house.ask(first) == Drop("answered already")
    assert house.code(message(branch="2", body=sdp())) == 0


# --- room ---


def test_a_call_that_comes_before_sockets_are_free_is_taken_when_it_comes_again() -> None:
    house = House(scarce=True)
    invite = message(body=sdp())
    assert house.ask(invite) == Drop("too soon")
    told = house.ask(invite.replace("SIP/2.0/UDP", "SIP/2.0/TCP"))
    assert isinstance(told, Respond)
    assert told.code == 503
    assert ("Retry-After", "5") in told.headers
    house.scarce = False
    assert isinstance(house.ask(invite), Pass)


def test_a_full_late_or_draining_process_or_trunk_says_when_to_come_again() -> None:
    house = House(trunk={"max_calls": 2}, sip={"retry_after_s": 9, "allow_from": "0.0.0.0/0"})
    first = message(body=sdp())
    assert house.code(first) == 0
    house.full = True
    assert house.code(first) == 0  # a retransmission of one that got in
    assert house.ask(message(call="b")).headers == (("Retry-After", "9"),)
    assert house.code(message("OPTIONS", call="c")) == 200
    house.full, house.draining = False, True
    assert [house.code(message("INVITE", call="b")), house.code(message("OPTIONS", call="c"))] == [503, 503]
    house.draining, house.late = False, True
    told = house.ask(message("INVITE", call="b"))
    assert (told.code, told.reason, told.headers) == (503, "Overloaded", (("Retry-After", "9"),))
    assert house.code(message("OPTIONS", call="c")) == 503
    house.late, house.calls = False, 2
    assert [house.code(message(call="d"), source) for source in (TRUNK, STRANGER)] == [503, 0]


def test_calls_without_an_ack_are_given_up_only_while_others_find_no_room() -> None:
    house = House()
    assert house.code(message(call="half", body=sdp())) == 0
    house.sent(message("SIP/2.0 200 OK", call="half", to_tag="us"))
    house.call("whole")
    house.now += 6
    assert house.rules.half_open(house.now) == []
    house.full = True
    assert house.code(message(call="other", body=sdp())) == 503
    assert house.rules.half_open(house.now) == [("half", "us", "here")]
    house.sent(message("SIP/2.0 200 OK", call="half", to_tag="us"))  # sent again: its age is that of the first
    assert house.rules.half_open(house.now) == [("half", "us", "here")]
    assert house.rules.half_open(house.now + 6) == []


def test_a_challenged_trunk_must_bring_its_password() -> None:
    house = House(trunk={"challenge": True, "username": "kit", "password_from": "pw"}, sip={"allow_from": "0.0.0.0/0"})
    assert house.code(message(call="b", body=sdp())) == 0
    first = house.ask(message(body=sdp()), TRUNK)
    assert (first.code, first.why) == (401, "challenged")
    wrong = 'Authorization: Digest username="kit", realm="x", nonce="y", uri="z", response="0"\r\n'
    assert house.ask(message(cseq=2, more=wrong), TRUNK).why == "password wrong"
    assert house.code(message("BYE", call="c", to_tag="x"), TRUNK) == 481


def test_a_challenge_without_a_password_lets_nobody_in() -> None:
    house = House(trunk={"challenge": True, "username": "kit"})
    assert house.code(message(body=sdp()), TRUNK) == 401
    assert len(house.rules._credentials["main"].password) > 30


# --- media ---


@pytest.mark.parametrize(
    ("policy", "media", "code"),
    [
        ("off", PLAIN, 0),
        ("off", DTLS, 488),
        ("off", SAVP + KEY, 488),
        ("off", SAVP + KEY + PLAIN, 0),
        ("optional", PLAIN, 0),
        ("optional", SAVP + KEY, 0),
        ("optional", SAVP, 488),
        ("optional", DTLS, 488),
        ("optional", DTLS.lower().replace("m=audio", "m=Audio"), 488),
        ("optional", PLAIN + DTLS, 0),
        ("optional", "m=video 7000 UDP/TLS/RTP/SAVPF 96\r\n" + PLAIN, 0),
        ("optional", SAVP + KEY * 17, 488),
        ("required", PLAIN, 488),
        ("required", SAVP + KEY, 0),
        ("required", PLAIN + SAVP + KEY, 0),
        ("required", "", 0),  # a delayed offer: ours says what we want
    ],
)
def test_srtp_policy(policy: str, media: str, code: int) -> None:
    body = sdp(media) if media else ""
    assert House(sip={"srtp": policy}).code(message(body=body)) == code
    trunk = House(sip={"srtp": "off"}, trunk={"srtp": policy})
    assert trunk.code(message(body=body), TRUNK) == code


def test_deadly_sdp_goes_nowhere_wherever_it_stands_and_whoever_sends_it() -> None:
    house = House(trunk={"srtp": "optional"}, sip={"allow_from": "0.0.0.0/0"})
    house.call()
    assert house.code(message(call="b", body=sdp(DTLS))) == 488  # a stranger without SRTP: not worth the risk
    assert house.code(message(call="c", more="X: y\r\n" + DTLS)) == 400
    assert house.code(message("INVITE", cseq=2, to_tag="us", body=sdp(DTLS))) == 488
    assert house.code(message("UPDATE", cseq=3, to_tag="us", body=sdp(DTLS))) == 488
    assert house.ask(message("ACK", to_tag="us", body=sdp(DTLS))) == Pass()
    house.sent(message("INVITE", call="ours", body=sdp()))
    assert house.response(message("SIP/2.0 200 OK", call="ours", body=sdp(DTLS))) == Pass()


@pytest.mark.parametrize(
    ("address", "source", "code"),
    [
        ("224.0.0.1", STRANGER, 488),
        ("255.255.255.255", STRANGER, 488),
        ("127.0.0.1", STRANGER, 488),
        ("127.0.0.1", "127.0.0.2:5060", 0),
        ("0.0.0.0", STRANGER, 0),
        ("10.1.2.3", STRANGER, 0),
        ("host.example.net", STRANGER, 488),
    ],
)
def test_media_addresses_that_cannot_be_meant_are_refused(address: str, source: str, code: int) -> None:
    assert House().code(message(body=sdp(address=address)), source) == code


@pytest.mark.parametrize(
    ("media", "code"),
    [
        (PLAIN, 0),
        ("m=audio 7000 RTP/AVP 18\r\n", 488),
        ("m=audio 7000 RTP/AVP 96\r\na=rtpmap:96 pcma/8000\r\n", 0),
        ("m=audio 7000 RTP/AVP 96\r\na=rtpmap:96 opus/48000/2\r\n", 488),
        ("m=audio 7000 RTP/AVP 0\r\na=rtpmap:0 G729/8000\r\n", 488),
        ("m=audio 0 RTP/AVP 0\r\n", 488),
        ("m=image 7000 udptl t38\r\n", 488),
        (PLAIN + "c=IN IP4 127.0.0.1\r\n", 488),
    ],
)
def test_an_impossible_offer_inside_a_call_is_refused(media: str, code: int) -> None:
    house = House()
    house.call()
    assert house.code(message(cseq=2, to_tag="us", body=sdp(media))) == code
    again = sdp(media).replace("127.0.0.1", "10.0.0.1")
    assert house.code(message(call="new", body=again)) == (0 if "10.0.0.1" in again else code)


# --- nonsense ---


def test_no_text_makes_the_rules_raise() -> None:
    chance = random.Random(7)
    house = House(
        trunk={"challenge": True, "srtp": "optional"}, sip={"allow_from": "0.0.0.0/0", "requests_per_second": 1e9}
    )
    base = message(
        more='Authorization: Digest username="a", nc=1\r\nReplaces: x\r\n', body=sdp(SAVP + KEY, "a=rtpmap:9\r\n")
    )
    for _ in range(3000):
        text = list(base)
        for _ in range(chance.randrange(1, 20)):
            place = chance.randrange(len(text) or 1)
            text[place : place + chance.randrange(3)] = chance.choice(
                ["\r", "\n", "\0", "\udc80", ":", ";", "=", "9" * 30, ""]
            )
        house.request("".join(text), chance.choice((TRUNK, STRANGER, "", "x")), house.now)
        house.response("SIP/2.0 200 OK\r\n" + "".join(text).partition("\n")[2])
        with contextlib.suppress(Malformed):
            house.sent("".join(text))
