"""
The rules in front of the SIP library: which message it gets to see. No I/O; thread: sip.

Theory of operation. ``Screening`` is asked about each message, and answers with a verdict: ``Pass`` (perhaps with
another body), ``Drop`` or ``Respond``. First ``source_of`` says who sent it: where edges are set, they alone may send
requests, and what they say in ``X-Gateway-Source`` (``core/source.py``) counts from then on wherever a source decides.
Before the library parses it, ``admit`` looks at the source
(``access_list.py``: a trunk, an allowed network, a stranger), at its rate and at the form of the message. After that,
``request`` and ``response`` look at the dialog or transaction it belongs to (``dialog_table.py``), the method, the
digest of a trunk with ``challenge`` (``digest.py``), the body (``bodies.py``: offers and answers are rewritten from
what was understood), and whether there is room for another call.

It remembers dialogs and transactions by what passes in both directions, in tables of bounded size (``newest.py``),
and what it cannot match it refuses. It never calls the library; ``screen/screen.py`` carries its verdicts out.
"""

from __future__ import annotations

import re
import secrets as random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import get_args

from pydantic import SecretStr

from gateway.rate_limit import TokenBuckets
from gateway.settings.sip import Codec, SipSettings, TrunkSettings, media_host
from gateway.sip.admission.access_list import Access, AccessList
from gateway.sip.admission.bodies import ACCEPT, Bodies, Body, BodyRefusal, anything
from gateway.sip.admission.dialog_table import DialogKey, DialogTable, Peer
from gateway.sip.admission.digest import REALM, Credentials, Digest
from gateway.sip.core.message import BUFFER_BYTES, Malformed, Message, MessageReader
from gateway.sip.core.negotiation import Terms
from gateway.sip.core.source import Source
from gateway.threads import runs_on

ALLOW = "INVITE, ACK, BYE, CANCEL, OPTIONS, PRACK, UPDATE, INFO, NOTIFY"
SUPPORTED = "100rel, timer"
_REFUSED = ("REGISTER", "PUBLISH", "MESSAGE", "SUBSCRIBE", "REFER")
_KNOWN = (*ALLOW.split(", "), *_REFUSED)
_GENEROUS = 10  # trunks and dialogs may send so many times what a stranger may
_OF_EDGES = ("OPTIONS", "ACK", "CANCEL", "BYE")  # requests that a proxy makes by itself
_DEBT_S = 2.0  # so long a source must be calm after a flood, at most
_DENIALS = 3  # answered at once, then one in ``_DENIAL_EVERY_S``
_DENIAL_EVERY_S = 10.0
_PROBES, _PROBES_PER_S = 20, 1.0  # OPTIONS that anybody may send: monitors of a carrier have addresses of their own
_PRESSED_S = 5.0  # so long after a refusal for want of room
_ACK_LIMIT_S = 5.0  # a 200 has been sent four times by then
_PHRASES = {403: "Forbidden", 404: "Not Found", 480: "Temporarily Unavailable", 486: "Busy Here", 603: "Decline"}
# Before a message is read: by these it is only told what limit it counts for.
_CALL_ID = re.compile(r"\n(?:call-id|i)[ \t]*:[ \t]*([^\r\n]*)", re.IGNORECASE)
_UDP = re.compile(r"SIP[ \t]*/[ \t]*2\.0[ \t]*/[ \t]*UDP[ \t]", re.IGNORECASE)
_BRANCH = re.compile(r";[ \t]*branch[ \t]*=[ \t]*([^\s;,]*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Pass:
    """The library may have it, with ``body`` for its body, or with none."""

    body: Body | None = None


@dataclass(frozen=True, slots=True)
class Drop:
    """It is dropped without an answer; ``why`` is counted."""

    why: str


@dataclass(frozen=True, slots=True)
class Respond:
    """Answered at once, without a transaction; ``why`` is counted unless it is empty."""

    why: str
    code: int
    reason: str
    headers: tuple[tuple[str, str], ...] = ()


Verdict = Pass | Drop | Respond
NOT_ALLOWED = "source not allowed"
"""Why strangers are turned away; they are not worth a trace."""
UNTOLD = "edge tells no source"
"""Why an edge's request is refused: it does not say, or not in a way that can be read, who sent it."""
CUT_OFF = "cut off"
"""Why a message is refused that does not fit into the library's buffer."""
_PASS = Pass()


@dataclass(frozen=True, slots=True)
class Occupancy:
    """
    What the process holds now, asked for each new INVITE.

    Attributes:
        full: whether it can take no further call.
        draining: whether it is to take none.
        calls_of: calls of a trunk now, both directions.
        scarce: whether calls come and go faster than the library frees their sockets; that passes in half a second.
        late: whether the audio of the calls that are up is late.
    """

    full: Callable[[], bool] = lambda: False
    draining: Callable[[], bool] = lambda: False
    calls_of: Callable[[str], int] = lambda _trunk: 0
    scarce: Callable[[], bool] = lambda: False
    late: Callable[[], bool] = lambda: False


class Screening:
    """
    Decides on each message. Memory is bounded.

    Args:
        settings: limits, scanners, ``deny_code``.
        access_list: who may call.
        trunks: name -> trunk.
        secrets: name -> secret, for trunks with ``challenge``.
        occupancy: what the process holds.
        reader: reads each message, and is asked for it again by what the library calls.
    """

    def __init__(
        self,
        settings: SipSettings,
        access_list: AccessList,
        trunks: Mapping[str, TrunkSettings],
        *,
        secrets: Mapping[str, SecretStr],
        occupancy: Occupancy,
        reader: MessageReader | None = None,
    ) -> None:
        self._settings = settings
        self._access_list = access_list
        self._trunks = trunks
        self._occupancy = occupancy
        self._reader = reader or MessageReader()
        self._scanners = tuple(name.lower() for name in settings.scanners)
        self._credentials = {name: _credentials(t, secrets) for name, t in trunks.items() if t.challenge}
        self._digest = Digest(random.token_bytes(32))
        self.dialogs = DialogTable()
        self._bodies = Bodies()
        self._pressed_at = -_PRESSED_S
        rate = settings.requests_per_second
        self._strangers = TokenBuckets(rate, rate, rate * _DEBT_S)
        self._generous = TokenBuckets(rate * _GENEROUS, rate * _GENEROUS)
        self._probes = TokenBuckets(_PROBES_PER_S, _PROBES)
        self._denials = TokenBuckets(1 / _DENIAL_EVERY_S, _DENIALS)

    @runs_on("sip")
    def allows(self, source: Source) -> bool:
        """Return whether a call may come from there."""
        return self._access_list.find(source).allowed

    @runs_on("sip")
    def trunk_of(self, source: Source) -> str | None:
        """Return whose it is."""
        return self._access_list.trunk_of(source)

    @runs_on("sip")
    def near(self, hop: str) -> Source:
        """Return who is at ``address:port``."""
        return self._access_list.near(hop)

    # --- before the library has read it ---

    @runs_on("sip")
    def source_of(self, text: str, hop: str, now: float) -> Source | Drop | Respond:
        """
        Return who sent a message; where only edges may send, what to do with one that is not theirs.

        What an edge makes by itself (probes, the CANCEL and the ACK of a refusal, the end of a call that it gave up)
        has no sender but the edge. Of a response an edge may say it.

        Args:
            text: the whole of it.
            hop: ``address:port`` it came from.
            now: monotonic seconds.
        """
        near = self.near(hop)
        if not self._access_list.has_edges:
            return near
        request = not text.startswith("SIP/")
        if request and not near.edge:
            return self._deny(text, near, now)
        try:
            source = self._access_list.source_of(text, hop)
        except ValueError as error:
            return Respond(UNTOLD, 400, str(error)) if request else near
        if not request:
            return source
        if source.edge and text.partition(" ")[0] not in _OF_EDGES:
            return Respond(UNTOLD, 403, "no X-Gateway-Source")
        return source

    @runs_on("sip")
    def admit(self, text: str, size: int, source: Source, now: float) -> Message | Drop | Respond:
        """
        Read a message, if it is worth it.

        Args:
            text: the whole of it.
            size: its length in bytes.
            source: who sent it.
            now: monotonic seconds.

        Returns:
            The message, for ``request`` or ``response``; else what to do with it without the library.
        """
        if text.startswith("SIP/"):
            return self._admit_response(text)
        known = self._access_list.find(source)
        name = _CALL_ID.search(text)
        in_call = name is not None and self.dialogs.knows(name[1])
        if not known.allowed and not self._may_come_in(text, source, now, in_call=in_call):
            return self._deny(text, source, now)
        if not self._within_limits(known, source, now, in_call=in_call):
            return Drop("too many")
        try:
            message = self._reader.read(text)
        except Malformed as error:
            if size >= BUFFER_BYTES:
                return Respond(CUT_OFF, 513, "Message Too Large")
            return Respond("malformed", error.code, error.reason) if known.allowed else Drop("malformed")
        if size >= BUFFER_BYTES and not message.first("content-length"):
            return Respond(CUT_OFF, 513, "Message Too Large")  # nobody knows whether this is all
        if known.trunk is None and self._is_scanner(message):
            return Drop("scanner")
        if in_call and message.method == "INVITE" and not message.to_tag and not self._take(known, source, now):
            return Drop("too many")
        return message

    def _may_come_in(self, text: str, source: Source, now: float, *, in_call: bool) -> bool:
        """Return whether a request is read though its sender may not call: a probe, or one of a call."""
        if text.startswith("OPTIONS ") and self._probes.take(source.site, now):
            return True
        return self.dialogs.is_peer(source.host) or (in_call and self._access_list.has_edges)

    def _admit_response(self, text: str) -> Message | Drop:
        branch = _BRANCH.search(text)
        if branch is None or not self.dialogs.may_be_ours(branch[1]):
            return Drop("stray response")
        try:
            return self._reader.read(text)
        except Malformed:
            return Drop("malformed response")

    def _deny(self, text: str, source: Source, now: float) -> Drop | Respond:
        """Turn away who may not call."""
        if text.startswith("ACK ") or not self._denials.take(source.site, now):
            return Drop(NOT_ALLOWED)
        try:
            if self._is_scanner(self._reader.read(text)):
                return Drop("scanner")
        except Malformed:
            return Drop(NOT_ALLOWED)
        return self._denial()

    def _denial(self) -> Respond:
        code = self._settings.deny_code
        return Respond(NOT_ALLOWED, code, _PHRASES.get(code, "Refused"))

    def _is_scanner(self, message: Message) -> bool:
        agent = message.first("user-agent").lower()
        return any(name in agent for name in self._scanners)

    def _within_limits(self, known: Access, source: Source, now: float, *, in_call: bool) -> bool:
        return self._generous.take(f"dialog {source.site}", now) if in_call else self._take(known, source, now)

    def _take(self, known: Access, source: Source, now: float) -> bool:
        if source.edge:  # what it says by itself follows from what others said, and was counted as theirs
            return True
        return (self._strangers if known.trunk is None else self._generous).take(source.site, now)

    # --- when it is read ---

    @runs_on("sip")
    def request(self, message: Message, source: Source, now: float) -> Verdict:
        """Judge a request of ``source`` at ``now`` (monotonic seconds)."""
        known = self._access_list.find(source)
        peer = Peer(source.host, known.trunk, source.edge)
        if message.method == "ACK":
            # One without our tag acknowledges nothing (RFC 3261 section 17.1.1.3), and the library answers it, which
            # ends the process (an assertion in sip_util.c).
            if not message.to_tag or not self.dialogs.acknowledged(message, peer, now):
                return Drop("stray ACK")
            return self._taken(message, self._terms_inside(source))
        inside = bool(message.to_tag) and self.dialogs.belongs(message, peer, now)
        if message.method == "OPTIONS" and not message.to_tag:
            # Whoever asks whether we live sends the next call elsewhere.
            closed = self._occupancy.draining() or self._occupancy.late()
            return (self._no_room(known, now) if closed else None) or _CAPABILITIES
        if not inside and not known.allowed:
            return self._denial() if self._denials.take(source.site, now) else Drop(NOT_ALLOWED)
        if (refused := _not_for_us(message)) is not None:
            return refused
        if inside:
            return self._inside(message, source)
        if message.method == "CANCEL" and self.dialogs.may_cancel(message, peer):
            return _PASS
        if message.method == "INVITE" and not message.to_tag:
            return self._new_invite(message, known, peer, source, now)
        return _NO_SUCH_CALL

    @runs_on("sip")
    def response(self, message: Message, source: Source, now: float) -> Verdict:
        """Judge a response: one to nothing of ours is dropped."""
        if not self.dialogs.expects(message):
            return Drop("stray response")
        self.dialogs.responded(message, self._peer(source), now)
        return Pass(self._bodies.response(message, self._terms_inside(source)))

    @runs_on("sip")
    def sent(self, message: Message, target: str, now: float) -> None:
        """Learn from a message of ours that goes out to ``address:port``."""
        lines = self._bodies.sent(message)
        self.dialogs.sent(message, self._peer(self.near(target)), lines, now)

    def _peer(self, source: Source) -> Peer:
        return Peer(source.host, self._access_list.trunk_of(source), source.edge)

    @runs_on("sip")
    def half_open(self, now: float) -> list[DialogKey]:
        """
        Return the calls to give up because others find no room: those whose 200 is not acknowledged.

        Without pressure they have 32 s (RFC 3261 section 13.3.1.4).
        """
        if now - self._pressed_at > _PRESSED_S:
            return []
        return self.dialogs.without_ack(now - _ACK_LIMIT_S)

    def _new_invite(self, message: Message, known: Access, peer: Peer, source: Source, now: float) -> Verdict:
        arrival = self.dialogs.arrived(message, peer)
        if arrival == "again":
            return self._taken(message, self._terms(known, source))
        if arrival == "absorbed":
            return Drop("answered already")
        if arrival == "refused":
            return Respond("answered already", self.dialogs.refusal(message), "")
        if arrival == "merged":
            return Respond("merged", 482, "Loop Detected")  # RFC 3261 section 8.2.2.2
        verdict: Verdict = (
            self._too_soon(message)
            or self._challenged(message, known, now)
            or _without_contact(message)
            or self._replaces(message)
            or self._no_room(known, now)
            or self._taken(message, self._terms(known, source))
        )
        if isinstance(verdict, Pass):
            self.dialogs.passed(message, peer, verdict.body.lines if verdict.body else ())
        return verdict

    def _too_soon(self, message: Message) -> Respond | Drop | None:
        """Let a call that the library has no sockets for come again: over UDP that is within a second, by itself."""
        if not self._occupancy.scarce():
            return None
        if _UDP.match(message.first("via")):
            return Drop("too soon")
        return Respond("too soon", 503, "All lines are busy", (("Retry-After", str(self._settings.retry_after_s)),))

    def _challenged(self, message: Message, known: Access, now: float) -> Respond | None:
        credentials = self._credentials.get(known.trunk or "")
        if credentials is None:
            return None
        header = message.first("authorization")
        strict = self._trunks[known.trunk or ""].digest_uri == "request-uri"
        verdict = self._digest.verify(header, "INVITE", credentials, now, message.uri if strict else None)
        if verdict == "right":
            return None
        if verdict == "elsewhere":  # RFC 7616 section 3.4.6
            return Respond("digest of another URI", 400, "Digest URI Is Not Request-URI")
        headers = self._digest.challenge(credentials.realm, now, stale=verdict == "stale")
        wrong = header and verdict == "wrong"
        return Respond("password wrong" if wrong else "challenged", 401, "Unauthorized", headers)

    def _replaces(self, message: Message) -> Respond | None:
        named = message.first("replaces").partition(";")[0].strip()
        if not named:
            return None
        if self.dialogs.knows(named):
            return Respond("Replaces", 486, "Busy Here")  # a stranger must not take a running call over
        return Respond("Replaces", 481, "Call/Transaction Does Not Exist")  # RFC 3891 section 3

    def _terms(self, known: Access, source: Source) -> Terms:
        trunk = self._trunks.get(known.trunk or "")
        codecs = (trunk.codecs if trunk else None) or self._settings.codecs
        return Terms(codecs, (trunk.srtp if trunk else None) or self._settings.srtp, self._is_local(source))

    def _terms_inside(self, source: Source) -> Terms:
        """Return what can be taken in a call; its own codecs and its policy for SRTP are the library's matter."""
        return Terms(get_args(Codec), "optional", self._is_local(source))

    def _is_local(self, source: Source) -> bool:
        """Return whether a message comes from this machine; of what is behind an edge, only our own media tells it."""
        return media_host(self._settings).startswith("127.") if source.edge else source.is_loopback

    def _no_room(self, known: Access, now: float) -> Respond | None:
        trunk = self._trunks.get(known.trunk or "")
        wait = (("Retry-After", str(self._settings.retry_after_s)),)
        if self._occupancy.draining():
            return Respond("draining", 503, "Shutting down", wait)
        if self._occupancy.late():
            return Respond("overloaded", 503, "Overloaded", wait)
        if self._occupancy.full():
            self._pressed_at = now
            return Respond("full", 503, "All lines are busy", wait)
        if trunk is not None and trunk.max_calls and self._occupancy.calls_of(known.trunk or "") >= trunk.max_calls:
            self._pressed_at = now
            return Respond("trunk full", 503, "All lines of the trunk are busy", wait)
        return None

    def _inside(self, message: Message, source: Source) -> Verdict:
        """Judge a request inside a call."""
        if message.method == "OPTIONS":  # the library answers 500
            return _CAPABILITIES
        if message.method in ("INVITE", "UPDATE") and len(message.values("contact")) > 1:
            return Respond("malformed", 400, "Two Contacts")
        if message.method in ("INVITE", "UPDATE", "PRACK") and self.dialogs.too_late(message):
            # The library leaves an offer unanswered in its negotiator, and the next request trips an assertion there.
            return _NO_SUCH_CALL
        if message.method == "INVITE" and not self.dialogs.is_acknowledged(message):
            return Respond("offer too early", 491, "Request Pending")
        return self._taken(message, self._terms_inside(source))

    def _taken(self, message: Message, terms: Terms) -> Pass | Respond:
        """Let a request through with what the library gets for its body, or refuse it for its body."""
        may_offer = partial(self.dialogs.may_offer, message) if message.to_tag else anything
        body = self._bodies.request(message, terms, may_offer)
        if isinstance(body, BodyRefusal):
            return Respond(body.why, body.code, body.reason, body.headers)
        return Pass(body)


_CAPABILITIES = Respond("", 200, "OK", (("Allow", ALLOW), ("Supported", SUPPORTED), ACCEPT))
_NO_SUCH_CALL = Respond("no such call", 481, "Call/Transaction Does Not Exist")


def _credentials(trunk: TrunkSettings, secrets: Mapping[str, SecretStr]) -> Credentials:
    password = secrets.get(trunk.password_from or "", SecretStr("")).get_secret_value()
    if not password:
        password = random.token_urlsafe(32)  # without one nobody is right
    return Credentials(trunk.username or "", password, REALM if trunk.realm == "*" else trunk.realm)


def _not_for_us(message: Message) -> Respond | None:
    """Refuse methods that we have not."""
    if message.method not in _KNOWN:
        return Respond("unknown method", 501, "Not Implemented", (("Allow", ALLOW),))
    if message.method in _REFUSED:
        return Respond("method not allowed", 405, "Method Not Allowed", (("Allow", ALLOW),))
    return None


def _without_contact(message: Message) -> Respond | None:
    """Refuse an INVITE that does not say where its sender is, once (RFC 3261 section 8.1.1.8)."""
    contacts = message.values("contact")
    if len(contacts) == 1 and contacts != ["*"]:
        return None
    return Respond("malformed", 400, "Two Contacts" if len(contacts) > 1 else "Contact Missing")
