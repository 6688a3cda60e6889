"""A machine watched from outside, for the random calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from gateway.call.actions import (
    AnnounceRecording,
    Answer,
    AnswerTool,
    AwaitPlayedOut,
    CallAction,
    CallSecond,
    CancelResponse,
    CancelTimer,
    ChooseAgent,
    CloseAgent,
    Dial,
    DropSecond,
    Finish,
    FlushPlayout,
    Greet,
    HangUp,
    JoinLegs,
    MuteCaller,
    OpenAgent,
    PausePlayout,
    PauseRecording,
    Play,
    Progress,
    ResumePlayout,
    Ring,
    RunTool,
    SayGoodbye,
    SendDigits,
    StartFiller,
    StartRecording,
    StartTimer,
    StopFiller,
    TalkToCaller,
    TalkToSecond,
    TellAgent,
    Transfer,
    Truncate,
    UnmuteCaller,
)
from gateway.call.builtin_tools import (
    BuiltinToolAsked,
)
from gateway.call.events import (
    AgentAway,
    AgentClosed,
    AgentFailed,
    AgentReady,
    AnnouncementSaid,
    ApologyAsked,
    CallEvent,
    ChoiceFailed,
    EarlyMediaUp,
    LegClosed,
    LegHeld,
    LegResumed,
    MediaUp,
    Planned,
    PlayedOut,
    RecordingFailed,
    Routed,
    SecondClosed,
    SpeechStarted,
    SpeechStopped,
    TimerFired,
    ToolAsked,
    TransferEnded,
)
from gateway.call.machine.machine import RULES, CallMachine
from gateway.call.machine.phase import Phase
from gateway.errors import IllegalEvent
from gateway.ids import CallId

CALL = CallId("call")
ASKED = (ToolAsked, BuiltinToolAsked)
TO_THE_AGENT = (
    *(Greet, AnnounceRecording, Truncate, CancelResponse, SayGoodbye, AnswerTool, TellAgent, RunTool),
    *(MuteCaller, UnmuteCaller, TalkToSecond, TalkToCaller),
)
ANSWERED_ONLY = (
    *TO_THE_AGENT,
    *(Transfer, SendDigits, PausePlayout, ResumePlayout, JoinLegs, StartRecording, PauseRecording),
)
ENDS_A_TURN = (SpeechStopped, LegHeld, AgentAway, AgentFailed, AgentClosed)
"""After these nobody could tell that the caller still speaks."""


class Walk:
    """A machine watched from outside: remembers every order and checks each step."""

    def __init__(self) -> None:
        self.machine = CallMachine()
        self.ordered: list[CallAction] = []
        self.counts: Counter[type[CallAction]] = Counter()
        self.running: set[str] = set()
        self.agent_open = False
        self.agent_ready = False
        self.planned = False
        self.choosing = False
        self.told: set[type[CallAction]] = set()  # of the caller's leg
        self.early_up = False
        self.up = False
        self.recording = False
        self.announces = self.announcing = self.said = self.knows = False  # that the caller is recorded
        self.mark = 0
        self.leg_closed_first = False
        self.visited = {Phase.ROUTING}
        self.asked: set[str] = set()
        self.answered: set[str] = set()
        self.tools_run: set[str] = set()
        self.on_hold = False
        self.held = False
        self.muted = False
        self.speaks = False  # the caller, and the agent hears it
        self.second: str | None = None  # open, or dropped and not closed yet
        self.with_second = False
        self.filling = False
        self.transferring = False
        self.apologizes = False  # a sound takes the agent's place

    def take(self, event: CallEvent) -> None:
        before = self.machine.phase
        try:
            actions = self.machine.handle(event)
        except IllegalEvent:
            key = event.name if isinstance(event, TimerFired) and event.name in self.running else type(event)
            assert (before, key) not in RULES
            assert self.machine.phase is before
            return
        if before is Phase.ENDED:
            assert actions == ()
            assert self.machine.phase is Phase.ENDED
        if self.speaks and isinstance(event, PlayedOut):
            assert not {HangUp, Transfer, CallSecond} & set(map(type, actions)), "the caller is cut off"
        self.apologizes = isinstance(event, ApologyAsked)
        self._hear(event, before)
        self.visited.add(self.machine.phase)
        for action in actions:
            self._check(action)
        self.transferring = "transfer" in self.running
        self._look()

    def _look(self) -> None:
        """Check what must hold between any two events."""
        if self.machine.phase is Phase.ACTIVE:
            assert ("hold" in self.running) is self.on_hold
            deaf_to_hold = self.on_hold and not self.with_second
            assert (self.muted and self.held) or not deaf_to_hold, "the agent talks into hold music"
        if self.machine.phase in (Phase.ATTENDING, Phase.WAITING):
            assert ("hold" in self.running) is (self.on_hold and self.up)
            assert ("max_length" in self.running) is self.up
            assert "menu" not in self.running or not self.on_hold, "a key is awaited from hold music"
            assert not self.recording, "the dialplan's steps are recorded"
            assert self.agent_open is (self.machine.phase is Phase.WAITING)
            assert not self.with_second
        if self.machine.phase is Phase.JOINED:
            assert {"max_length"} <= self.running <= {"max_length", "hold"}
            assert self.second == "open"

    def _hear(self, event: CallEvent, before: Phase) -> None:
        """Remember what orders depend on."""
        if isinstance(event, SpeechStarted) and before is Phase.ACTIVE and not self.muted:
            self.speaks = True
        elif isinstance(event, ENDS_A_TURN):
            self.speaks = False
        if isinstance(event, LegHeld | LegResumed) and before is not Phase.ENDED:
            self.on_hold = isinstance(event, LegHeld)
        elif isinstance(event, SecondClosed):
            self.second = None
        elif isinstance(event, LegClosed):
            self.leg_closed_first |= before not in (Phase.ENDING, Phase.ENDED)
        elif isinstance(event, TimerFired):
            self.running.discard(event.name)
        elif isinstance(event, ASKED) and before is Phase.ACTIVE:
            self.asked.add(event.tool_call_id)
        else:
            self._hear_more(event, before)

    def _hear_more(self, event: CallEvent, before: Phase) -> None:
        if isinstance(event, AgentReady):
            self.agent_ready |= before in (Phase.RINGING, Phase.PREPARING, Phase.WAITING)
        elif isinstance(event, Planned):
            self.planned |= before is Phase.ROUTING
        elif isinstance(event, Routed | ChoiceFailed):
            if isinstance(event, Routed) and before is not Phase.ACTIVE:
                self.announces = event.announces
            self.choosing = False
        elif isinstance(event, EarlyMediaUp):
            self.early_up |= Progress in self.told
        elif isinstance(event, MediaUp):
            self.up |= bool({Answer, Dial} & self.told) and before not in (Phase.ENDING, Phase.ENDED)
        elif isinstance(event, RecordingFailed):
            self.recording = False
        elif isinstance(event, AnnouncementSaid):
            self.said = before is Phase.ACTIVE
        elif isinstance(event, TransferEnded):
            self.transferring = False

    def _check(self, action: CallAction) -> None:
        assert not self.counts[Finish], "an order after Finish"
        assert self.agent_open or not isinstance(action, TO_THE_AGENT), "an order to a closed agent"
        assert self.up or not isinstance(action, ANSWERED_ONLY), "talk in no talk"
        self.ordered.append(action)
        self.counts[type(action)] += 1
        if isinstance(action, StartTimer):
            assert action.name not in self.running
            self.running.add(action.name)
        elif isinstance(action, CancelTimer):
            self.running.remove(action.name)
        elif isinstance(action, Ring | Progress | Answer | Dial):
            assert action.__class__ not in self.told
            assert Answer not in self.told
            assert self.agent_ready or not isinstance(action, Answer | Dial) or self.planned
            self.told.add(action.__class__)
        elif isinstance(action, HangUp):
            assert action.code >= 300 or self.up or Answer in self.told
            assert bool(action.contacts) is (action.code == 302)
            assert self.second != "open", "the second leg outlives the call"
        elif isinstance(action, ChooseAgent):
            assert not self.agent_open
            self.choosing = True
        elif isinstance(action, OpenAgent):
            assert not self.agent_open
            self.agent_open, self.agent_ready, self.muted, self.speaks = True, False, False, False
            self.announcing = self.said = self.knows = False
        elif isinstance(action, CloseAgent):
            assert self.agent_open
            self.agent_open = self.agent_ready = self.speaks = False
        elif isinstance(action, CallSecond | DropSecond | TalkToSecond | TalkToCaller | JoinLegs):
            self._check_second(action)
        else:
            self._check_sound(action)

    def _check_second(self, action: CallAction) -> None:
        if isinstance(action, CallSecond):
            assert self.second is None
            self.second = "open"
        elif isinstance(action, DropSecond):
            assert self.second == "open"
            self.second = "dropped"
        elif isinstance(action, TalkToCaller):
            assert self.with_second
            self.with_second = self.speaks = False
        else:
            assert self.second == "open"
            self.with_second, self.speaks = True, False

    def _check_sound(self, action: CallAction) -> None:
        if isinstance(action, Play):
            assert self.up or (self.early_up and Answer not in self.told)
            assert not self.agent_open or self.apologizes
        elif isinstance(action, AwaitPlayedOut):
            self.mark = action.mark
        elif isinstance(action, StartRecording | PauseRecording):
            self.recording = isinstance(action, StartRecording)
            if self.recording:
                self.knows |= self.said
                assert self.knows or not self.announces, "recorded without the caller's knowledge"
                self.announcing = False
        elif isinstance(action, AnnounceRecording):
            assert self.announces
            assert not self.recording
            self.announcing, self.said = True, False
        elif isinstance(action, PausePlayout):
            assert not self.held
            self.held = True
        elif isinstance(action, ResumePlayout):
            assert self.held
            self.held = False
        elif isinstance(action, FlushPlayout):
            self.held = self.said = False
        else:
            self._check_talk(action)

    def _check_talk(self, action: CallAction) -> None:
        if isinstance(action, MuteCaller | UnmuteCaller):
            assert self.muted is isinstance(action, UnmuteCaller)
            self.muted = not self.muted
            self.speaks = False
        elif isinstance(action, StartFiller | StopFiller):
            assert self.filling is isinstance(action, StopFiller)
            self.filling = not self.filling
        elif isinstance(action, RunTool):
            assert action.tool_call_id in self.asked - self.tools_run
            self.tools_run.add(action.tool_call_id)
        elif isinstance(action, AnswerTool):
            assert action.tool_call_id in self.asked - self.answered
            self.answered.add(action.tool_call_id)
        elif isinstance(action, Transfer):
            assert not self.transferring

    def close_out(self, last: Sequence[CallEvent]) -> None:
        """Let the leg close (or be given up) and check the whole call."""
        for event in last:
            self.take(event)
        assert self.machine.phase is Phase.ENDED
        assert self.counts[Finish] == 1
        assert isinstance(self.ordered[-1], Finish)
        assert self.counts[OpenAgent] <= 1 or self.planned
        assert self.counts[CloseAgent] == self.counts[OpenAgent]
        assert self.counts[HangUp] == (0 if self.leg_closed_first else 1)
        assert not self.running
        assert not self.filling
        assert not self.held
        assert self.second != "open"
        # A second leg was dropped or closed by itself; one that is dropped may still close.
        assert self.counts[DropSecond] <= self.counts[CallSecond]
        assert self.counts[UnmuteCaller] <= self.counts[MuteCaller]
