"""
Makes the parts of each call: the phone's side (SIP leg, audio buffers, recorder) and the agents that speak on it.

The worker makes one ``CallBuilder`` of what all calls share: the SIP thread, HTTP clients, the recording thread, the
breakers. The switchboard asks it for a ``PhoneSide`` when a call begins and for an ``AgentSetup`` for each agent.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Literal

from gateway.audio.filler import tone_filler
from gateway.audio.pcm import PcmFormat
from gateway.audio.playout import PlayoutBuffer
from gateway.audio.uplink import UplinkRounds, UplinkTap
from gateway.call.events import IncomingInvite, Routed
from gateway.call.ports import AgentSetup, SessionStore
from gateway.cost.prices import shipped_prices
from gateway.dialplan.model.agent import AgentProfile
from gateway.ids import CallId
from gateway.recording.recorder import CallRecorder, RecordingWriter
from gateway.redact import Redactor, secrets_in
from gateway.settings.sections import Settings
from gateway.sip.thread import SipThread
from gateway.tools.runner import OwnTools, TraceHeaders, no_headers
from gateway.tools.webhook import WebhookClient
from gateway.upstream.agent import UpstreamAgent
from gateway.upstream.core.breaker import Breakers
from gateway.upstream.realtime.access.connect import RealtimeConnector
from gateway.upstream.realtime.access.secrets import SecretMinter
from gateway.upstream.realtime.config import end_of_speech_ms
from gateway.worker.live_plan import PreparedPlan
from gateway.worker.session_place import Gate, LimitedPlace
from gateway.worker.switchboard import DialOrder, PhoneSide

UPLINK_CAPACITY_MS = 2000


class CallBuilder:
    """
    Makes the parts of each call. Thread: loop.

    Args:
        settings: all of them.
        sip: where legs come from.
        rounds: collect the callers' audio, of all calls together.
        webhooks: HTTP of tools.
        minter: ephemeral keys.
        breakers: hold attempts to reach the model's service back while it is away.
        recordings: writes recordings.
        gate: counts the sessions of models, over all workers.
        store: where calls are written down.
        phone: format of a leg's audio.
        trace_headers: what the requests of tools say of the trace they belong to.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        sip: SipThread,
        rounds: UplinkRounds,
        webhooks: WebhookClient,
        minter: SecretMinter,
        breakers: Breakers,
        recordings: RecordingWriter,
        gate: Gate,
        store: SessionStore,
        phone: PcmFormat,
        trace_headers: TraceHeaders = no_headers,
    ) -> None:
        self._settings = settings
        self._sip = sip
        self._rounds = rounds
        self._webhooks = webhooks
        self._minter = minter
        self._breakers = breakers
        self._recordings = recordings
        self._gate = gate
        self._store = store
        self._phone = phone
        self._trace_headers = trace_headers
        self._redact = Redactor(secrets_in(settings))
        self._prices = shipped_prices().with_own(settings.prices)
        self._tone = tone_filler(phone)  # for callers who wait before any agent came

    def line(self, asked: IncomingInvite | DialOrder, *, may_record: bool) -> PhoneSide:
        """
        Make the telephone's side of a call.

        Raises:
            SipError: the target of a call of ours cannot be called; says why.
        """
        uplink = UplinkTap(capacity_frames=UPLINK_CAPACITY_MS // self._phone.ptime_ms)
        playout = PlayoutBuffer(self._phone, self._tone)
        recorder = CallRecorder(asked.call_id, self._recordings, self._phone) if may_record else None
        if isinstance(asked, IncomingInvite):
            leg = self._sip.leg(asked.call_id, uplink, playout, recorder)
        else:
            leg = self._sip.new_call(
                *(asked.call_id, asked.target, uplink, playout),
                trunk=asked.trunk,
                caller_id=asked.caller_id or None,
                recorder=recorder,
            )
        return PhoneSide(leg, uplink, playout, recorder)

    def agent_setup(
        self,
        asked: IncomingInvite | DialOrder,
        line: PhoneSide,
        plan: PreparedPlan,
        agent_name: str,
        profile: AgentProfile,
        routed: Routed,
    ) -> AgentSetup:
        """Make an agent that speaks on a line."""
        settings = self._settings
        if isinstance(asked, IncomingInvite):
            facts = {"from": asked.from_uri, "to": asked.to_uri, "caller": asked.caller, "called": asked.called}
        else:
            facts = {"from": asked.target, "to": asked.caller_id, "caller": asked.target, "called": asked.caller_id}
        line.playout.use_filler(plan.fillers[agent_name])
        line.agents += 1
        place = self._place(asked.call_id, line.agents, profile)
        connector = RealtimeConnector(
            call_id=asked.call_id,
            settings=settings.realtime,
            profile=profile,
            caller=facts["from"],
            own_tools=plan.own_tools[agent_name],
            secrets=settings.secrets,
            minter=self._minter,
            place=place,
        )
        agent = UpstreamAgent(
            call_id=asked.call_id,
            settings=settings.realtime,
            profile=profile,
            connector=connector,
            uplink=line.uplink,
            playout=line.playout,
            breaker=self._breakers.of(profile.model),
            rounds=self._rounds,
            phone=self._phone,
        )
        tools = OwnTools(
            call_id=asked.call_id,
            tool_set=profile.tools,
            secrets=settings.secrets,
            facts={**facts, "route": line.route},
            http=self._webhooks,
            redact=self._redact,
            trace_headers=self._trace_headers,
        )
        price = partial(self._cost, place, profile.transcription)
        return AgentSetup(agent, routed, tools, price, may_record=profile.recording.mode != "off")

    def _place(self, call_id: CallId, number: int, profile: AgentProfile) -> LimitedPlace:
        most = self._settings.realtime.sessions_max
        return LimitedPlace(call_id, number, profile.talking_models(), most, self._gate, self._store, time.time)

    def _cost(self, place: LimitedPlace, transcription: str | None, used: Mapping[str, int | float]) -> float | None:
        """Return what an agent's tokens cost; its model is known once it has a session."""
        return self._prices.cost(used, place.model, transcription)

    def transfers(self, trunk: str) -> Literal["refer", "refer_or_bridge", "bridge"]:
        """Return how calls of a trunk are transferred."""
        settings = self._settings.trunks.get(trunk)
        return settings.transfers if settings else "refer_or_bridge"

    def end_of_speech_ms(self, profile: AgentProfile) -> int:
        """Return the silence, in milliseconds, after which the agent's voice model reports the end of a sound."""
        return end_of_speech_ms(profile)
