"""Behind an edge: the source that it tells decides, and nobody else may send requests."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.sip.admission.screening import UNTOLD, Drop, Pass, Respond
from gateway.sip.core.source import Source
from tests.unit.sip.admission.judged import House, message, sdp

pytestmark = pytest.mark.unit

EDGE, OTHER_EDGE, STRANGER = "127.0.0.1:5059", "127.0.0.2:5059", "203.0.113.9:5060"
BEHIND: dict[str, Any] = {"edges": "127.0.0.0/24", "media_address": "192.0.2.1"}
TRUNK, TRUNK_6 = "udp;198.51.100.7:5060", "tls;[2001:db8:1::7]:5061"
TRUNK_AT = Source("198.51.100.7", 5060, "udp")
ANYBODY, ANYBODY_6 = "udp;203.0.113.9:5060", "udp;[2001:db8:9::9]:5060"


def told(source: str, first: str = "INVITE", **given: Any) -> str:
    return message(first, more=f"X-Gateway-Source: {source}\r\n", **given)


def house(trunk: dict[str, Any] | None = None, **sip: Any) -> House:
    return House(sip={**BEHIND, **sip}, trunk=trunk)


def test_only_edges_may_send_requests_and_others_count_as_strangers() -> None:
    here = house()
    assert here.code(told(ANYBODY, body=sdp()), EDGE) == 0
    denials = [here.code(told(ANYBODY, call=str(number), body=sdp()), STRANGER) for number in range(5)]
    assert denials == [403, 403, 403, -1, -1]
    assert here.code(message("OPTIONS"), "203.0.113.10:5060") == 403


def test_a_request_without_a_source_is_refused_except_what_edges_make_by_themselves() -> None:
    here = house(trunk={})
    assert here.ask(message(body=sdp()), EDGE) == Respond(UNTOLD, 403, "no X-Gateway-Source")
    assert here.ask(told("udp;nobody", body=sdp()), EDGE).code == 400
    twice = message(body=sdp(), more=f"X-Gateway-Source: {TRUNK}\r\n" * 2)
    assert here.ask(twice, EDGE) == Respond(UNTOLD, 400, "two X-Gateway-Source headers")
    assert [here.code(message("OPTIONS"), EDGE) for _ in range(200)] == [200] * 200
    assert here.code(message("BYE", to_tag="us"), EDGE) == 481
    assert here.code(message("INFO", to_tag="us"), EDGE) == 403


def test_without_edges_the_header_says_nothing() -> None:
    here = House(trunk={})
    assert here.code(told(TRUNK, body=sdp()), STRANGER) == 403
    assert here.code(told(ANYBODY, call="b", body=sdp()), "198.51.100.7:5060") == 0


def test_trunks_are_known_by_the_told_address_ipv6_too_and_by_a_verified_name() -> None:
    here = house(trunk={"networks": "2001:db8:1::/48", "tls_name": "PBX.example.com"})
    for number, source in enumerate((TRUNK, TRUNK_6, "tls;203.0.113.9:5061;pbx.example.com")):
        assert here.code(told(source, call=str(number), body=sdp()), EDGE) == 0
    assert here.code(told(ANYBODY, call="b", body=sdp()), EDGE) == 403
    assert here.code(told(ANYBODY_6, call="c", body=sdp()), EDGE) == 403
    assert here.code(told("tls;203.0.113.9:5061;other.example.com", call="d", body=sdp()), EDGE) == 403


def test_an_allowed_network_may_be_ipv6() -> None:
    here = house(allow_from="2001:db8:9::/48")
    assert here.code(told(ANYBODY_6, body=sdp()), EDGE) == 0
    assert here.code(told(ANYBODY, call="b", body=sdp()), EDGE) == 403


def test_each_source_has_a_rate_of_its_own_and_the_edge_none() -> None:
    here = house(requests_per_second=10)
    flood = [here.request(told(ANYBODY, call=f"f{n}"), EDGE, 100) for n in range(50)]
    assert flood == [Pass()] * 10 + [Drop("too many")] * 40
    assert here.request(told("udp;203.0.113.10:5060", call="other"), EDGE, 100) == Pass()
    neighbours = [here.request(told(f"udp;[2001:db8::{n}]:5060", call=f"n{n}"), EDGE, 100) for n in range(1, 13)]
    assert neighbours == [Pass()] * 10 + [Drop("too many")] * 2  # one site
    acks = [here.request(message("ACK", call=f"f{n % 10}"), EDGE, 100) for n in range(500)]
    assert Drop("too many") not in acks


def test_a_trunk_with_challenge_is_challenged_behind_an_edge_too() -> None:
    here = house(trunk={"challenge": True, "username": "kit", "password_from": "pw"})
    assert here.code(told(TRUNK, body=sdp()), EDGE) == 401


def test_scanners_are_dropped() -> None:
    here = house()
    scanner = message("OPTIONS", more=f"X-Gateway-Source: {ANYBODY}\r\nUser-Agent: friendly-scanner\r\n")
    assert here.ask(scanner, EDGE) == Drop("scanner")


def answered(here: House, name: str = "a", source: str = ANYBODY) -> None:
    assert here.code(told(source, call=name, body=sdp()), EDGE) == 0
    here.sent(message("SIP/2.0 200 OK", call=name, to_tag="us"), EDGE)
    assert here.code(told(source, "ACK", call=name, to_tag="us"), EDGE) == 0


def test_a_call_goes_on_from_its_far_end_whichever_edge_brings_it() -> None:
    here = house()
    answered(here)
    assert here.code(told("udp;203.0.113.77:5060", "INFO", to_tag="us"), EDGE) == 481
    assert here.code(told(ANYBODY, "INFO", to_tag="us", cseq=2), OTHER_EDGE) == 0
    assert here.code(message("BYE", to_tag="us", cseq=3), OTHER_EDGE) == 0  # an edge that ends what is over


def test_an_ipv6_contact_is_the_far_ends_too() -> None:
    here = house()
    assert here.code(told(ANYBODY, body=sdp(), contact="<sip:a@[2001:DB8:9:0::9]:5060>"), EDGE) == 0
    here.sent(message("SIP/2.0 200 OK", to_tag="us"), EDGE)
    assert here.code(told(ANYBODY_6, "ACK", to_tag="us"), EDGE) == 0
    assert here.code(told(ANYBODY_6, "BYE", to_tag="us", cseq=2), EDGE) == 0


def test_an_edge_cancels_and_acknowledges_hop_by_hop() -> None:
    here = house()
    assert here.code(told(ANYBODY, body=sdp()), EDGE) == 0
    assert here.code(message("CANCEL"), EDGE) == 0
    here.sent(message("SIP/2.0 487 Request Terminated", to_tag="us"), EDGE)
    assert here.code(message("ACK", to_tag="us"), EDGE) == 0


def test_a_call_of_ours_is_answered_and_ended_from_wherever_the_edge_found_it() -> None:
    here = house(trunk={})
    here.dial(target=EDGE)
    assert here.code(told(ANYBODY, "BYE", call="ours", from_tag="them", to_tag="us", cseq=7), EDGE) == 0
    assert here.code(told(ANYBODY, "BYE", call="other", from_tag="them", to_tag="us", cseq=7), EDGE) == 403


def test_sound_on_this_machine_is_for_callers_from_it() -> None:
    local = sdp(address="127.0.0.1")
    here = house()
    assert here.code(told(ANYBODY, body=local), EDGE) == 488
    assert here.code(told("udp;127.0.0.1:5060", call="b", body=local), EDGE) == 0
    for media, left in (("192.0.2.1", False), ("127.0.0.1", True)):
        here = house(media_address=media)
        here.sent(message(call="ours", from_tag="us", branch="ours", body=sdp()), EDGE)
        answer = message("SIP/2.0 183 Progress", call="ours", from_tag="us", to_tag="them", branch="ours", body=local)
        verdict = here.response(answer, EDGE)
        assert isinstance(verdict, Pass)
        assert (verdict.body is not None) is left


def test_what_an_edge_answers_for_makes_it_no_trunk() -> None:
    here = house(trunk={})
    here.rules._access_list.learn("main", EDGE)
    assert here.rules.trunk_of(here.rules.near(EDGE)) is None


def test_an_edge_may_tell_who_answered() -> None:
    here = house(trunk={})
    near = here.rules.near(EDGE)
    for header, source in (("", near), (f"X-Gateway-Source: {TRUNK}\r\n", TRUNK_AT), ("X-Gateway-Source: x\r\n", near)):
        answer = message("SIP/2.0 200 OK", more=header)
        assert here.rules.source_of(answer, EDGE, here.now) == source
    assert here.rules.trunk_of(TRUNK_AT) == "main"
