"""When a trunk is registered at again after a failure, and the Contact it is given. Pure: time and chance are given."""

from __future__ import annotations

import re

from gateway.sip.core.message import Message

LAST_RETRY_S = 300.0
"""The longest wait after a failure that may pass by itself: a time-out, a 5xx, a broken connection."""
FIRST_REFUSED_S, LAST_REFUSED_S = 300.0, 3600.0
"""The shortest and longest wait after a refusal that needs an operator: a wrong password, an unknown account."""
MAX_RETRY_AFTER_S = 86400.0
REFRESH_MARGIN_S = 60.0
"""How long before a binding ends it is renewed; a lost attempt leaves time for another."""
_PASSING = frozenset({408, 423, 429, 480, 491})
_CONTACT_USER = re.compile(r"sips?:([^@>;]*@)?")
_SECONDS = re.compile(r"[0-9]{1,9}")


def contact_at(contact: str, host: str, parameters: str) -> str:
    """
    Return a Contact with its user as it is, at another place.

    Args:
        contact: ``<sip:line1@127.0.0.1:5070;ob>``.
        host: with its port.
        parameters: of the URI, such as ``;transport=tcp``.
    """
    found = _CONTACT_USER.search(contact)
    user = (found[1] if found else None) or ""
    return f"<sip:{user}{host}{parameters}>"


class RegistrationRetry:
    """
    Counts failures in a row and says how long to wait after each.

    Waits double. They are spread by chance, so that the accounts of many gateways do not all return at the same moment.

    Args:
        first_s: the wait after the first failure that may pass by itself.
    """

    def __init__(self, first_s: float) -> None:
        self._first_s = first_s
        self.failures = 0

    def succeeded(self) -> None:
        """Forget the failures."""
        self.failures = 0

    def delay_s(self, code: int, retry_after_s: float | None, chance: float) -> float:
        """
        Count a failure and return the seconds to wait.

        Args:
            code: SIP status of the answer.
            retry_after_s: what the answer asked for; never less is waited, up to a day (RFC 3261 section 20.33).
            chance: a random number from 0 to 1.
        """
        doubled = 2.0 ** min(self.failures, 20)
        self.failures += 1
        if code >= 500 or code in _PASSING:
            wait_s = min(self._first_s * doubled, max(LAST_RETRY_S, self._first_s))
        else:
            wait_s = min(max(10 * self._first_s, FIRST_REFUSED_S) * doubled, LAST_REFUSED_S)
        spread_s = wait_s * (0.8 + 0.4 * chance)
        if retry_after_s is None:
            return spread_s
        return max(spread_s, min(retry_after_s, MAX_RETRY_AFTER_S) * (1 + 0.1 * chance))


def refresh_after_s(expires_s: int) -> float:
    """Return the seconds after which a binding that was granted for ``expires_s`` is renewed."""
    return max(1.0, expires_s / 2, expires_s - REFRESH_MARGIN_S)


def retry_after_in(response: Message) -> float | None:
    """Return the seconds of a response's ``Retry-After``; None without one."""
    found = _SECONDS.match(response.first("retry-after"))
    return float(found[0]) if found else None
