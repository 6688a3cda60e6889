"""The SIP thread as a telephone of the tests: its calls do as a test says, and what they tell is written down."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gateway.audio.pcm import PHONE
from gateway.audio.playout import PlayoutBuffer
from gateway.audio.uplink import UplinkTap
from gateway.call.events import CallEvent, IncomingInvite
from gateway.settings.sections import SipSettings, TrunkSettings
from gateway.sip.leg import PjLeg
from gateway.sip.library.endpoint import SipInfo
from gateway.sip.thread import SipThread

NOISE = bytes(range(256)) * 250


@dataclass
class Phone:
    """A SIP thread whose calls do as the test says."""

    sip: SipThread
    info: SipInfo
    on_invite: Callable[[PjLeg], None]
    events: list[CallEvent] = field(default_factory=list)
    legs: list[PjLeg] = field(default_factory=list)
    uplink: UplinkTap = field(default_factory=lambda: UplinkTap(capacity_frames=500))
    playout: PlayoutBuffer = field(default_factory=lambda: PlayoutBuffer(PHONE))

    def take(self, event: CallEvent) -> None:
        self.events.append(event)
        if isinstance(event, IncomingInvite):
            self.legs.append(self.sip.leg(event.call_id, self.uplink, self.playout))
            self.on_invite(self.legs[-1])

    def seen(self, kind: type[CallEvent]) -> list[CallEvent]:
        return [event for event in self.events if isinstance(event, kind)]


@asynccontextmanager
async def phone(
    on_invite: Callable[[PjLeg], None], *, trunks: Mapping[str, TrunkSettings] | None = None, **settings: object
) -> AsyncIterator[Phone]:
    made: list[Phone] = []
    sip = SipThread(
        SipSettings.model_validate(
            {"host": "127.0.0.1", "port": 0, "rtp_port_min": 26000, "rtp_port_max": 27999, **settings}
        ),
        lambda event: made[0].take(event),
        trunks=trunks,
    )
    try:
        made.append(Phone(sip, await sip.start(), on_invite))
        yield made[0]
    finally:
        await sip.stop()


def pick_up(leg: PjLeg) -> None:
    leg.ring()
    leg.answer()
