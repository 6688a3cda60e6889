"""The challenge of incoming INVITEs, and its answers."""

from __future__ import annotations

import hashlib
import re

import pytest

from gateway.sip.admission.digest import NONCE_AGE_S, Credentials, Digest

pytestmark = pytest.mark.unit

WHO = Credentials("kit", "secret", "there")
URI = "sip:1000@192.0.2.1"


def nonce_of(digest: Digest, now: float, *, stale: bool = False) -> str:
    challenges = digest.challenge(WHO.realm, now, stale=stale)
    assert [re.search("algorithm=([^,]+)", value)[1] for _, value in challenges] == ["MD5", "SHA-256"]  # type: ignore[index]
    assert all(("stale=true" in value) is stale for _, value in challenges)
    found = re.search('nonce="([^"]+)"', challenges[0][1])
    assert found
    return found[1]


def answer(nonce: str, *, password: str = "secret", algorithm: str = "MD5", nc: str = "00000001", **other: str) -> str:
    def h(*parts: str) -> str:
        return hashlib.new(algorithm.replace("-", ""), ":".join(parts).encode()).hexdigest()

    response = h(h("kit", "there", password), nonce, nc, "mine", "auth", h("INVITE", URI))
    fields = {
        **{"username": '"kit"', "realm": '"there"', "nonce": f'"{nonce}"', "uri": f'"{URI}"', "qop": "auth"},
        **{"nc": nc, "cnonce": '"mine"', "response": f'"{response}"', "algorithm": algorithm},
        **other,
    }
    return "Digest " + ", ".join(f"{name}={value}" for name, value in fields.items() if value)


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
def test_the_right_password_is_right_once_for_each_count(algorithm: str) -> None:
    digest = Digest(b"key")
    nonce = nonce_of(digest, 100)
    first = answer(nonce, algorithm=algorithm)
    assert digest.verify(first, "INVITE", WHO, 101) == "right"
    assert digest.verify(first, "INVITE", WHO, 101) == "stale"
    assert digest.verify(answer(nonce, algorithm=algorithm, nc="00000002"), "INVITE", WHO, 101) == "right"
    assert digest.verify(answer(nonce, algorithm=algorithm, nc="00000001"), "INVITE", WHO, 101) == "stale"


def test_the_example_of_rfc_2617_is_computed_alike() -> None:
    from gateway.sip.admission.digest import _response

    fields = {"uri": "/dir/index.html", "nonce": "dcd98b7102dd2f0e8b11d0f600bfb0c093", "nc": "00000001"}
    fields |= {"cnonce": "0a4f113b", "qop": "auth"}
    mufasa = Credentials("Mufasa", "Circle Of Life", "testrealm@host.com")
    assert _response(fields, "GET", mufasa) == "6629fae49393a05397450978507c4ef1"


def test_a_wrong_password_stays_wrong_even_with_an_old_nonce() -> None:
    digest = Digest(b"key")
    old = nonce_of(digest, 100)
    assert digest.verify(answer(old, password="guess"), "INVITE", WHO, 101) == "wrong"
    assert digest.verify(answer(old, password="guess"), "INVITE", WHO, 1000) == "wrong"


def test_an_old_foreign_or_future_nonce_is_stale() -> None:
    digest = Digest(b"key")
    nonce = nonce_of(digest, 100, stale=True)
    assert digest.verify(answer(nonce), "INVITE", WHO, 100 + NONCE_AGE_S + 1) == "stale"
    assert digest.verify(answer(nonce), "INVITE", WHO, 99) == "stale"
    assert Digest(b"other").verify(answer(nonce), "INVITE", WHO, 101) == "stale"
    assert digest.verify(answer("made.up"), "INVITE", WHO, 101) == "stale"
    assert digest.verify(answer("\u00e9\u00e9"), "INVITE", WHO, 101) == "stale"


@pytest.mark.parametrize(
    "changed",
    [
        {"username": '"other"'},
        {"realm": '"elsewhere"'},
        {"qop": ""},
        {"qop": "auth-int"},
        {"cnonce": ""},
        {"nc": "1"},
        {"nc": "-0000001"},
        {"uri": '""'},
        {"response": '""'},
        {"response": '"\u00fc"'},
    ],
)
def test_an_answer_that_lacks_or_changes_something_is_wrong(changed: dict[str, str]) -> None:
    digest = Digest(b"key")
    assert digest.verify(answer(nonce_of(digest, 100)), "INVITE", WHO, 101) == "right"
    assert digest.verify(answer(nonce_of(digest, 102), **changed), "INVITE", WHO, 102) == "wrong"


def test_an_algorithm_that_we_did_not_offer_is_wrong() -> None:
    digest = Digest(b"key")
    header = answer(nonce_of(digest, 100)).replace("algorithm=MD5", "algorithm=MD5-sess")
    assert digest.verify(header, "INVITE", WHO, 101) == "wrong"


@pytest.mark.parametrize("header", ["", "Basic a2l0OnNlY3JldA==", "Digest", "Digest " + 'x="' * 900, "Digest a=b, a=c"])
def test_nonsense_is_wrong(header: str) -> None:
    assert Digest(b"key").verify(header, "INVITE", WHO, 1) == "wrong"


def test_counts_are_remembered_of_so_many_nonces_only() -> None:
    digest = Digest(b"key")
    nonce = nonce_of(digest, 100)
    for number in range(5000):
        digest._counts_up({"nonce": nonce, "cnonce": str(number), "nc": "00000001"})
    assert len(digest._counts) == 4096


def test_the_password_does_not_show() -> None:
    assert "secret" not in repr(WHO)
