"""An answer as it is given: its items, their pieces, and the pace at which they are sent."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine, Sequence
from itertools import islice, zip_longest
from typing import Any

from gateway.lab.simulator.agent.mcp import McpTools
from gateway.lab.simulator.agent.output import MessageOutput, Output
from gateway.lab.simulator.agent.response import SimulatedResponse
from gateway.lab.simulator.agent.speech import Utterance
from gateway.lab.simulator.answer import (
    Cancelled,
    End,
    Failed,
    Incomplete,
    Say,
    ScriptedAnswer,
    ScriptedCall,
    ScriptedMcpCall,
    Stalled,
)
from gateway.lab.simulator.options import SimulatorOptions
from gateway.lab.simulator.wire.usage import AGENT_TOKEN_MS

TRANSCRIPT_LEAD = 2  # deltas by which the transcript is ahead of the audio
ARGUMENT_PIECES = 3


class Performance:
    """
    Gives one answer through one response, and ends it.

    Args:
        response: fresh, no item announced.
        answer: what to do.
        options: think time, length of a delta, speed.
        utterance: finds the speech of a ``Say`` in the response's format.
        mcp: runs calls of MCP tools.
        spawn: runs a coroutine beside the session.
    """

    def __init__(
        self,
        response: SimulatedResponse,
        answer: ScriptedAnswer,
        options: SimulatorOptions,
        utterance: Callable[[Say], Utterance],
        *,
        mcp: McpTools,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._response = response
        self._answer = answer
        self._options = options
        self._mcp = mcp
        self._spawn = spawn
        self._sounds = response.plan.modality == "audio" and answer.comes_as == "speech"
        self._utterances = [utterance(part) if isinstance(part, Say) else None for part in answer.output]
        self._deltas_left, self._end = self._allowance()
        self._speed = options.speed if answer.speed is None else answer.speed
        self._speech: _Speech | None = None
        if answer.late_deltas:
            response.stragglers = self._straggle
            response.late_after_done = answer.late_after_done
        response.hears_cancel = not isinstance(answer.end, Stalled) or answer.end.hears_cancel

    async def run(self) -> None:
        """Give the answer; returns early once the response was cancelled."""
        answer = self._answer
        await asyncio.sleep((self._options.think_ms if answer.think_ms is None else answer.think_ms) / 1000)
        self._clock = asyncio.get_running_loop().time()
        self._burst_ms = 0.0
        if self._comes_to_nothing():
            self._finish()
        elif answer.interleave or answer.backwards:
            await self._give_together()
        else:
            await self._give_in_turn()

    async def _give_in_turn(self) -> None:
        """Give each item when the one in front of it was given."""
        behind: Output | None = None
        for index, part in enumerate(self._answer.output):
            if not self._response.active:
                return
            if behind is not None and not self._answer.overlap:
                behind.close("completed")
                behind = None
            spoken = self._utterances[index]
            if not isinstance(part, Say):
                output: Output = await self._call(part, behind)
            elif spoken is None:
                return
            else:
                output = message = self._open(index)
                if not await self._say(_Speech(message, spoken, sounds=self._sounds), behind):
                    return
            behind = output
        self._finish()

    async def _give_together(self) -> None:
        """Announce all messages, give their pieces in turn or one message after the other, then the calls."""
        places = [index for index, part in enumerate(self._answer.output) if isinstance(part, Say)]
        announced = {index: self._open(index) for index in (reversed(places) if self._answer.backwards else places)}
        speeches = []
        for index in places:
            spoken = self._utterances[index]
            if spoken is not None:
                speeches.append(_Speech(announced[index], spoken, sounds=self._sounds))
        if self._answer.interleave:
            rounds = zip_longest(*([each] * len(each.utterance.deltas) for each in speeches))
            order = [speech for one_round in rounds for speech in one_round if speech is not None]
        else:
            order = [speech for speech in speeches for _ in speech.utterance.deltas]
        for speech in order:
            if not await self._step(speech):
                return
        for part in self._answer.output:
            if not isinstance(part, Say):
                await self._call(part, None)
        self._finish()

    def _open(self, index: int) -> MessageOutput:
        return self._response.open_message(self._phase(index), index=index, as_text=self._answer.comes_as == "text")

    def _phase(self, index: int) -> str:
        last = max((each for each, part in enumerate(self._answer.output) if isinstance(part, Say)), default=index)
        return "final_answer" if index == last and not self._answer.calls else "commentary"

    async def _call(self, part: ScriptedCall | ScriptedMcpCall, behind: Output | None) -> Output:
        if isinstance(part, ScriptedMcpCall):
            return await self._call_mcp(part, behind)
        call = self._response.open_call(part.call, part.told)
        step = math.ceil(len(part.text) / ARGUMENT_PIECES) or 1
        for start in range(0, len(part.text), step):
            call.send_arguments(part.text[start : start + step])
        if behind is not None:
            behind.close("completed")
        return call

    async def _call_mcp(self, part: ScriptedMcpCall, behind: Output | None) -> Output:
        output = self._response.open_mcp(part)
        if behind is not None:
            behind.close("completed")
        if part.early:
            await self._mcp.run(output)
        else:
            self._spawn(self._mcp.run(output))
        return output

    async def _say(self, speech: _Speech, behind: Output | None) -> bool:
        """Say one message; return False where the response ended with it."""
        for number in range(len(speech.utterance.deltas)):
            if not await self._step(speech, behind if number == 0 else None):
                return False
        return True

    async def _step(self, speech: _Speech, behind: Output | None = None) -> bool:
        """Send the next piece and wait until it is over; return False where the response ended."""
        self._speech = speech
        if not self._deltas_left:
            self._finish()
            return False
        self._deltas_left -= 1
        speech.send_next()
        if behind is not None:
            behind.close("completed")
        await self._wait()
        return self._response.active

    async def _wait(self) -> None:
        """Wait until the next delta is due."""
        self._clock += self._options.delta_ms / 1000 / self._speed
        self._burst_ms += self._options.delta_ms
        if self._burst_ms >= self._answer.burst_ms:
            self._burst_ms = 0.0
            await asyncio.sleep(self._clock - asyncio.get_running_loop().time())

    def _allowance(self) -> tuple[int, End | None]:
        """Return how many deltas may be sent, and how the response ends when they are, or when all is given."""
        total = sum(len(each.deltas) for each in self._utterances if each is not None)
        match self._answer.end:
            case Incomplete(after_s=None) as end:
                return (total // 2 if total > 1 else total), end
            case (Incomplete() | Failed() | Cancelled() | Stalled()) as end:
                return math.ceil((end.after_s or 0) * 1000 / self._options.delta_ms), end
        tokens = self._response.plan.max_output_tokens
        if isinstance(tokens, int):
            allowed = max(1, tokens * AGENT_TOKEN_MS // self._options.delta_ms)
            if allowed < total:
                return allowed, Incomplete(status="incomplete")
        return total, None

    def _comes_to_nothing(self) -> bool:
        """Return whether it ends before its first item."""
        return isinstance(self._end, Incomplete | Failed | Cancelled | Stalled) and self._end.after_s == 0

    def _finish(self) -> None:
        match self._end:
            case Incomplete(reason=reason):
                self._response.finish("incomplete", {"type": "incomplete", "reason": reason})
            case Failed() as end:
                self._response.finish("failed", end.details())
            case Cancelled(reason=reason):
                self._response.finish("cancelled", {"type": "cancelled", "reason": reason} if reason else None)
            case Stalled():
                pass
            case _:
                self._response.finish("completed")

    def _straggle(self) -> None:
        """Send what was on its way when the response was cancelled."""
        if self._speech is not None:
            self._speech.send_sound(self._answer.late_deltas)


class _Speech:
    """A message as it is said, piece by piece, the transcript ahead of the sound."""

    def __init__(self, message: MessageOutput, utterance: Utterance, *, sounds: bool) -> None:
        self.utterance = utterance
        self._message = message
        self._sounds = sounds
        self._words = _pieces(utterance.text)
        self._rest = iter(utterance.deltas)
        self._number = self._said = 0

    def send_next(self) -> None:
        """Send the next delta of sound, and the words due with it."""
        self._number += 1
        total = len(self.utterance.deltas)
        due = math.ceil(len(self._words) * min(self._number - 1 + TRANSCRIPT_LEAD, total) / total)
        for piece in self._words[self._said : due]:
            self._message.send_text(piece)
        self._said = max(self._said, due)
        self.send_sound(1)

    def send_sound(self, deltas: int) -> None:
        """Send sound alone."""
        for delta in islice(self._rest, deltas):
            if self._sounds:
                self._message.send_audio(delta.encoded, delta.audio)


def _pieces(text: str) -> Sequence[str]:
    words = text.split(" ")
    return [words[0], *(f" {word}" for word in words[1:])]
