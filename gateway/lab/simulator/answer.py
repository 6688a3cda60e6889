"""What the agent does in one response: the model behind scripts, and behind faults that change what is said."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from gateway.lab.speech import agent_sentences

Milliseconds = Annotated[int, Field(ge=0, le=3_600_000)]
TRY_AGAIN_S = 1.5
_FAILURES = {
    "rate_limit_exceeded": ("rate_limit_error", "Rate limit reached. Please try again in {try_again_s:g}s."),
    "insufficient_quota": ("insufficient_quota", "You exceeded your current quota; check your plan and billing."),
}
_OTHER_FAILURE = ("server_error", "The server had an error while processing your request.")


class Part(BaseModel):
    """A piece of a script: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Say(Part):
    """
    Speech, or text where the session asks for text.

    Attributes:
        say: the words of the transcript; the sound is one of the sentences that ship.
        sentence: number of the shipped sentence that sounds (0 is the greeting); without it, the next in turn.
        for_s: how long it sounds, the sentence cut or repeated; without it, as long as it is.
    """

    say: str | None = Field(None, min_length=1)
    sentence: int | None = Field(None, ge=0, lt=len(agent_sentences()))
    for_s: float | None = Field(None, gt=0, le=600, allow_inf_nan=False)


class Call(Part):
    """
    A function call.

    Attributes:
        call: name of the function.
        arguments: an object, or text that is sent as it stands, JSON or not.
    """

    call: str = Field(min_length=1)
    arguments: dict[str, Any] | str = Field(default_factory=dict)

    @property
    def text(self) -> str:
        """The arguments as they go over the wire."""
        return self.arguments if isinstance(self.arguments, str) else json.dumps(self.arguments)


class Incomplete(Part):
    """The response ends half-way."""

    status: Literal["incomplete"]
    reason: Literal["max_output_tokens", "content_filter"] = "max_output_tokens"


class Failed(Part):
    """The response fails before it says anything."""

    status: Literal["failed"]
    code: str = "rate_limit_exceeded"
    try_again_s: float = Field(TRY_AGAIN_S, ge=0)

    def error(self) -> dict[str, str]:
        """Return the error of ``status_details``."""
        kind, message = _FAILURES.get(self.code, _OTHER_FAILURE)
        return {"type": kind, "code": self.code, "message": message.format(try_again_s=self.try_again_s)}


def _kind_of_output(value: Any) -> str:
    return "call" if isinstance(value, Call) or (isinstance(value, dict) and "call" in value) else "say"


Output = Annotated[Annotated[Say, Tag("say")] | Annotated[Call, Tag("call")], Discriminator(_kind_of_output)]


class Answer(Part):
    """
    One response.

    Attributes:
        output: its items, in order.
        overlap: each item begins before the one in front of it is done, as gpt-realtime-2.1 does.
        think_ms: from ``response.created`` to the first item; None takes the simulator's.
        speed: seconds of speech sent per second; None takes the simulator's.
        burst_ms: speech sent in one go, with a pause of its length behind; 0 sends each delta when it is due.
        late_deltas: audio deltas that still come when the response has been cancelled.
        late_after_done: they come behind ``response.done`` instead of before it.
        end: how it ends; None completes it.
        faults: what goes wrong from its start on, each as for ``--fault``.
    """

    output: tuple[Output, ...] = (Say(),)
    overlap: bool = False
    think_ms: Milliseconds | None = None
    speed: float | None = Field(None, gt=0, allow_inf_nan=False)
    burst_ms: Milliseconds = 0
    late_deltas: int = Field(0, ge=0, le=100)
    late_after_done: bool = False
    end: Annotated[Incomplete | Failed, Field(discriminator="status")] | None = None
    faults: tuple[str, ...] = ()
