"""
Whether the call is recorded: from the answer on, or as the agent asks; and not before the caller knows of it.

Where the profile has an announcement nothing is recorded until it was heard to its end. Whatever keeps it from being
heard (the caller cuts it off, it fails, the session is lost), it is said again as soon as nobody speaks,
``MOST_ANNOUNCEMENTS`` times in all; then the call goes on without a recording.
"""

from __future__ import annotations

from typing import Final

from gateway.call import actions as do
from gateway.call import builtin_tools as tool
from gateway.call import events as ev
from gateway.call.machine.state import CallState, Orders
from gateway.call.machine.tool_calls import is_new

MOST_ANNOUNCEMENTS: Final = 3


def begin(call: CallState, greet: do.Greet | None) -> Orders:
    """Begin the conversation with this greeting; None: there is no time for one, nor for an announcement."""
    words = () if greet is None else (greet,)
    if not (call.agent.routed.recording and _possible(call)):
        return words
    if _permitted(call):
        call.agent.recording.runs = True
        return (do.StartRecording(), *words)
    if greet is None:
        return ()
    call.agent.recording.greet = greet
    return _announce(call)


def recording_asked(call: CallState, event: tool.RecordingAsked) -> Orders:
    """Do as the agent wants."""
    if not is_new(call, event.tool_call_id):
        return ()
    if not _possible(call) or (event.on and call.taken_over):
        return (do.AnswerTool(event.tool_call_id, "Error: this call cannot be recorded."),)
    return _start(call, event.tool_call_id) if event.on else _pause(call, event.tool_call_id)


def recording_failed(call: CallState, _event: ev.RecordingFailed) -> Orders:
    """Note that nothing can be recorded any more, for later agents either."""
    call.recording_failed = True
    call.agent.recording.runs = False
    return ()


def announcement_said(call: CallState, _event: ev.AnnouncementSaid) -> Orders:
    """Take note that the agent has said all of the announcement; the caller has still to hear it."""
    recording = call.agent.recording
    recording.said = recording.announcing and recording.wanted
    return await_quiet(call)


def announcement_failed(call: CallState, event: ev.AnnouncementFailed) -> Orders:
    """Go on without a recording: the announcement could not be generated."""
    return _close(call, event.detail) if call.agent.recording.announcing else ()


def cut(call: CallState, *, cancelled: bool) -> None:
    """Note that playback was cut off; ``cancelled``: the agent's response was cancelled."""
    call.agent.recording.said = False
    call.agent.recording.wanted &= not cancelled


def quiet(call: CallState) -> Orders:
    """Go on: neither side is speaking and nothing is left to play."""
    recording = call.agent.recording
    if not recording.announcing:
        return ()
    if recording.said:
        return _close(call, "")
    if recording.count < MOST_ANNOUNCEMENTS:
        return _announce(call)
    return _close(call, f"said {recording.count} times and never heard to its end")


def interrupt(call: CallState) -> Orders:
    """Record nothing of what a person says who takes the call over; an announcement that was not heard is given up."""
    recording = call.agent.recording
    paused = (do.PauseRecording(),) if recording.runs else ()
    if not recording.announcing:
        return paused
    recording.announcing, recording.greet, recording.asked = False, None, False
    return (*paused, do.Note("recording_withheld", {"detail": "a person took the call over"}))


def resume(call: CallState) -> Orders:
    """Record again what the agent says and hears, if it was recorded before."""
    return (do.StartRecording(),) if call.agent.recording.runs else ()


def await_quiet(call: CallState) -> Orders:
    """Wait for silence on both sides, if the announcement needs it."""
    return (do.AwaitPlayedOut(),) if call.agent.recording.announcing else ()


def _possible(call: CallState) -> bool:
    return call.agent.routed.can_record and not call.recording_failed


def _permitted(call: CallState) -> bool:
    """Return whether nothing is left between the agent's wish and the recording."""
    return call.agent.recording.heard or not call.agent.routed.announces


def _start(call: CallState, tool_call_id: str) -> Orders:
    recording = call.agent.recording
    if _permitted(call):
        recording.runs = True
        return do.StartRecording(), do.AnswerTool(tool_call_id, "The recording runs.")
    recording.asked = True
    words = "The caller first hears that the call is recorded. You will be informed when the recording is running."
    answer = do.AnswerTool(tool_call_id, words, respond=False)
    if recording.announcing:
        return (answer,)
    recording.count = 0
    return (answer, *_announce(call))


def _pause(call: CallState, tool_call_id: str) -> Orders:
    recording = call.agent.recording
    recording.runs = False
    refused = recording.announcing
    greets = refused and recording.greet is not None
    recording.asked = False
    answer = do.AnswerTool(tool_call_id, "The recording is paused.", respond=not greets)
    return do.PauseRecording(), answer, *(_close(call, "the agent paused the recording") if refused else ())


def _announce(call: CallState) -> Orders:
    recording = call.agent.recording
    recording.announcing, recording.wanted, recording.said = True, True, False
    recording.count += 1
    note = do.Note("announcing", {"announcement": "not_heard", "attempt": recording.count})
    return note, do.AnnounceRecording(), *await_quiet(call)


def _close(call: CallState, trouble: str) -> Orders:
    """End the announcement; ``trouble`` says why it was not heard, empty when it was."""
    recording = call.agent.recording
    recording.announcing = False
    recording.heard = recording.runs = not trouble
    greet, recording.greet = recording.greet, None
    asked, recording.asked = recording.asked, False
    if trouble:
        orders: Orders = (do.Note("recording_withheld", {"detail": trouble}),)
        words = "The caller did not hear that the call is recorded, so nothing is recorded."
    else:
        orders = (do.StartRecording(), do.Note("announcement_heard", {"announcement": "heard"}))
        words = "The caller heard that the call is recorded. The recording runs."
    told = (do.TellAgent(words, respond=greet is None),) if asked else ()
    return (*orders, *told, *(() if greet is None else (greet,)))
