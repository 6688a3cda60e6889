"""What a call is made of: a prepared dialplan, and everything one call needs from outside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from gateway.audio.filler import load_filler
from gateway.audio.pcm import PcmFormat
from gateway.audio.playout import PlayoutBuffer
from gateway.audio.recorder import CallRecorder, RecordingWriter
from gateway.audio.uplink import Doorbell, UplinkTap
from gateway.call.events import IncomingInvite
from gateway.costs import estimate
from gateway.dialplan.model import Dialplan
from gateway.realtime.client import RealtimeAgent
from gateway.realtime.secrets import SecretMinter
from gateway.realtime.tools import OwnTool
from gateway.settings import Settings
from gateway.sip.thread import SipThread
from gateway.switchboard import Assigned, CallParts, DialOrder
from gateway.tools.check import check_tools
from gateway.tools.runner import OwnTools, own_definitions
from gateway.tools.webhook import WebhookClient

UPLINK_CAPACITY_MS = 2000


@dataclass(frozen=True, slots=True)
class PreparedPlan:
    """
    A dialplan with all it names loaded, so that no call waits for a disk.

    Attributes:
        dialplan: who answers which call.
        fillers: agent -> what its callers hear while it is away.
        own_tools: agent -> the tools of its own.
    """

    dialplan: Dialplan
    fillers: Mapping[str, bytes]
    own_tools: Mapping[str, tuple[OwnTool, ...]]


def prepare(dialplan: Dialplan, settings: Settings, phone: PcmFormat) -> PreparedPlan:
    """
    Load what a dialplan names.

    Raises:
        ConfigError: a file, a secret or a plugin is missing; says which and the cure.
    """
    check_tools(dialplan, settings.secrets)
    return PreparedPlan(
        dialplan,
        {name: load_filler(agent.filler, dialplan.folder, phone) for name, agent in dialplan.agents.items()},
        {name: tuple(own_definitions(agent.tools)) for name, agent in dialplan.agents.items()},
    )


class CallBuilder:
    """
    Makes the parts of each call. Thread: loop.

    Args:
        settings: all of them.
        plan: what calls are made of now.
        sip: where legs come from.
        doorbell: wakes the loop for the callers' audio.
        webhooks: HTTP of tools.
        minter: ephemeral keys.
        recordings: writes recordings.
        phone: format of a leg's audio.
    """

    def __init__(
        self,
        settings: Settings,
        plan: PreparedPlan,
        *,
        sip: SipThread,
        doorbell: Doorbell,
        webhooks: WebhookClient,
        minter: SecretMinter,
        recordings: RecordingWriter,
        phone: PcmFormat,
    ) -> None:
        self._settings = settings
        self._plan = plan
        self._sip = sip
        self._doorbell = doorbell
        self._webhooks = webhooks
        self._minter = minter
        self._recordings = recordings
        self._phone = phone

    def build(self, asked: IncomingInvite | DialOrder, assigned: Assigned) -> CallParts:
        """
        Make everything one call needs.

        Raises:
            SipError: the target of a call of ours cannot be called; says why.
        """
        settings, profile = self._settings, assigned.profile
        uplink = UplinkTap(capacity_frames=UPLINK_CAPACITY_MS // self._phone.ptime_ms)
        playout = PlayoutBuffer(self._phone, filler=self._plan.fillers[assigned.agent_name])
        recorder = None
        if profile.recording.mode != "off":
            recorder = CallRecorder(asked.call_id, self._recordings, self._phone)
        if isinstance(asked, IncomingInvite):
            caller, called = asked.from_uri, asked.to_uri
            leg = self._sip.leg(asked.call_id, uplink, playout, recorder)
        else:
            caller, called = asked.target, asked.caller_id
            leg = self._sip.new_call(
                *(asked.call_id, asked.target, uplink, playout),
                trunk=asked.trunk,
                caller_id=asked.caller_id or None,
                recorder=recorder,
            )
        agent = RealtimeAgent(
            call_id=asked.call_id,
            settings=settings.realtime,
            profile=profile,
            uplink=uplink,
            playout=playout,
            caller=caller,
            own_tools=self._plan.own_tools[assigned.agent_name],
            secrets=settings.secrets,
            minter=self._minter,
            doorbell=self._doorbell,
            phone=self._phone,
        )
        tools = OwnTools(
            call_id=asked.call_id,
            tool_set=profile.tools,
            secrets=settings.secrets,
            facts={"from": caller, "to": called, "route": assigned.name},
            http=self._webhooks,
        )
        price = partial(estimate, prices=settings.prices.get(profile.model))
        trunk = settings.trunks.get(asked.trunk)
        transfers = trunk.transfers if trunk else "refer_or_bridge"
        return CallParts(leg, agent, playout, tools, price, recorder, transfers)
