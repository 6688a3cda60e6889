"""An answer as it is given: its items, their pieces, and the pace at which they are sent."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from gateway.lab.simulator.answer import Answer, Call, Failed, Incomplete, Say
from gateway.lab.simulator.options import SimulatorOptions
from gateway.lab.simulator.output import CallOutput, MessageOutput, Output
from gateway.lab.simulator.response import Response
from gateway.lab.simulator.speech import Delta, Utterance
from gateway.lab.simulator.usage import AGENT_TOKEN_MS

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
    """

    def __init__(
        self, response: Response, answer: Answer, options: SimulatorOptions, utterance: Callable[[Say], Utterance]
    ) -> None:
        self._response = response
        self._answer = answer
        self._options = options
        self._speaks = response.plan.modality == "audio"
        self._utterances = [utterance(part) if isinstance(part, Say) else None for part in answer.output]
        self._deltas_left, self._reason = self._allowance()
        self._speed = options.speed if answer.speed is None else answer.speed
        self._message: MessageOutput | None = None
        self._rest: Iterator[Delta] = iter(())
        if answer.late_deltas:
            response.stragglers = self._straggle
            response.late_after_done = answer.late_after_done

    async def run(self) -> None:
        """Give the answer; returns early once the response was cancelled."""
        answer = self._answer
        await asyncio.sleep((self._options.think_ms if answer.think_ms is None else answer.think_ms) / 1000)
        if isinstance(answer.end, Failed):
            self._response.finish("failed", error=answer.end.error())
            return
        self._clock = asyncio.get_running_loop().time()
        self._burst_ms = 0.0
        behind: Output | None = None
        for index, part in enumerate(answer.output):
            if not self._response.active:
                return
            if behind is not None and not answer.overlap:
                behind.close("completed")
                behind = None
            if isinstance(part, Call):
                output: Output = self._call(part, behind)
            else:
                output = message = self._response.open_message(self._phase(index))
                spoken = self._utterances[index]
                if spoken is None or not await self._say(message, spoken, behind):
                    return
            behind = output
        if isinstance(answer.end, Incomplete):
            self._response.finish("incomplete", reason=answer.end.reason)
        else:
            self._response.finish("completed")

    def _phase(self, index: int) -> str:
        last = max((each for each, part in enumerate(self._answer.output) if isinstance(part, Say)), default=index)
        calls = any(isinstance(part, Call) for part in self._answer.output)
        return "final_answer" if index == last and not calls else "commentary"

    def _call(self, part: Call, behind: Output | None) -> CallOutput:
        call = self._response.open_call(part.call)
        step = math.ceil(len(part.text) / ARGUMENT_PIECES) or 1
        for start in range(0, len(part.text), step):
            call.send_arguments(part.text[start : start + step])
        if behind is not None:
            behind.close("completed")
        return call

    async def _say(self, message: MessageOutput, utterance: Utterance, behind: Output | None) -> bool:
        """Say one message; return False where the response ended with it."""
        self._message, self._rest = message, iter(utterance.deltas)
        words, total = _pieces(utterance.text), len(utterance.deltas)
        said = 0
        for number, delta in enumerate(self._rest):
            if not self._deltas_left:
                self._response.finish("incomplete", reason=self._reason)
                return False
            self._deltas_left -= 1
            due = math.ceil(len(words) * min(number + TRANSCRIPT_LEAD, total) / total)
            for piece in words[said:due]:
                message.send_text(piece)
            said = max(said, due)
            if self._speaks:
                message.send_audio(delta.encoded, delta.audio)
            if behind is not None:
                behind.close("completed")
            await self._wait()
            if not self._response.active:
                return False
        return True

    async def _wait(self) -> None:
        """Wait until the next delta is due."""
        self._clock += self._options.delta_ms / 1000 / self._speed
        self._burst_ms += self._options.delta_ms
        if self._burst_ms >= self._answer.burst_ms:
            self._burst_ms = 0.0
            await asyncio.sleep(self._clock - asyncio.get_running_loop().time())

    def _allowance(self) -> tuple[int, str]:
        """Return how many deltas may be sent, and why no more."""
        total = sum(len(each.deltas) for each in self._utterances if each is not None)
        if isinstance(self._answer.end, Incomplete) and total > 1:
            return total // 2, self._answer.end.reason
        tokens = self._response.plan.max_output_tokens
        if isinstance(tokens, str):
            return total, ""
        return max(1, tokens * AGENT_TOKEN_MS // self._options.delta_ms), "max_output_tokens"

    def _straggle(self) -> None:
        """Send what was on its way when the response was cancelled."""
        if self._message is not None and self._speaks:
            for delta in islice(self._rest, self._answer.late_deltas):
                self._message.send_audio(delta.encoded, delta.audio)


def _pieces(text: str) -> Sequence[str]:
    words = text.split(" ")
    return [words[0], *(f" {word}" for word in words[1:])]
