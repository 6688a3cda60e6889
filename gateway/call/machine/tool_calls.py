"""
What the agent has others do: its own tools while they run, digits, and the filler that bridges a silence.

The filler is on as long as there is a reason for it: a slow tool, an agent that is away or owes an answer, the target
of a warm transfer that rings.
"""

from __future__ import annotations

from gateway.call import actions as do
from gateway.call import builtin_tools as tool
from gateway.call import events as ev
from gateway.call.machine.phase import FILLER
from gateway.call.machine.playback import fill
from gateway.call.machine.state import CallState, Orders, cancel_timer, start_timer


def is_new(call: CallState, tool_call_id: str) -> bool:
    """Return whether this tool call was not seen before, and remember it."""
    if tool_call_id in call.agent.tool_calls:
        return False
    call.agent.tool_calls.add(tool_call_id)
    return True


def tool_asked(call: CallState, event: ev.ToolAsked) -> Orders:
    """Run a tool of the profile's own."""
    if not is_new(call, event.tool_call_id):
        return ()
    run = do.RunTool(event.tool_call_id, event.name, event.arguments)
    return (run, *_began(call, event.tool_call_id))


def tool_finished(call: CallState, event: ev.ToolFinished) -> Orders:
    """Hand on what a tool found."""
    if event.tool_call_id not in call.agent.running:
        return ()
    answered = do.AnswerTool(event.tool_call_id, event.output, respond=not call.taken_over)
    return (answered, *_over(call, event.tool_call_id))


def mcp_call_began(call: CallState, event: ev.McpCallBegan) -> Orders:
    """Wait for a tool that the service runs, as for one of ours."""
    return _began(call, _of_mcp(event.item_id))


def mcp_call_ended(call: CallState, event: ev.McpCallEnded) -> Orders:
    """Wait no longer; the service hands on itself what was found."""
    return _over(call, _of_mcp(event.item_id))


def digits_asked(call: CallState, event: tool.DigitsAsked) -> Orders:
    """Send digits to the caller's side."""
    if not is_new(call, event.tool_call_id):
        return ()
    return do.SendDigits(event.digits), do.AnswerTool(event.tool_call_id, "sent")


def wait_asked(call: CallState, event: tool.WaitAsked) -> Orders:
    """Let the agent stay silent until it is spoken to."""
    if not is_new(call, event.tool_call_id):
        return ()
    return (do.AnswerTool(event.tool_call_id, "waiting", respond=False),)


def filler_fired(call: CallState, _event: ev.TimerFired) -> Orders:
    """Bridge the silence of a slow tool."""
    return settle_filler(call)


def answer_late(call: CallState, _event: ev.AnswerLate) -> Orders:
    """Bridge the silence of an agent that owes an answer, until it can be heard."""
    return _late(call, late=True)


def answer_came(call: CallState, _event: ev.AnswerCame) -> Orders:
    """Bridge it no longer."""
    return _late(call, late=False)


def apology_asked(call: CallState, event: ev.ApologyAsked) -> Orders:
    """Let the caller hear that the agent cannot answer; not a second leg, and not a caller on hold."""
    stopped = _late(call, late=False)
    elsewhere = call.leg.on_hold or call.with_second or call.taken_over
    return stopped if elsewhere else (*stopped, do.Play((event.sound,)))


def settle_filler(call: CallState) -> Orders:
    """Let the caller hear the filler while there is a reason for it."""
    waits = call.calls_warm or (call.summoning and call.agent.lost is not None)
    silent = call.agent.away or call.agent.late or _slow(call)
    return fill(call, on=(waits or silent) and not call.taken_over)


def _late(call: CallState, *, late: bool) -> Orders:
    call.agent.late = late
    return settle_filler(call)


def _slow(call: CallState) -> bool:
    """Return whether a tool has run for longer than it may in silence."""
    bridged = call.agent.routed.tool_filler_after_s is not None
    return bridged and bool(call.agent.running) and FILLER not in call.timers


def _began(call: CallState, running: str) -> Orders:
    first = not call.agent.running
    call.agent.running.add(running)
    after_s = call.agent.routed.tool_filler_after_s
    return start_timer(call, FILLER, after_s) if first and after_s is not None else ()


def _over(call: CallState, running: str) -> Orders:
    call.agent.running.discard(running)
    return () if call.agent.running else (*cancel_timer(call, FILLER), *settle_filler(call))


def _of_mcp(item_id: str) -> str:
    """Return an id that no tool call has."""
    return f"mcp {item_id}"
