"""
Whether the call is recorded: from the answer on, or as the agent asks; and not before the caller knows of it.

A part of ``Talk`` and as pure. Where the profile has an announcement nothing is recorded until it was heard to its end.
Whatever keeps it from being heard (the caller cuts it off, it fails, the session is lost), it is said again as soon as
nobody speaks, ``MOST_ANNOUNCEMENTS`` times in all; then the call goes on without a recording.
"""

from __future__ import annotations

from gateway.call.actions import (
    AnnounceRecording,
    AnswerTool,
    AwaitPlayedOut,
    CallAction,
    Greet,
    Note,
    PauseRecording,
    StartRecording,
    TellAgent,
)
from gateway.call.events import RecordingAsked, Routed

MOST_ANNOUNCEMENTS = 3


class Recording:
    """
    The recording of one call as long as one agent speaks.

    Args:
        routed: whether it is to be recorded, can be, and is announced.
    """

    def __init__(self, routed: Routed) -> None:
        self._from_answer = routed.recording
        self._can_record = routed.can_record
        self._announced = not routed.announces  # nothing stands between the agent's wish and the recording
        self._runs = False
        self._announcing = False
        self._wanted = False  # the agent is saying it, or is about to, as far as we did not cancel that
        self._said = False  # the agent has said all of it, and nobody cut it off
        self._count = 0
        self._greet: Greet | None = None  # what follows the announcement
        self._asked = False  # the agent is to be told what came of it

    @property
    def runs(self) -> bool:
        """What is said is written down."""
        return self._runs

    def begin(self, greet: Greet | None) -> tuple[CallAction, ...]:
        """Begin the talk with this greeting; None: there is no time for one, nor for an announcement."""
        words = () if greet is None else (greet,)
        if not (self._from_answer and self._can_record):
            return words
        if self._announced:
            self._runs = True
            return (StartRecording(), *words)
        if greet is None:
            return ()
        self._greet = greet
        return self._announce()

    def asked(self, event: RecordingAsked) -> tuple[CallAction, ...]:
        """Do as the agent wants."""
        if not self._can_record:
            return (AnswerTool(event.tool_call_id, "Error: this call cannot be recorded."),)
        if not event.on:
            return self._pause(event.tool_call_id)
        if self._announced:
            self._runs = True
            return StartRecording(), AnswerTool(event.tool_call_id, "The recording runs.")
        self._asked = True
        words = "The caller is told first that the call is recorded. You will be told when the recording runs."
        answer = AnswerTool(event.tool_call_id, words, respond=False)
        if self._announcing:
            return (answer,)
        self._count = 0
        return (answer, *self._announce())

    def failed(self) -> None:
        """Take note that nothing can be recorded any more."""
        self._can_record = self._runs = False

    def said(self) -> tuple[CallAction, ...]:
        """Take note that the agent has said all of the announcement; the caller has still to hear it."""
        self._said = self._announcing and self._wanted
        return self.await_quiet()

    def cut(self, *, cancelled: bool) -> None:
        """Take note that what was to be heard was cut off; ``cancelled``: the agent was told to say no more of it."""
        self._said = False
        self._wanted &= not cancelled

    def give_up(self, detail: str) -> tuple[CallAction, ...]:
        """Go on without a recording: the announcement cannot be had."""
        return self._close(detail) if self._announcing else ()

    def quiet(self) -> tuple[CallAction, ...]:
        """Go on: nobody speaks and nothing waits to be heard."""
        if not self._announcing:
            return ()
        if self._said:
            return self._close("")
        if self._count < MOST_ANNOUNCEMENTS:
            return self._announce()
        return self._close(f"said {self._count} times and never heard to its end")

    def await_quiet(self) -> tuple[CallAction, ...]:
        """Ask for the moment at which nobody speaks, if the announcement needs it."""
        return (AwaitPlayedOut(),) if self._announcing else ()

    def _announce(self) -> tuple[CallAction, ...]:
        self._announcing, self._wanted, self._said = True, True, False
        self._count += 1
        note = Note("announcing", {"announcement": "not_heard", "attempt": self._count})
        return note, AnnounceRecording(), *self.await_quiet()

    def _pause(self, tool_call_id: str) -> tuple[CallAction, ...]:
        self._runs = False
        refused = self._announcing
        greets = refused and self._greet is not None
        self._asked = False
        answer = AnswerTool(tool_call_id, "The recording is paused.", respond=not greets)
        return PauseRecording(), answer, *(self._close("the agent paused the recording") if refused else ())

    def _close(self, trouble: str) -> tuple[CallAction, ...]:
        """End the announcement; ``trouble`` says why it was not heard, empty when it was."""
        self._announcing = False
        self._announced = self._runs = not trouble
        greet, self._greet = self._greet, None
        asked, self._asked = self._asked, False
        if trouble:
            orders: tuple[CallAction, ...] = (Note("recording_withheld", {"detail": trouble}),)
            words = "The caller did not hear that the call is recorded, so nothing is recorded."
        else:
            orders = (StartRecording(), Note("announcement_heard", {"announcement": "heard"}))
            words = "The caller heard that the call is recorded. The recording runs."
        told = (TellAgent(words, respond=greet is None),) if asked else ()
        return (*orders, *told, *(() if greet is None else (greet,)))
