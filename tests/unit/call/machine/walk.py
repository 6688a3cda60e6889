"""A machine watched from outside, for the random calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from gateway.call import actions as do
from gateway.call import builtin_tools as tool
from gateway.call import commands as given
from gateway.call import events as ev
from gateway.call.machine.machine import RULES, CallMachine
from gateway.call.machine.phase import Phase
from gateway.errors import IllegalEvent
from gateway.ids import CallId

CALL = CallId("call")
ASKED = (ev.ToolAsked, tool.BuiltinToolAsked)
TO_THE_AGENT = (
    *(
        do.Greet,
        do.AnnounceRecording,
        do.Truncate,
        do.CancelResponse,
        do.SayGoodbye,
        do.Say,
        do.AnswerTool,
        do.TellAgent,
        do.RunTool,
    ),
    *(do.MuteCaller, do.UnmuteCaller, do.TalkToSecond, do.TalkToCaller),
)
ANSWERED_ONLY = (
    *TO_THE_AGENT,
    *(do.Transfer, do.SendDigits, do.PausePlayout, do.ResumePlayout, do.JoinLegs, do.StartRecording, do.PauseRecording),
)
ENDS_A_TURN = (ev.SpeechStopped, ev.LegHeld, ev.AgentAway, ev.AgentFailed, ev.AgentClosed)
"""After these nobody could tell that the caller still speaks."""


class Walk:
    """A machine watched from outside: remembers every order and checks each step."""

    def __init__(self) -> None:
        self.machine = CallMachine()
        self.ordered: list[do.CallAction] = []
        self.counts: Counter[type[do.CallAction]] = Counter()
        self.running: set[str] = set()
        self.agent_open = False
        self.agent_ready = False
        self.planned = False
        self.choosing = False
        self.told: set[type[do.CallAction]] = set()  # of the caller's leg
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
        self.commands: list[str] = []  # and whether each was answered once
        self.command_answers: list[str] = []
        self.person = False  # has taken the call over
        self.apologizes = False  # a sound takes the agent's place

    def take(self, event: ev.CallEvent) -> None:
        before = self.machine.phase
        try:
            actions = self.machine.handle(event)
        except IllegalEvent:
            key = event.name if isinstance(event, ev.TimerFired) and event.name in self.running else type(event)
            assert (before, key) not in RULES
            assert self.machine.phase is before
            return
        if isinstance(event, given.CommandGiven):
            self.commands.append(event.command_id)
        if before is Phase.ENDED and isinstance(event, given.CommandGiven):
            assert actions == (do.AnswerCommand(event.command_id, done=False, detail="the call is ending already"),)
            self.command_answers.append(event.command_id)
            return
        if before is Phase.ENDED:
            assert actions == ()
            assert self.machine.phase is Phase.ENDED
        if self.speaks and isinstance(event, ev.PlayedOut):
            assert not {do.HangUp, do.Transfer, do.CallSecond} & set(map(type, actions)), "the caller is cut off"
        self.apologizes = isinstance(event, ev.ApologyAsked)
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
        if self.machine.phase is Phase.ACTIVE and self.person:
            assert self.muted, "the agent hears what a person says"
            assert not self.filling
            assert not self.recording
            assert "max_length" in self.running
        if self.machine.phase is Phase.JOINED:
            assert {"max_length"} <= self.running <= {"max_length", "hold"}
            assert self.second == "open"

    def _hear(self, event: ev.CallEvent, before: Phase) -> None:
        """Remember what orders depend on."""
        if isinstance(event, ev.SpeechStarted) and before is Phase.ACTIVE and not self.muted:
            self.speaks = True
        elif isinstance(event, ENDS_A_TURN):
            self.speaks = False
        if isinstance(event, ev.LegHeld | ev.LegResumed) and before is not Phase.ENDED:
            self.on_hold = isinstance(event, ev.LegHeld)
        elif isinstance(event, ev.SecondClosed):
            self.second = None
        elif isinstance(event, ev.LegClosed):
            self.leg_closed_first |= before not in (Phase.ENDING, Phase.ENDED)
        elif isinstance(event, ev.TimerFired):
            self.running.discard(event.name)
        elif isinstance(event, ASKED) and before is Phase.ACTIVE:
            self.asked.add(event.tool_call_id)
        else:
            self._hear_more(event, before)

    def _hear_more(self, event: ev.CallEvent, before: Phase) -> None:
        if isinstance(event, ev.AgentReady):
            self.agent_ready |= before in (Phase.RINGING, Phase.PREPARING, Phase.WAITING)
        elif isinstance(event, ev.Planned):
            self.planned |= before is Phase.ROUTING
        elif isinstance(event, ev.Routed | ev.ChoiceFailed):
            if isinstance(event, ev.Routed) and before is not Phase.ACTIVE:
                self.announces = event.announces
            self.choosing = False
        elif isinstance(event, ev.EarlyMediaUp):
            self.early_up |= do.Progress in self.told
        elif isinstance(event, ev.MediaUp):
            self.up |= bool({do.Answer, do.Dial} & self.told) and before not in (Phase.ENDING, Phase.ENDED)
        elif isinstance(event, ev.RecordingFailed):
            self.recording = False
        elif isinstance(event, ev.AnnouncementSaid):
            self.said = before is Phase.ACTIVE
        elif isinstance(event, ev.TransferEnded):
            self.transferring = False

    def _check(self, action: do.CallAction) -> None:
        assert not self.counts[do.Finish], "an order after Finish"
        assert self.agent_open or not isinstance(action, TO_THE_AGENT), "an order to a closed agent"
        assert self.up or not isinstance(action, ANSWERED_ONLY), "talk in no talk"
        self._check_command(action)
        self.ordered.append(action)
        self.counts[type(action)] += 1
        if isinstance(action, do.StartTimer):
            assert action.name not in self.running
            self.running.add(action.name)
        elif isinstance(action, do.CancelTimer):
            self.running.remove(action.name)
        elif isinstance(action, do.Ring | do.Progress | do.Answer | do.Dial):
            assert action.__class__ not in self.told
            assert do.Answer not in self.told
            assert self.agent_ready or not isinstance(action, do.Answer | do.Dial) or self.planned
            self.told.add(action.__class__)
        elif isinstance(action, do.HangUp):
            assert action.code >= 300 or self.up or do.Answer in self.told
            assert bool(action.contacts) is (action.code == 302)
            assert self.second != "open", "the second leg outlives the call"
        elif isinstance(action, do.ChooseAgent):
            assert not self.agent_open
            self.choosing = True
        elif isinstance(action, do.OpenAgent):
            assert not self.agent_open
            self.agent_open, self.agent_ready, self.muted, self.speaks = True, False, False, False
            self.announcing = self.said = self.knows = False
        elif isinstance(action, do.CloseAgent):
            assert self.agent_open
            self.agent_open = self.agent_ready = self.speaks = False
        elif isinstance(action, do.CallSecond | do.DropSecond | do.TalkToSecond | do.TalkToCaller | do.JoinLegs):
            self._check_second(action)
        else:
            self._check_sound(action)

    def _check_command(self, action: do.CallAction) -> None:
        assert self.agent_open or not isinstance(action, do.Whisper), "an instruction to a closed agent"
        if self.person:
            assert not isinstance(action, do.Say | do.Greet | do.SayGoodbye | do.UnmuteCaller), "the agent interferes"
            assert not isinstance(action, do.StartRecording | do.AnnounceRecording), "a person is recorded"
        if isinstance(action, do.AnswerCommand):
            self.command_answers.append(action.command_id)

    def _check_second(self, action: do.CallAction) -> None:
        if isinstance(action, do.CallSecond):
            assert self.second is None
            self.second = "open"
        elif isinstance(action, do.DropSecond):
            assert self.second == "open"
            self.second = "dropped"
        elif isinstance(action, do.TalkToCaller):
            assert self.with_second
            self.with_second = self.speaks = self.person = False
        else:
            assert self.second == "open"
            self.with_second, self.speaks = True, False
            self.person = isinstance(action, do.JoinLegs) and self.agent_open

    def _check_sound(self, action: do.CallAction) -> None:
        if isinstance(action, do.Play):
            assert self.up or (self.early_up and do.Answer not in self.told)
            assert not self.agent_open or self.apologizes
        elif isinstance(action, do.AwaitPlayedOut):
            self.mark = action.mark
        elif isinstance(action, do.StartRecording | do.PauseRecording):
            self.recording = isinstance(action, do.StartRecording)
            if self.recording:
                self.knows |= self.said
                assert self.knows or not self.announces, "recorded without the caller's knowledge"
                self.announcing = False
        elif isinstance(action, do.AnnounceRecording):
            assert self.announces
            assert not self.recording
            self.announcing, self.said = True, False
        elif isinstance(action, do.PausePlayout):
            assert not self.held
            self.held = True
        elif isinstance(action, do.ResumePlayout):
            assert self.held
            self.held = False
        elif isinstance(action, do.FlushPlayout):
            self.held = self.said = False
        else:
            self._check_talk(action)

    def _check_talk(self, action: do.CallAction) -> None:
        if isinstance(action, do.MuteCaller | do.UnmuteCaller):
            assert self.muted is isinstance(action, do.UnmuteCaller)
            self.muted = not self.muted
            self.speaks = False
        elif isinstance(action, do.StartFiller | do.StopFiller):
            assert self.filling is isinstance(action, do.StopFiller)
            self.filling = not self.filling
        elif isinstance(action, do.RunTool):
            assert action.tool_call_id in self.asked - self.tools_run
            self.tools_run.add(action.tool_call_id)
        elif isinstance(action, do.AnswerTool):
            assert action.tool_call_id in self.asked - self.answered
            self.answered.add(action.tool_call_id)
        elif isinstance(action, do.Transfer):
            assert not self.transferring

    def close_out(self, last: Sequence[ev.CallEvent]) -> None:
        """Let the leg close (or be given up) and check the whole call."""
        for event in last:
            self.take(event)
        assert self.machine.phase is Phase.ENDED
        assert self.counts[do.Finish] == 1
        assert isinstance(self.ordered[-1], do.Finish)
        assert self.counts[do.OpenAgent] <= 1 or self.planned
        assert self.counts[do.CloseAgent] == self.counts[do.OpenAgent]
        assert self.counts[do.HangUp] == (0 if self.leg_closed_first else 1)
        assert sorted(self.command_answers) == sorted(self.commands), "a command is answered once"
        assert not self.running
        assert not self.filling
        assert not self.held
        assert self.second != "open"
        # A second leg was dropped or closed by itself; one that is dropped may still close.
        assert self.counts[do.DropSecond] <= self.counts[do.CallSecond]
        assert self.counts[do.UnmuteCaller] <= self.counts[do.MuteCaller]
