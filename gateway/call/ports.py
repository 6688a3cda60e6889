"""
What a call needs from outside, as Protocols; ``worker/`` hands in the classes that fulfil them.

Every order returns at once; what comes of it reaches the call as an event (``call/events.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from gateway.audio.played import PlayedItem, PlayoutPosition
from gateway.audio.tap import AudioTap
from gateway.call.actions import CallSecond
from gateway.call.events import CallEvent, Routed, Scalar
from gateway.call.steps import TalkTo
from gateway.ids import CallId

EmitEvent = Callable[[CallEvent], None]
"""Puts an event into the call's inbox. Thread: loop."""

Price = Callable[[Mapping[str, int | float]], float | None]
"""What the tokens used cost, in US dollars; None if that is not known."""


Spend = Callable[[float, EmitEvent], None]
"""
Takes what the call has cost so far, in US dollars, each time it has cost more; ``BudgetLow`` and ``BudgetUsedUp`` may
follow, each once. Thread: loop.
"""


class SipLeg(Protocol):
    """The SIP side of one call. Once the leg has closed it ignores every order but ``drop_second``. Thread: loop."""

    def ring(self) -> None:
        """Send 180 Ringing."""

    def progress(self) -> None:
        """Send 183 with SDP, so that the caller hears the playout. ``EarlyMediaUp`` or ``LegFailed`` follows."""

    def answer(self) -> None:
        """Send 200 OK, perhaps after 183; ``MediaUp`` or ``LegFailed`` follows, also after early media."""

    def hang_up(self, code: int, reason: str, contacts: tuple[str, ...] = (), cause: int = 0) -> None:
        """
        End the leg: final response ``code`` before the answer, BYE after it. ``LegClosed`` follows.

        ``contacts`` are those of a 3xx, the best first. An empty ``reason`` is the usual phrase of the code.

        A leg that we place is ended by CANCEL before its answer; one that was not dialled yet just closes.
        """

    def trace(self) -> None:
        """Keep the SIP messages of both legs from now on, whatever the settings say."""

    def dial(self) -> None:
        """Place the call, for a leg made with a target; ``LegRinging``, ``MediaUp``, ``LegClosed`` follow."""

    def transfer(self, target: str) -> None:
        """Send the far end to the URI ``target`` by REFER (RFC 3515); ``TransferEnded`` follows."""

    def send_digits(self, digits: str) -> None:
        """Send DTMF digits (``0-9*#A-D``), as the trunk wants them (RFC 4733 or SIP INFO)."""

    def call_second(self, order: CallSecond) -> None:
        """
        Call a second leg; ``SecondRinging``, ``SecondUp`` and one ``SecondClosed`` follow.

        It goes out through the trunk of the order, or, if that is empty, through the trunk of this call if the target
        fits it. It may also be called before this call is answered.
        """

    def talk_to_second(self) -> None:
        """Connect the agent with the second leg, as soon as it is up; the caller hears a waiting tone from now on."""

    def talk_to_caller(self) -> None:
        """Connect the agent with the caller again; the second leg hears nothing."""

    def join(self) -> None:
        """Connect the caller with the second leg, without the agent. When one closes, the other stays open."""

    def listen(self, tap: AudioTap | None) -> None:
        """Let ``tap`` have each frame of what the caller says and hears, whoever talks with them; None: no longer."""

    def drop_second(self) -> None:
        """End the second leg, if there is one, also after the first has closed; ``SecondClosed`` follows."""


class Agent(Protocol):
    """The voice model's side of one call, at most one session. Thread: loop."""

    def open(self, emit: EmitEvent) -> None:
        """Connect and configure in the background; ``AgentReady`` or ``AgentFailed`` follows through ``emit``."""

    def greet(self, text: str = "") -> None:
        """Let the agent speak first, as its profile says; ``text`` is what to say instead of its greeting."""

    def announce(self) -> None:
        """
        Let the agent say, in the words of its profile, that the call is recorded, and nothing else.

        ``AnnouncementSaid`` follows once that was generated in full, ``AnnouncementFailed`` if it cannot be.
        """

    def truncate(self, item_id: str, played_ms: int) -> None:
        """Tell the upstream how much of an item was heard; the agent limits that to what it received."""

    def cancel(self) -> None:
        """Stop the response being generated; nothing happens without one."""

    def answer_tool(self, tool_call_id: str, output: str, *, respond: bool) -> None:
        """
        Give the model a tool's output.

        The model speaks again once all tools of a response are answered, if one of the answers had ``respond``.
        """

    def say_goodbye(self, detail: str) -> None:
        """Let the agent say that the call must end, because of ``detail``."""

    def tell(self, text: str, *, respond: bool) -> None:
        """Give the model a message of the gateway (a system item); with ``respond`` it answers."""

    def say(self, text: str) -> None:
        """Let the agent say this sentence, word for word, as soon as it says nothing else."""

    def mute_caller(self) -> None:
        """Send nothing of the caller (or silence, as the profile says) and pause turn detection."""

    def unmute_caller(self) -> None:
        """Send the caller's voice again, with turn detection as the profile says."""

    @property
    def responding(self) -> bool:
        """Whether a response is wanted or being generated."""

    async def close(self) -> None:
        """
        Close the upstream session in an orderly way, within a time limit; safe in any state and more than once.

        Nothing is emitted once this was called. On return no task or socket of the agent is left.
        """


class Playout(Protocol):
    """Speech and sounds on their way to the caller, as far as the control of a call needs them."""

    def write(self, item_id: str, pcm: bytes) -> None:
        """Queue audio of an item, as PCM of the leg's format. Thread: loop."""

    def complete(self, item_id: str) -> None:
        """Say that no more of this item will come. Thread: loop."""

    def flush(self) -> None:
        """Drop all queued speech, held speech too, and hold no longer. Thread: loop."""

    def listen(self, wake: Callable[[], None] | None) -> None:
        """Call ``wake`` on any thread when an item was played to its end; None stops that. Thread: loop."""

    def take_finished(self) -> list[PlayedItem]:
        """Return the items that were played to their end or flushed since the last time, in order. Thread: loop."""

    def position(self) -> PlayoutPosition | None:
        """Return the item being played, and how far it is; None when nothing is. Thread: loop."""

    def pause(self) -> None:
        """Hold the queued speech; the caller hears silence. Thread: loop."""

    def resume(self) -> None:
        """Go on where it stopped. Thread: loop."""

    def start_filler(self) -> None:
        """Play the filler over and over while no speech is queued. Thread: loop."""

    def stop_filler(self) -> None:
        """Play silence again while no speech is queued. Thread: loop."""

    @property
    def queued_ms(self) -> int:
        """Milliseconds of speech that is queued, held speech too."""

    @property
    def first_frame_at(self) -> float | None:
        """Monotonic seconds at which the first frame of speech was clocked out; None before that."""


class Tools(Protocol):
    """The tools that the profile of one call adds to the built-in ones. Thread: loop."""

    def run(self, tool_call_id: str, name: str, arguments: str, emit: EmitEvent) -> None:
        """Run a tool in the background; ``ToolFinished`` follows through ``emit``, whatever happens."""

    async def close(self) -> None:
        """Cancel what still runs; nothing is emitted afterwards. On return no task or socket is left."""


class Recorder(Protocol):
    """The recording of one call. Thread: loop; what it writes, a thread of its own writes."""

    def start(self, emit: EmitEvent) -> None:
        """Record from now on, or go on; ``RecordingFailed`` may follow."""

    def pause(self) -> None:
        """Record nothing until ``start``; the pause takes up no time in the file."""

    async def close(self) -> None:
        """Complete the file; ``RecordingSaved`` is emitted before it returns, unless nothing was recorded."""


@dataclass(frozen=True, slots=True)
class AgentSetup:
    """
    An agent for one call, and all that goes with it.

    Attributes:
        agent: the voice model's side, not opened yet.
        routed: the limits and rules of the call with this agent.
        tools: the tools its profile adds to the built-in ones; None if it adds none.
        price: what the tokens it uses cost.
        may_record: its profile allows recording, if there is something to record with.
    """

    agent: Agent
    routed: Routed
    tools: Tools | None = None
    price: Price = lambda used: None
    may_record: bool = True


Choose = Callable[[TalkTo], AgentSetup]
"""Sets up the agent that a step names; raises a ``GatewayError`` if that is not possible for this call."""

Sounds = Callable[[str], bytes]
"""Returns a sound of the dialplan by its name, as PCM of the leg's format."""


class SessionStore(Protocol):
    """Where a call is written down. Never blocks and never raises: a lost store does not end a call."""

    def note(self, call_id: CallId, event: str, /, **fields: Scalar) -> None:
        """
        Merge ``fields`` into the call's record and append ``event`` with them to the stream of call events.

        ``fields`` are named as in ``store.record.CallRecord``; ``state="ended"`` closes the record.
        """


class TimerHandle(Protocol):
    """A running timer."""

    def cancel(self) -> None:
        """Stop it; safe more than once."""


class Clock(Protocol):
    """Time, so that tests can set it."""

    def now(self) -> float:
        """Return Unix seconds."""

    def monotonic(self) -> float:
        """Return seconds that never run backwards, on the scale of ``time.monotonic``."""

    def call_later(self, seconds: float, callback: Callable[[], None]) -> TimerHandle:
        """Run ``callback`` on the loop after ``seconds``."""
