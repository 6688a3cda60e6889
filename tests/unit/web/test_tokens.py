"""Bearer tokens and their scopes."""

from __future__ import annotations

import hashlib

import pytest

from gateway.settings.web import SCOPES, Scope, TokenSettings
from gateway.web.tokens import TOKEN_PREFIX, Client, Tokens, hash_of, new_token

pytestmark = pytest.mark.unit


def tokens(**given: tuple[str, tuple[Scope, ...]]) -> Tokens:
    return Tokens({name: TokenSettings(hash=hash_of(token), scopes=scopes) for name, (token, scopes) in given.items()})


def test_a_token_has_at_least_128_random_bits_and_no_two_are_the_same() -> None:
    made = {new_token() for _ in range(1000)}
    assert len(made) == 1000
    assert all(token.startswith(TOKEN_PREFIX) and len(token) - len(TOKEN_PREFIX) >= 43 for token in made)


def test_the_settings_have_the_hash_alone() -> None:
    token = new_token()
    assert hash_of(token) == "sha256:" + hashlib.sha256(token.encode()).hexdigest()
    assert token not in repr(tokens(shop=(token, ("read",))).__dict__)


def test_a_token_is_known_whole_or_not_at_all() -> None:
    token = new_token()
    known = tokens(shop=(token, ("read",)), desk=(new_token(), ("control",)))
    found = known.bearer_of(token)
    assert found is not None
    assert (found.name, set(found.scopes)) == ("shop", {"read"})
    for other in ("", token[:-1], token + "x", token.upper(), "\udc80", hash_of(token)):
        assert known.bearer_of(other) is None


def test_without_tokens_no_one_is_known() -> None:
    assert tokens().bearer_of("") is None


@pytest.mark.parametrize("scope", SCOPES)
def test_a_client_may_what_its_scopes_say_and_admin_may_all(scope: Scope) -> None:
    client = Client("one", frozenset({scope}), "")
    assert [each for each in SCOPES if client.may(each)] == (list(SCOPES) if scope == "admin" else [scope])


def test_a_token_made_anew_under_the_same_name_ends_the_sessions_of_the_old_one() -> None:
    old, new = tokens(shop=("a" * 43, ("read",))), tokens(shop=("b" * 43, ("read",)))
    client = old.bearer_of("a" * 43)
    assert client is not None
    assert old.named("shop", client.mark) == client
    assert new.named("shop", client.mark) is None
    assert old.named("other", client.mark) is None
