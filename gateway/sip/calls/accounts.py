"""
The accounts of a process, one for each trunk and one for all other callers, and the state of their registrations.

Theory of operation. A trunk that registers has a ``_Registration``: whether there is a binding at the registrar, and
when the next REGISTER is due. The library sends one when it is told to, and says what came of it (``_answer_of``);
when to refresh, and when to try again, is decided here.

Behind an edge one worker of many registers each trunk, for as long as it has the trunk's lease
(``store/trunk_leases.py``). Then a registration also has ``until``, in seconds of our own monotonic clock: past it no
REGISTER leaves, whatever the loop or Redis do meanwhile. All workers register the same Contact, the edge's, so one that
takes over renews the binding of the one before, and one that lets go leaves it alone. Only who is told that nobody is
left (``take_off``) removes it.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import structlog
from pydantic import SecretStr

from gateway.errors import SipError
from gateway.settings.sip import SipSettings, TrunkSettings
from gateway.sip.admission.access_list import AccessList
from gateway.sip.calls.account import GatewayAccount, RegistrationAnswer
from gateway.sip.calls.calls import Calls
from gateway.sip.core.addressing import domain_of, user_called
from gateway.sip.core.message import Message
from gateway.sip.core.registration import RegistrationRetry, contact_at, refresh_after_s, retry_after_in
from gateway.sip.core.source import Source
from gateway.sip.library.account_config import account_config, edge_contact, server_uri
from gateway.sip.library.pj import pj
from gateway.sip.location.failover import Failover, RequestAttempt
from gateway.sip.native.guard import describe
from gateway.sip.native.options import OptionsAnswer, OptionsSender
from gateway.sip.native.register_id import RegisterIds
from gateway.threads import runs_on

TrunkState = Literal["registering", "registered", "failed", "unregistered", "standby", "static"]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TrunkChanged:
    """
    A trunk's state is another now.

    Attributes:
        trunk: its name.
        state: ``static`` trunks do not register; ``failed`` ones are tried again by themselves; ``standby``: another
            worker may register it now.
        code: SIP status of the last answer; 0 before the first.
        reason: its reason phrase, or what went wrong.
        expires_s: how long the registration holds; 0 when there is none.
        retry_s: after a failure, the seconds until the next attempt.
    """

    trunk: str
    state: TrunkState
    code: int = 0
    reason: str = ""
    expires_s: int = 0
    retry_s: int = 0


class _Registration:
    """What is known of one trunk's registration. Thread: sip."""

    def __init__(self, name: str, account: GatewayAccount, first_retry_s: float) -> None:
        self.name = name
        self.account = account
        self.retry = RegistrationRetry(first_retry_s)
        self.due_at: float | None = None
        self.held = False
        self.failed = False
        self.attempt: RequestAttempt | None = None
        self.until = math.inf
        self.leaves = False

    @property
    def mine(self) -> bool:
        """Whether it is this worker that registers."""
        return time.monotonic() < self.until


class Accounts:
    """
    Opens, keeps and closes the accounts. Thread: sip.

    Args:
        settings: of the user agent.
        trunks: name -> trunk.
        secrets: name -> password.
        emit: takes every change of a trunk's state.
        access_list: learns the address that a registrar answers from, so that its calls are known as the trunk's.
        failover: chooses the server of each attempt, and says whether there is another.
        later: runs something when the library's callback that is running is over.
        chance: a random number from 0 to 1.
    """

    def __init__(
        self,
        settings: SipSettings,
        trunks: Mapping[str, TrunkSettings],
        secrets: Mapping[str, SecretStr],
        emit: Callable[[TrunkChanged], None],
        access_list: AccessList,
        failover: Failover,
        later: Callable[[Callable[[], None]], None],
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings
        self._trunks = trunks
        self._secrets = secrets
        self._emit = emit
        self._access_list = access_list
        self._failover = failover
        self._later = later
        self._chance = chance
        self._leased = settings.edge is not None
        self._ids = RegisterIds(self._contact_of if self._leased else None)
        self._accounts: dict[str, GatewayAccount] = {}
        self._registrations: dict[str, _Registration] = {}
        self._leaving = False
        self._options: OptionsSender | None = None

    @runs_on("sip")
    def open(self, table: Calls, *, register: bool) -> None:
        """
        Make the accounts and begin to register.

        Raises:
            SipError: the library refused one; the text names the trunk.
        """
        if register or not self._leased:
            self._ids.install()
        catch_all = GatewayAccount(table, self._access_list.source_of)
        catch_all.create(account_config(self._settings), True)
        self._accounts[""] = catch_all
        for name, trunk in self._trunks.items():
            self._open_trunk(table, name, trunk, register=register and trunk.register_here)

    def _open_trunk(self, table: Calls, name: str, trunk: TrunkSettings, *, register: bool) -> None:
        answered = self._answer_of(name) if register else None
        account = GatewayAccount(table, self._access_list.source_of, name, trunk, answered)
        secret = self._secrets.get(trunk.password_from) if trunk.password_from else None
        password = secret.get_secret_value() if secret is not None else None
        try:
            account.create(account_config(self._settings, trunk, password, register=register), False)
        except pj.Error as error:
            raise SipError(f"trunks.{name}: the SIP library refused it: {describe(error)}") from error
        self._accounts[name] = account
        if not register:
            self._emit(TrunkChanged(name, "static"))
            return
        registration = self._registrations[name] = _Registration(name, account, trunk.register_retry_s)
        if self._leased:
            registration.until = -math.inf
        else:
            self._try(registration)

    @runs_on("sip")
    def of(self, trunk: str) -> GatewayAccount:
        """Return the account of a trunk; of no trunk, or of one that is not there, the one that takes every call."""
        return self._accounts.get(trunk) or self._accounts[""]

    @runs_on("sip")
    def account_for(self, hop: str, text: str, message: Message) -> int:
        """
        Return the library's number of the account that takes a request.

        Its source decides. Of several trunks at one carrier it is the one whose account the Request-URI names.

        Args:
            hop: ``address:port`` it came from.
            text: the request.
            message: what it says.
        """
        trunk = self._access_list.trunk_of(self._access_list.source_of(text, hop))
        if trunk is None:
            return int(self._accounts[""].getId())
        host = domain_of(self._trunks[trunk])
        called = user_called(message.uri)
        for name, sibling in self._trunks.items():
            if domain_of(sibling) == host and sibling.username is not None and sibling.username == called:
                trunk = name
        return int(self.of(trunk).getId())

    @runs_on("sip")
    def probe(self, trunk: str, limit_s: float, told: OptionsAnswer) -> None:
        """Ask a trunk's server whether it is there, the way its calls go; ``told`` takes what it says."""
        account, settings = self._accounts.get(trunk), self._trunks.get(trunk)
        if account is None or settings is None:
            told(0, f"there is no trunk {trunk!r}")
            return
        try:
            self._options = self._options or OptionsSender(pj.SipRxData)
        except AttributeError as error:
            told(0, f"this build of pjsua2 cannot send OPTIONS: {error} is missing")
            return
        with self._failover.attempt(None) as attempt:
            self._options.send(
                account.getId(),
                server_uri(settings),
                limit_s,
                lambda code, reason: told(code, reason if code else attempt.problem or reason),
            )

    @property
    def waits(self) -> bool:
        """Whether ``tick`` may have something to try again."""
        return any(registration.due_at is not None for registration in self._registrations.values())

    @runs_on("sip")
    def hold(self, trunk: str, until: float) -> None:
        """Register a trunk up to a moment of the monotonic clock; asked for again before that, it goes on."""
        registration = self._registrations.get(trunk)
        if registration is None or self._leaving or registration.leaves:
            return
        begins = not registration.mine
        registration.until = until
        if begins and registration.mine:
            self._try(registration)

    @runs_on("sip")
    def let_go(self, trunk: str) -> None:
        """Send no REGISTER for a trunk any more; its binding stays, for another worker to renew."""
        registration = self._registrations.get(trunk)
        if registration is not None and registration.until > -math.inf:
            registration.until, registration.due_at = -math.inf, None
            self._emit(TrunkChanged(trunk, "standby"))

    @runs_on("sip")
    def take_off(self, trunk: str, until: float) -> None:
        """Remove a trunk's binding, whoever made it, up to a moment of the monotonic clock."""
        registration = self._registrations.get(trunk)
        if registration is None:
            return
        registration.until, registration.leaves = until, True
        # The library removes a binding that it has made: of another worker's it has to make it its own first.
        self._set(registration, renew=not registration.held)

    @runs_on("sip")
    def tick(self, now: float) -> None:
        """Try again what is due; to be called every second or so."""
        for registration in self._registrations.values():
            if now >= registration.until and registration.until > -math.inf:
                self.let_go(registration.name)
            if registration.due_at is not None and now >= registration.due_at:
                self._try(registration)

    @runs_on("sip")
    def connection_lost(self) -> None:
        """Register again soon where a connection carries the registration: a registrar cannot reach us without it."""
        soon = time.monotonic() + 1 + 2 * self._chance()
        for name, registration in self._registrations.items():
            if registration.held and registration.due_at is not None and self._trunks[name].transport != "udp":
                registration.due_at = min(registration.due_at, soon)

    @runs_on("sip")
    def leave(self) -> None:
        """Take our contacts off the registrars; ``registered`` says when their answers are there."""
        self._leaving = True
        for registration in self._registrations.values():
            registration.due_at = None
            if registration.held and not self._leased:
                self._set(registration, renew=False)

    @runs_on("sip")
    def located(self, trunk: str, problem: str) -> None:
        """
        Hear whether a trunk's name has an address; ``problem`` is empty when it has.

        One that does not register is reported; one that could not register for want of an address tries again at once.
        """
        registration = self._registrations.get(trunk)
        if registration is None:
            self._emit(TrunkChanged(trunk, "failed" if problem else "static", reason=problem))
        elif not problem and registration.due_at is not None and registration.attempt and registration.attempt.problem:
            registration.due_at = 0.0

    @property
    def registered(self) -> bool:
        """Whether there is a binding that is ours to remove."""
        return any(each.held for each in self._registrations.values() if not self._leased or each.leaves)

    @runs_on("sip")
    def close(self) -> None:
        """Destroy the accounts; the library asserts when it ends before them."""
        for account in self._accounts.values():
            account.shutdown()
        self._accounts.clear()
        self._registrations.clear()
        self._ids.remove()

    def _contact_of(self, trunk: str, own: str) -> str:
        return contact_at(own, *edge_contact(self._settings, self._trunks[trunk]))

    def _try(self, registration: _Registration, after: RequestAttempt | None = None) -> None:
        registration.due_at = None
        if self._leaving or not registration.mine:
            return
        if not registration.held:
            self._emit(TrunkChanged(registration.name, "registering"))
        self._set(registration, renew=True, after=after)

    def _set(self, registration: _Registration, *, renew: bool, after: RequestAttempt | None = None) -> None:
        registration.failed = False
        with (
            self._failover.attempt(after) as registration.attempt,
            self._ids.of(registration.name, leaves=not renew and registration.mine),
        ):
            try:
                registration.account.setRegistration(renew)
            except pj.Error as error:  # before anything was sent: no route, a host that does not resolve
                if not renew:
                    registration.held = False
                elif not registration.failed:  # else the library has told it already, as an answer
                    self._failed(registration, 503, describe(error), None)

    def _answer_of(self, name: str) -> RegistrationAnswer:
        def answered(code: int, reason: str, expires_s: int, response: Message | None, source: Source) -> None:
            registration = self._registrations.get(name)
            if registration is None or not registration.mine:  # the library's last word, while it ends; another's now
                return
            if code // 100 != 2:
                self._failed(registration, code, reason, response)
            elif self._leaving or expires_s <= 0:
                registration.held = False
                self._emit(TrunkChanged(name, "unregistered", code, reason))
            else:
                registration.held = True
                registration.due_at = time.monotonic() + refresh_after_s(expires_s)
                if registration.leaves:
                    registration.due_at = None
                    self._later(lambda: self._set(registration, renew=False))
                registration.retry.succeeded()
                self._access_list.learn(name, str(source))
                self._emit(TrunkChanged(name, "registered", code, reason, expires_s))

        return answered

    def _failed(self, registration: _Registration, code: int, reason: str, response: Message | None) -> None:
        registration.held, registration.failed = False, True
        if self._leaving or not registration.mine:
            return
        if registration.leaves:
            self._emit(TrunkChanged(registration.name, "failed", code, reason))
            return
        failed = registration.attempt
        if self._failover.another(failed, code, response):
            self._later(lambda: self._try(registration, failed))
            return
        if registration.attempt is not None and registration.attempt.problem:
            code, reason = 503, registration.attempt.problem
        wanted_s = None if response is None else retry_after_in(response)
        delay_s = registration.retry.delay_s(code, wanted_s, self._chance())
        registration.due_at = time.monotonic() + delay_s
        _log.warning("trunk_not_registered", trunk=registration.name, code=code, reason=reason, retry_s=round(delay_s))
        self._emit(TrunkChanged(registration.name, "failed", code, reason, retry_s=round(delay_s)))
