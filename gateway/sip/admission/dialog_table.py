"""
Which dialogs and transactions there are, which distinguishes a call's own messages from a stranger's.

A request inside a dialog is one of a dialog in this table (RFC 3261 section 12.2): same Call-ID, same tags, from where
the far end is. An INVITE without a To tag is new, or a copy of one that is known. A response is one to a request of
ours. Learnt from what passes the screen in both directions. Memory is bounded. No I/O; thread: sip.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from gateway.sip.admission.newest import keep_newest
from gateway.sip.core.message import Message
from gateway.threads import runs_on

_WAITING = 1024  # INVITEs without a 2xx; a flood pushes its own out
_ACCEPTED = 256  # INVITEs that were accepted: many times what a process holds
_LIVE = 256
_ENDED = 1024
_OURS = 512  # requests of ours
_TRANSACTION_S = 32.0  # RFC 3261, timers B, F, H and J: 64 times T1
_CLOSING_S = _TRANSACTION_S + 8.0
_MOST_HOSTS = 12
_METHODS = ("INVITE", "BYE", "CANCEL", "UPDATE", "INFO", "PRACK", "REFER", "REGISTER", "OPTIONS", "NOTIFY")
_ADDRESSES = re.compile(
    r"(?<![0-9A-Za-z.-])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![0-9A-Za-z.-])|(?<=\[)[0-9A-Fa-f:.]{2,45}(?=\])"
)

Arrival = Literal["new", "again", "absorbed", "refused", "merged"]


class InviteKey(NamedTuple):
    """What is the same in every copy of an INVITE (RFC 3261 section 8.2.2.2)."""

    call_id: str
    from_tag: str
    cseq: int

    @classmethod
    def of(cls, message: Message) -> InviteKey:
        """Return the key of the INVITE that a message belongs to."""
        return cls(message.call_id, message.from_tag, message.cseq)


class DialogKey(NamedTuple):
    """A dialog's id (RFC 3261 section 12)."""

    call_id: str
    local_tag: str
    remote_tag: str


@dataclass(frozen=True, slots=True)
class Peer:
    """
    Who a message came from, or goes to.

    Attributes:
        host: address.
        trunk: the trunk it belongs to; None if there is no such trunk.
        edge: an edge's own, which stands for whoever is behind it.
    """

    host: str
    trunk: str | None = None
    edge: bool = False


@dataclass(slots=True)
class _FarEnd:
    """
    Who is at the other end of something.

    Attributes:
        hosts: where it may send from.
        trunk: whose it is.
        anywhere: nobody knows where it is: an edge found the way to it.
    """

    hosts: set[str]
    trunk: str | None
    anywhere: bool

    def is_at(self, peer: Peer) -> bool:
        if self.anywhere or peer.edge or peer.host in self.hosts:
            return True
        return peer.trunk is not None and peer.trunk == self.trunk


@dataclass(slots=True)
class _InviteTransaction(_FarEnd):
    branch: str
    lines: tuple[bool, ...]  # as in ``_DialogEntry``
    code: int = 0  # our final answer; 0 before it
    answered: tuple[DialogKey, float] | None = None  # with a 2xx: which dialog it made, and when it was first sent
    acknowledged: bool = False


@dataclass(slots=True)
class _DialogEntry(_FarEnd):
    """
    A dialog.

    Attributes:
        cseq: of the INVITE it began with.
        lines: which media lines of the first offer are on; empty before it.
        confirmed: by a 2xx.
        acknowledged: whether the ACK to that has passed.
        bye: branch of the last BYE of the far end that passed.
        closing_at: since when an end of ours is on the way.
    """

    cseq: int
    lines: tuple[bool, ...]
    confirmed: bool = False
    acknowledged: bool = False
    bye: str = ""
    closing_at: float | None = None


@dataclass(frozen=True, slots=True)
class _ClientTransaction:
    """A request of ours."""

    call_id: str
    from_tag: str
    to_tag: str
    cseq: int
    peer: Peer
    lines: tuple[bool, ...]


@dataclass(slots=True)
class DialogTable:
    """The table. ``now``: monotonic seconds."""

    _waiting: OrderedDict[InviteKey, _InviteTransaction] = field(default_factory=OrderedDict)
    _accepted: OrderedDict[InviteKey, _InviteTransaction] = field(default_factory=OrderedDict)
    _live: OrderedDict[DialogKey, _DialogEntry] = field(default_factory=OrderedDict)
    _call_ids: Counter[str] = field(default_factory=Counter)
    _ended: OrderedDict[DialogKey, tuple[str, float]] = field(default_factory=OrderedDict)
    _ours: OrderedDict[tuple[str, str], _ClientTransaction] = field(default_factory=OrderedDict)

    # --- requests from outside ---

    @runs_on("sip")
    def arrived(self, message: Message, peer: Peer) -> Arrival:
        """
        Say what an INVITE without a To tag is.

        Returns:
            ``new``; ``again``: a retransmission whose transaction lives; ``absorbed``: a retransmission of an INVITE
            whose 200 is repeated until its ACK, or that has its ACK (RFC 6026); ``refused``: a retransmission of one
            that was refused, which the library would judge anew; ``merged``: a copy that would make a second call.
        """
        seen = self._invite(message)
        if seen is None:
            return "new"
        same = message.branch == seen.branch and seen.is_at(peer)
        if 200 <= seen.code < 300:
            return "absorbed" if same and not seen.acknowledged else "merged"
        if same:
            if not seen.code:
                return "again"
            return "absorbed" if seen.acknowledged else "refused"
        # After a refusal a proxy may try the same call by another way (RFC 3261 section 16.7).
        return "new" if seen.code else "merged"

    @runs_on("sip")
    def refusal(self, message: Message) -> int:
        """Return the code that an INVITE was refused with, 0 when it was not."""
        seen = self._waiting.get(InviteKey.of(message))
        return seen.code if seen else 0

    @runs_on("sip")
    def passed(self, message: Message, peer: Peer, lines: tuple[bool, ...]) -> None:
        """Remember a new INVITE that the library gets; ``lines``: which media lines of its offer are on."""
        key = InviteKey.of(message)
        self._waiting.pop(key, None)
        invite = _InviteTransaction(_hosts(message, peer), peer.trunk, False, message.branch, lines)
        keep_newest(self._waiting, key, invite, _WAITING)

    @runs_on("sip")
    def belongs(self, message: Message, peer: Peer, now: float) -> bool:
        """
        Whether a request with a To tag is one of a dialog that lives, from its far end.

        Of one that has ended, the BYE that ended it is still taken: a retransmission draws the same answer.
        """
        key = _key(message)
        dialog = self._live.get(key)
        if dialog is not None and dialog.closing_at is not None and now - dialog.closing_at > _CLOSING_S:
            self._end(key, "", now)
            dialog = None
        if dialog is None:
            self._forget_ended(now)
            return message.method == "BYE" and self._ended.get(key, ("", 0.0))[0] == message.branch != ""
        if not dialog.is_at(peer):
            return False
        self._live.move_to_end(key)  # a long call is used all the time
        if message.method in ("INVITE", "UPDATE") and len(dialog.hosts) < _MOST_HOSTS:
            dialog.hosts |= _hosts(message, peer)
        if message.method == "BYE":
            dialog.bye = message.branch
        return True

    @runs_on("sip")
    def acknowledged(self, message: Message, peer: Peer, now: float) -> bool:
        """Remember that an ACK came; False when it is one to nothing."""
        seen = self._invite(message)
        mine = bool(message.to_tag) and self.belongs(message, peer, now)
        dialog = self._dialog(message) if mine else None
        if dialog is not None and dialog.confirmed and dialog.cseq == message.cseq:
            dialog.acknowledged = True  # the library passes over an ACK that comes sooner
        if seen is None or not (mine or seen.is_at(peer)):
            return mine
        if not seen.code:
            return False
        seen.acknowledged = True
        return mine or not 200 <= seen.code < 300

    @runs_on("sip")
    def may_offer(self, message: Message, lines: tuple[bool, ...]) -> bool:
        """
        Whether a request inside a dialog may offer these media lines, or none.

        Until the ACK of a call the library answers with the lines that the first offer had
        (``pjsua_call_on_rx_offer``), and trips an assertion when another offer has others, or there was none.
        """
        dialog = self._dialog(message)
        if dialog is None:
            return False
        return dialog.acknowledged or (bool(dialog.lines) and lines in ((), dialog.lines))

    @runs_on("sip")
    def too_late(self, message: Message) -> bool:
        """Whether an end of ours is on the way in the dialog of a request (RFC 3261 section 15.1.1)."""
        dialog = self._dialog(message)
        return dialog is None or dialog.closing_at is not None

    @runs_on("sip")
    def is_acknowledged(self, message: Message) -> bool:
        """Whether the ACK of the dialog of a request has passed."""
        dialog = self._dialog(message)
        return dialog is not None and dialog.acknowledged

    @runs_on("sip")
    def may_cancel(self, message: Message, peer: Peer) -> bool:
        """
        Whether a CANCEL is one for an INVITE that is known (RFC 3261 section 9.1: same branch, same hop).

        It may be answered already: then the CANCEL has no effect, and gets 200 (section 9.2).
        """
        seen = self._invite(message)
        if seen is None or seen.acknowledged:
            return False
        return seen.branch == message.branch and seen.is_at(peer)

    # --- responses from outside ---

    @runs_on("sip")
    def expects(self, message: Message) -> bool:
        """Whether a response is one to a request of ours (RFC 3261 section 17.1.3), of the same dialog."""
        request = self._ours.get((message.branch, message.cseq_method))
        return (
            request is not None
            and request.call_id == message.call_id
            and request.from_tag == message.from_tag
            and request.cseq == message.cseq
        )

    @runs_on("sip")
    def may_be_ours(self, branch: str) -> bool:
        """Whether a branch is one of ours, before a response is read as a whole."""
        return any((branch, method) in self._ours for method in _METHODS)

    @runs_on("sip")
    def responded(self, message: Message, peer: Peer, now: float) -> None:
        """Learn from a response that ``expects`` let in."""
        request = self._ours[message.branch, message.cseq_method]
        key = DialogKey(message.call_id, message.from_tag, message.to_tag)
        if message.cseq_method == "INVITE" and not request.to_tag:
            if message.code >= 300:
                self._refused(request, now)
            elif message.code > 100 and message.to_tag:
                hosts = _hosts(message, peer) | {request.peer.host}
                trunk = request.peer.trunk or peer.trunk
                dialog = _DialogEntry(hosts, trunk, request.peer.edge, request.cseq, request.lines)
                self._began(key, dialog, message.code)
        elif message.cseq_method == "BYE" and message.code >= 200 and message.code not in (401, 407):
            self._end(key, "", now)

    # --- what we send ---

    @runs_on("sip")
    def sent(self, message: Message, peer: Peer, lines: tuple[bool, ...], now: float) -> None:
        """Learn from a message of ours that goes out to ``peer``; ``lines``: which media lines its offer has on."""
        if not message.is_request:
            self._answered(message, lines, now)
        elif message.method == "ACK":
            dialog = self._live.get(DialogKey(message.call_id, message.from_tag, message.to_tag))
            if dialog is not None:
                dialog.acknowledged = True
        else:
            request = _ClientTransaction(message.call_id, message.from_tag, message.to_tag, message.cseq, peer, lines)
            keep_newest(self._ours, (message.branch, message.method), request, _OURS)
            if message.method in ("BYE", "CANCEL"):
                self._closing(message, now)

    def _answered(self, message: Message, lines: tuple[bool, ...], now: float) -> None:
        key = _key(message)
        dialog = self._live.get(key)
        if dialog is not None and message.cseq_method == "BYE" and message.branch == dialog.bye:
            if message.code // 100 == 2 or message.code == 481:
                self._end(key, message.branch, now)
            return
        invite = self._waiting.get(InviteKey.of(message)) if message.cseq_method == "INVITE" else None
        if invite is None or invite.branch != message.branch:
            return  # one to a copy that came by another way
        if message.code >= 200:
            invite.code = message.code
        if message.code >= 300:
            self._end(key, "", now)
        elif message.code > 100 and message.to_tag:
            invite.lines = invite.lines or lines
            dialog = _DialogEntry(set(invite.hosts), invite.trunk, invite.anywhere, message.cseq, invite.lines)
            self._began(key, dialog, message.code)
        if 200 <= message.code < 300:
            invite.answered = key, now
            del self._waiting[InviteKey.of(message)]
            keep_newest(self._accepted, InviteKey.of(message), invite, _ACCEPTED)

    # --- who is known ---

    @runs_on("sip")
    def without_ack(self, before: float) -> list[DialogKey]:
        """Return the dialogs whose 2xx was sent before a moment, and never acknowledged."""
        answered = (each.answered for each in self._accepted.values() if each.answered and not each.acknowledged)
        return [key for key, at in answered if at < before and key in self._live]

    @runs_on("sip")
    def knows(self, call_id: str) -> bool:
        """Whether there is a dialog with this Call-ID, early or confirmed."""
        return call_id in self._call_ids

    @runs_on("sip")
    def is_peer(self, host: str) -> bool:
        """Whether the far end of any dialog is at this address."""
        return any(host in dialog.hosts for dialog in self._live.values())

    # --- inside ---

    def _dialog(self, message: Message) -> _DialogEntry | None:
        """Return the dialog that a request from outside is in."""
        return self._live.get(_key(message))

    def _invite(self, message: Message) -> _InviteTransaction | None:
        key = InviteKey.of(message)
        return self._accepted.get(key) or self._waiting.get(key)

    def _began(self, key: DialogKey, dialog: _DialogEntry, code: int) -> None:
        found = self._live.get(key)
        if found is None:
            self._live[key] = found = dialog
            self._call_ids[key.call_id] += 1
            if len(self._live) > _LIVE:
                self._drop(next(iter(self._live)))
        found.hosts |= dialog.hosts
        found.lines = found.lines or dialog.lines
        if code >= 200:
            found.confirmed = True
            found.closing_at = None

    def _refused(self, request: _ClientTransaction, now: float) -> None:
        """End the early dialogs of an INVITE of ours."""
        for key, dialog in tuple(self._live.items()):
            mine = key.call_id == request.call_id and key.local_tag == request.from_tag and dialog.cseq == request.cseq
            if mine and not dialog.confirmed:
                self._end(key, "", now)

    def _closing(self, message: Message, now: float) -> None:
        """Note that an end of ours is on the way: of one dialog by BYE, of all early ones by CANCEL."""
        for key, dialog in self._live.items():
            if key.call_id != message.call_id or key.local_tag != message.from_tag or dialog.closing_at is not None:
                continue
            if key.remote_tag == message.to_tag or (message.method == "CANCEL" and not dialog.confirmed):
                dialog.closing_at = now

    def _end(self, key: DialogKey, branch: str, now: float) -> None:
        if key in self._live:
            self._drop(key)
            keep_newest(self._ended, key, (branch, now), _ENDED)

    def _drop(self, key: DialogKey) -> None:
        del self._live[key]
        self._call_ids[key.call_id] -= 1
        if not self._call_ids[key.call_id]:
            del self._call_ids[key.call_id]

    def _forget_ended(self, now: float) -> None:
        while self._ended and now - next(iter(self._ended.values()))[1] > _CLOSING_S:
            self._ended.popitem(last=False)


def _key(message: Message) -> DialogKey:
    """Return the dialog of a request from outside, or of our response to it."""
    return DialogKey(message.call_id, message.to_tag, message.from_tag)


def _hosts(message: Message, peer: Peer) -> set[str]:
    """
    Return where the far end of a dialog may send from: where this came from, and where it says that it is.

    A proxy on the way that does not ask to stay on it (Record-Route) is passed by: what follows comes from the Contact.
    """
    told = (value for name, value in message.headers if name in ("contact", "record-route"))
    return {peer.host, *(_same_form(host) for value in told for host in _ADDRESSES.findall(value))}


def _same_form(host: str) -> str:
    """Return an address as sources are written; what is none, as it is."""
    try:
        return str(ipaddress.ip_address(host)) if ":" in host else host
    except ValueError:
        return host
