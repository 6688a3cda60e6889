"""The gateway's SIP thread as a user agent of a test: its calls do as the test says, and what it reports is kept."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from pydantic import SecretStr

from gateway.audio.playout import PlayoutBuffer
from gateway.audio.uplink import UplinkTap
from gateway.call.events import CallEvent, IncomingInvite
from gateway.ids import new_call_id
from gateway.settings.sip import SipSettings, TrunkSettings
from gateway.sip.calls.accounts import TrunkChanged
from gateway.sip.leg import PjLeg
from gateway.sip.library.endpoint import SipInfo
from gateway.sip.thread import SipThread
from tests.rigs.kamailio import PASSWORD
from tests.rigs.waiting import LIMIT_S, until

NOISE = bytes(range(256)) * 250
E = TypeVar("E", bound=CallEvent)


@dataclass
class SipAgent:
    """
    A SIP thread among trunks.

    Attributes:
        sip: the thread.
        on_invite: what is done with the leg of a new call.
        info: what came of its start.
        events: what its calls reported.
        changes: what its trunks reported.
        legs: of the calls that came in.
        uplink: takes the voice of all calls.
    """

    sip: SipThread
    on_invite: Callable[[PjLeg], None]
    info: SipInfo = field(init=False)
    events: list[CallEvent] = field(default_factory=list)
    changes: list[TrunkChanged] = field(default_factory=list)
    legs: list[PjLeg] = field(default_factory=list)
    uplink: UplinkTap = field(default_factory=lambda: UplinkTap(capacity_frames=500))

    @cached_property
    def playout(self) -> PlayoutBuffer:
        """What all calls hear."""
        return PlayoutBuffer(self.info.pcm)

    @property
    def port(self) -> int:
        return self.info.port

    @property
    def trunk_states(self) -> list[str]:
        return [change.state for change in self.changes]

    def take(self, event: CallEvent) -> None:
        """Keep an event; do with a new call what ``on_invite`` does."""
        self.events.append(event)
        if isinstance(event, IncomingInvite):
            self.legs.append(self.sip.leg(event.call_id, self.uplink, self.playout))
            self.on_invite(self.legs[-1])

    def seen(self, kind: type[E]) -> list[E]:
        """Return the events of this class so far."""
        return [event for event in self.events if isinstance(event, kind)]

    async def until_trunk(self, state: str, limit_s: float = LIMIT_S) -> None:
        """Wait until a trunk has been in this state."""
        await until(lambda: state in self.trunk_states, limit_s, f"a trunk that is {state}")

    def call(self, target: str, *, trunk: str = "") -> PjLeg:
        """Place a call."""
        leg = self.sip.new_call(new_call_id(time.time_ns()), target, self.uplink, self.playout, trunk=trunk)
        leg.dial()
        return leg


@asynccontextmanager
async def sip_agent(
    on_invite: Callable[[PjLeg], None] = PjLeg.answer,
    *,
    trunks: Mapping[str, TrunkSettings | Mapping[str, object]] | None = None,
    password: str = PASSWORD,
    register: bool = True,
    **settings: object,
) -> AsyncIterator[SipAgent]:
    """
    Run a SIP thread on a free port.

    Args:
        on_invite: what is done with the leg of a new call.
        trunks: settings of each.
        password: the secret named ``line``.
        register: whether trunks register.
        settings: of ``SipSettings``, beside host and ports.
    """
    made: list[SipAgent] = []
    # Late percent: calls are taken on a machine that is busy with other tests, too.
    ports = {"port": 0, "rtp_port_min": 26000, "rtp_port_max": 27999, "late_percent": 0}
    sip = SipThread(
        SipSettings.model_validate({"host": "127.0.0.1", **ports, **settings}),
        lambda event: made[0].take(event),
        trunks={name: TrunkSettings.model_validate(given) for name, given in (trunks or {}).items()},
        secrets={"line": SecretStr(password)},
        on_trunk=lambda change: made[0].changes.append(change),
        register=register,
    )
    made.append(SipAgent(sip, on_invite))
    try:
        made[0].info = await sip.start()
        yield made[0]
    finally:
        await sip.stop()


def ring_and_answer(leg: PjLeg) -> None:
    """Pick up, as a telephone does."""
    leg.ring()
    leg.answer()
