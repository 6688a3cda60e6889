from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr

from gateway.dialplan.model.agent import Webhook
from gateway.errors import ConfigError
from gateway.tools.webhook import headers_of

pytestmark = pytest.mark.unit

SECRETS = {"crm_token": SecretStr("very-secret"), "umlaut": SecretStr("ü"), "two_lines": SecretStr("a\r\nb: c")}


def webhook(**given: Any) -> Webhook:
    return Webhook.model_validate({"name": "order", "description": "d", "url": "https://h/x", **given})


def problems_of(**given: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        headers_of(webhook(**given), SECRETS)
    return caught.value.problems


def test_names_of_secrets_are_replaced_in_headers() -> None:
    headers = {"Authorization": "Bearer ${CRM_Token}", "X-Team": "phone $5 {x}"}
    assert headers_of(webhook(headers=headers, signed_with="Crm_Token"), SECRETS) == {
        "Authorization": "Bearer very-secret",
        "X-Team": "phone $5 {x}",
    }


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"headers": {"X-A": "${other}"}},
            "headers.X-A: there is no secret 'other'; set it in the section [secrets] or as",
        ),
        ({"headers": {"X-A": "${}"}}, "headers.X-A: no header can have this value"),
        ({"headers": {"X-A": "${crm_token"}}, "headers.X-A: no header can have this value"),
        ({"headers": {"X-A": "${two_lines}"}}, "headers.X-A: no header can have this value"),
        ({"headers": {"X-A": "${umlaut}"}}, "headers.X-A: no header can have this value"),
        ({"headers": {"X A": "1"}}, "headers.X A: not a header of yours to set"),
        ({"headers": {"Gateway-Signature": "1"}}, "headers.Gateway-Signature: not a header of yours to set"),
        ({"headers": {"content-length": "1"}}, "headers.content-length: not a header of yours to set"),
        ({"signed_with": "other"}, "signed_with: there is no secret 'other'"),
    ],
)
def test_what_cannot_be_sent_is_told_without_a_secret(given: dict[str, Any], told: str) -> None:
    (problem,) = problems_of(**given)
    assert problem.startswith(told)
    assert "very-secret" not in problem
    assert "b: c" not in problem


def test_all_mistakes_are_told_at_once() -> None:
    assert len(problems_of(headers={"X-A": "${a} ${b}", "host": "h"}, signed_with="c")) == 4
