"""The rules in front of the SIP library: which message it gets to see. No I/O; thread: sip."""

from __future__ import annotations

import secrets as random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydantic import SecretStr

from gateway.settings import SipSettings, TrunkSettings
from gateway.sip.buckets import Buckets
from gateway.sip.digest import REALM, Credentials, Digest
from gateway.sip.envelope import BUFFER_BYTES, Envelope, read_envelope
from gateway.sip.invites import Invites
from gateway.sip.offer import deadly, has_audio_of, has_sdp, unacceptable
from gateway.sip.sources import Source, Sources

ALLOW = "INVITE, ACK, BYE, CANCEL, OPTIONS, PRACK, UPDATE, INFO, REFER, NOTIFY"
_IN_DIALOG_ONLY = ("REFER",)
_REFUSED = ("REGISTER", "PUBLISH", "MESSAGE", "SUBSCRIBE")
_KNOWN = (*ALLOW.split(", "), *_REFUSED)
_GENEROUS = 10  # trunks and dialogs may send so many times what a stranger may
_DEBT_S = 2.0  # so long a source must be calm after a flood, at most
_DENIALS = 3  # answered at once, then one in ``_DENIAL_EVERY_S``
_DENIAL_EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class Pass:
    """The library may have it."""


@dataclass(frozen=True, slots=True)
class Drop:
    """Nobody gets it and nobody is told; ``why`` is counted."""

    why: str


@dataclass(frozen=True, slots=True)
class Respond:
    """Answered at once, without a transaction; ``why`` is counted."""

    why: str
    code: int
    reason: str
    headers: tuple[tuple[str, str], ...] = ()


Verdict = Pass | Drop | Respond
NOT_ALLOWED = "source not allowed"
"""Why strangers are turned away; they are not worth a trace."""
_PASS = Pass()


@dataclass(frozen=True, slots=True)
class Occupancy:
    """
    What the process holds now, asked for each new INVITE.

    Attributes:
        full: whether it can take no further call.
        draining: whether it is to take none.
        calls_of: calls of a trunk now, both directions.
    """

    full: Callable[[], bool] = lambda: False
    draining: Callable[[], bool] = lambda: False
    calls_of: Callable[[str], int] = lambda _trunk: 0


class Screening:
    """
    Decides on each message. Memory is bounded.

    Args:
        settings: limits, scanners, ``deny_code``.
        sources: who may call.
        trunks: name -> trunk.
        secrets: name -> secret, for trunks with ``challenge``.
        occupancy: what the process holds.
    """

    def __init__(
        self,
        settings: SipSettings,
        sources: Sources,
        trunks: Mapping[str, TrunkSettings],
        *,
        secrets: Mapping[str, SecretStr],
        occupancy: Occupancy,
    ) -> None:
        self._settings = settings
        self._sources = sources
        self._trunks = trunks
        self._occupancy = occupancy
        self._srtp_in_use = any(
            policy != "off" for policy in (settings.srtp, *(t.srtp for t in trunks.values())) if policy
        )
        self._scanners = tuple(name.lower() for name in settings.scanners)
        self._credentials = {name: _credentials(t, secrets) for name, t in trunks.items() if t.challenge}
        self._digest = Digest(random.token_bytes(32))
        self._invites = Invites()
        rate = settings.requests_per_second
        self._strangers = Buckets(rate, rate, rate * _DEBT_S)
        self._generous = Buckets(rate * _GENEROUS, rate * _GENEROUS)
        self._denials = Buckets(1 / _DENIAL_EVERY_S, _DENIALS)

    def allows(self, address: str) -> bool:
        """Return whether a call may come from this IPv4 address."""
        return self._sources.find(address).allowed

    def request(self, text: str, source: str, now: float) -> Verdict:
        """Judge a request that came from ``address:port`` at ``now`` (monotonic seconds)."""
        host = source.rpartition(":")[0] or source
        known = self._sources.find(host)
        message = read_envelope(text)
        in_call = self._belongs_to_a_call(message)
        if not in_call and (refusal := self._stranger(message, known, host, now)):
            return refusal
        if in_call and not self._generous.take(f"dialog {host}", now):
            return Drop("too many")
        if message.method == "ACK":
            return self._acknowledged(message, text)
        if (reason := deadly(text, srtp_in_use=self._srtp_in_use)) is not None:
            return _not_acceptable(message, reason)
        if (refused := _not_for_us(message, text)) is not None:
            return refused
        if message.method == "INVITE" and not message.to_tag:
            return self._new_invite(message, text, known, host, now)
        if message.method == "OPTIONS" and not message.to_tag and self._occupancy.draining():
            return self._no_room(known) or _PASS  # whoever asks whether we live sends the next call elsewhere
        return self._inside(message, text, known, host) if in_call else _PASS

    def response(self, text: str, source: str, now: float) -> Verdict:
        """Judge a response: one to nothing of ours is dropped, and one that would kill."""
        if not self._invites.is_ours(read_envelope(text).call_id):
            return Drop("stray response")
        if deadly(text, srtp_in_use=self._srtp_in_use) is not None:
            return Drop("deadly SDP")
        return _PASS

    def sent(self, text: str, now: float) -> None:
        """Learn from a message of ours that goes out."""
        message = read_envelope(text)
        if message.code is None:
            if message.method != "ACK":
                self._invites.began(message.call_id)
        elif message.cseq_method == "INVITE":
            self._invites.answered(message.invite_key, message.code)

    # --- who is it ---

    def _belongs_to_a_call(self, message: Envelope) -> bool:
        if message.to_tag and self._invites.is_call(message.call_id):
            return True
        return message.method in ("ACK", "CANCEL") and self._invites.is_waiting(message.invite_key)

    def _stranger(self, message: Envelope, known: Source, host: str, now: float) -> Verdict | None:
        """Judge a request that belongs to no call by where it comes from."""
        if known.trunk is None and any(name in message.user_agent.lower() for name in self._scanners):
            return Drop("scanner")
        if not known.allowed:
            if message.method == "ACK" or not self._denials.take(host, now):
                return Drop(NOT_ALLOWED)
            return Respond(NOT_ALLOWED, self._settings.deny_code, "")
        buckets = self._strangers if known.trunk is None else self._generous
        return None if buckets.take(host, now) else Drop("too many")

    # --- what is it ---

    def _acknowledged(self, message: Envelope, text: str) -> Verdict:
        if not self._invites.acknowledged(message.invite_key) and not self._invites.is_call(message.call_id):
            return Drop("stray ACK")
        if deadly(text, srtp_in_use=self._srtp_in_use) is not None:
            return Drop("deadly SDP")  # an answer in the ACK: the call ends for want of it
        return _PASS

    def _new_invite(self, message: Envelope, text: str, known: Source, host: str, now: float) -> Verdict:
        arrival = self._invites.arrived(message.invite_key, message.branch)
        if arrival == "again":
            return _PASS
        if arrival == "absorbed":
            return Drop("answered already")
        if arrival == "refused":
            return Respond("answered already", self._invites.refusal(message.invite_key), "")
        if arrival == "merged":
            return Respond("merged", 482, "Loop Detected")  # RFC 3261 section 8.2.2.2
        refusal = (
            self._challenged(message, known, now)
            or self._replaces(message)
            or self._unfit(text, known, host)
            or self._no_room(known)
        )
        if refusal is None:
            self._invites.passed(message.invite_key, message.branch)
        return refusal or _PASS

    def _challenged(self, message: Envelope, known: Source, now: float) -> Respond | None:
        credentials = self._credentials.get(known.trunk or "")
        if credentials is None:
            return None
        verdict = (
            self._digest.verify(message.authorization, "INVITE", credentials, now) if message.authorization else ""
        )
        if verdict == "right":
            return None
        headers = self._digest.challenge(credentials.realm, now, stale=verdict == "stale")
        return Respond("password wrong" if verdict == "wrong" else "challenged", 401, "Unauthorized", headers)

    def _replaces(self, message: Envelope) -> Respond | None:
        if not message.replaces:
            return None
        if self._invites.is_call(message.replaces):
            return Respond("Replaces", 486, "Busy Here")  # a stranger must not take a running call over
        return Respond("Replaces", 481, "Call/Transaction Does Not Exist")  # RFC 3891 section 3

    def _unfit(self, text: str, known: Source, host: str) -> Respond | None:
        trunk = self._trunks.get(known.trunk or "")
        policy = (trunk.srtp if trunk else None) or self._settings.srtp
        reason = unacceptable(text, policy, local=host.startswith("127."))
        return None if reason is None else _not_acceptable_here(reason)

    def _no_room(self, known: Source) -> Respond | None:
        trunk = self._trunks.get(known.trunk or "")
        wait = (("Retry-After", str(self._settings.retry_after_s)),)
        if self._occupancy.draining():
            return Respond("draining", 503, "Shutting down", wait)
        if self._occupancy.full():
            return Respond("full", 503, "All lines are busy", wait)
        if trunk is not None and trunk.max_calls and self._occupancy.calls_of(known.trunk or "") >= trunk.max_calls:
            return Respond("trunk full", 503, "All lines of the trunk are busy", wait)
        return None

    def _inside(self, message: Envelope, text: str, known: Source, host: str) -> Verdict:
        """Judge a request inside a call."""
        if message.method == "OPTIONS":  # the library answers 500
            return Respond("OPTIONS", 200, "OK", (("Allow", ALLOW), ("Accept", "application/sdp")))
        if message.method in ("INVITE", "UPDATE") and has_sdp(text):
            trunk = self._trunks.get(known.trunk or "")
            codecs = (trunk.codecs if trunk else None) or self._settings.codecs
            if not has_audio_of(text, codecs):  # the library answers 500
                return _not_acceptable_here("no codec in common")
            if (reason := unacceptable(text, "optional", local=host.startswith("127."))) is not None:
                return _not_acceptable_here(reason)
        return _PASS


def _credentials(trunk: TrunkSettings, secrets: Mapping[str, SecretStr]) -> Credentials:
    password = secrets.get(trunk.password_from or "", SecretStr("")).get_secret_value()
    if not password:
        password = random.token_urlsafe(32)  # without one nobody is right
    return Credentials(trunk.username or "", password, REALM if trunk.realm == "*" else trunk.realm)


def _not_for_us(message: Envelope, text: str) -> Respond | None:
    """Refuse what was cut off at the end of the library's buffer, and methods that we have not."""
    if len(text) >= BUFFER_BYTES and "\r\n\r\n" not in text and "\n\n" not in text:
        return Respond("cut off", 513, "Message Too Large")  # the library takes what is left of it for the whole
    if message.method not in _KNOWN:
        return Respond("unknown method", 501, "Not Implemented", (("Allow", ALLOW),))
    if message.method in _REFUSED or (message.method in _IN_DIALOG_ONLY and not message.to_tag):
        return Respond("method not allowed", 405, "Method Not Allowed", (("Allow", ALLOW),))
    return None


def _not_acceptable(message: Envelope, reason: str) -> Verdict:
    # PRACK and whatever else carries SDP get it too; the transaction that waits for them ends by its own timer.
    return _not_acceptable_here(reason) if message.method != "CANCEL" else Drop("deadly SDP")


def _not_acceptable_here(reason: str) -> Respond:
    return Respond(reason, 488, "Not Acceptable Here", (("Warning", f'399 sip-voice-gateway "{reason}"'),))
