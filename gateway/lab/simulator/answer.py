"""What the agent does in one response: the model behind scripts, and behind faults that change what is said."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from gateway.lab.simulator.wire.errors import error_event
from gateway.lab.speech import agent_sentences

Milliseconds = Annotated[int, Field(ge=0, le=3_600_000)]
Seconds = Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)]
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


class ScriptedCall(Part):
    """
    A function call.

    Attributes:
        call: name of the function.
        arguments: an object, or text that is sent unchanged, JSON or not.
        told: how the call is sent: by ``all`` events, up to the last of its ``deltas``, or in ``response.done`` alone.
    """

    call: str = Field(min_length=1)
    told: Literal["all", "deltas", "done"] = "all"
    arguments: dict[str, Any] | str = Field(default_factory=dict)

    @property
    def text(self) -> str:
        """The arguments as they go over the wire."""
        return self.arguments if isinstance(self.arguments, str) else json.dumps(self.arguments)


class ScriptedMcpCall(Part):
    """
    A call of an MCP server's tool, which the service makes by itself.

    Attributes:
        mcp: name of the tool.
        server: label of the server.
        arguments: of the call.
        ends: how.
        takes_s: how long it takes.
        early: it ends before its response does.
        goes_on: the service begins a response by itself then; otherwise the client has to ask for one.
        approval: the client is asked for its approval first.
    """

    mcp: str = Field(min_length=1)
    server: str = "manuals"
    arguments: dict[str, Any] = Field(default_factory=dict)
    ends: Literal["completed", "failed", "never"] = "completed"
    takes_s: Seconds = 0.3
    early: bool = False
    goes_on: bool = False
    approval: bool = False

    @property
    def text(self) -> str:
        """The arguments as they go over the wire."""
        return json.dumps(self.arguments)


class Incomplete(Part):
    """
    The response ends before it is complete.

    Attributes:
        after_s: speech before its end; None ends it half-way. Its calls come whole, but are not completed.
    """

    status: Literal["incomplete"]
    reason: Literal["max_output_tokens", "content_filter"] = "max_output_tokens"
    after_s: Seconds | None = None


class Failed(Part):
    """
    The response fails.

    Attributes:
        code: of the error; None is a null code.
        try_again_s: what the message of a rate limit states.
        told: ``error`` carries the error, ``no_error`` a null in its place, ``no_details`` nothing at all.
        after_s: speech before that; its calls come only where this is more than nothing.
    """

    status: Literal["failed"]
    code: str | None = "rate_limit_exceeded"
    try_again_s: float = Field(TRY_AGAIN_S, ge=0)
    told: Literal["error", "no_error", "no_details"] = "error"
    after_s: Seconds = 0.0

    def details(self) -> dict[str, Any] | None:
        """Return ``status_details``."""
        if self.told == "no_details":
            return None
        return {"type": "failed", "error": _error_of(self.code, self.try_again_s) if self.told == "error" else None}


class Cancelled(Part):
    """
    The service cancels its own response.

    Attributes:
        reason: None leaves ``status_details`` null.
        after_s: speech before that; its calls come only where this is more than nothing.
    """

    status: Literal["cancelled"]
    reason: Literal["turn_detected", "client_cancelled"] | None = None
    after_s: Seconds = 0.0


class Stalled(Part):
    """
    The response begins and never ends by itself.

    Attributes:
        after_s: speech before it stops.
        hears_cancel: it ends when it is cancelled; otherwise not even then.
    """

    status: Literal["stalled"]
    after_s: Seconds = 0.0
    hears_cancel: bool = True


class Denied(Part):
    """
    No response begins; an ``error`` event says so.

    Attributes:
        code: of the error; None is a null code.
        try_again_s: what the message of a rate limit states.
        names_event: the error carries the ``event_id`` of the ``response.create``.
    """

    status: Literal["denied"]
    code: str | None = None
    try_again_s: float = Field(TRY_AGAIN_S, ge=0)
    names_event: bool = True

    def event(self, event_id: str | None) -> dict[str, Any]:
        """Return the ``error`` event; ``event_id`` is that of the client's event, None where the client sent none."""
        error = _error_of(self.code, self.try_again_s)
        named = event_id if self.names_event else None
        return error_event(self.code, error["message"] or "", error_type=error["type"] or "", event_id=named)


class Unanswered(Part):
    """No response begins, and nothing says so."""

    status: Literal["ignored"]


class Crossed(Part):
    """
    The service begins a response by itself just as the client asks for one; what the client asked for is refused, late.

    Attributes:
        after_done: the refusal waits for the end of the service's response.
        late_s: and then so much longer.
        names_event: the error carries the ``event_id`` of the ``response.create``.
    """

    after_done: bool = False
    late_s: Seconds = 0.3
    names_event: bool = True


End = Incomplete | Failed | Cancelled | Stalled | Denied | Unanswered


def _error_of(code: str | None, try_again_s: float) -> dict[str, str | None]:
    kind, message = _FAILURES.get(code or "", _OTHER_FAILURE)
    return {"type": kind, "code": code, "message": message.format(try_again_s=try_again_s)}


def _kind_of_output(value: Any) -> str:
    for kind, model in (("call", ScriptedCall), ("mcp", ScriptedMcpCall)):
        if isinstance(value, model) or (isinstance(value, dict) and kind in value):
            return kind
    return "say"


Output = Annotated[
    Annotated[Say, Tag("say")] | Annotated[ScriptedCall, Tag("call")] | Annotated[ScriptedMcpCall, Tag("mcp")],
    Discriminator(_kind_of_output),
]


class ScriptedAnswer(Part):
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
        comes_as: what its messages are where speech is asked for: speech, ``text``, or a ``transcript`` without sound.
        interleave: the pieces of its messages come in turn, one of each; the first item is the last one done.
        backwards: its messages are announced last first.
        end: how it ends; None completes it.
        crossed: where the client asks for it, the service has begun it by itself already.
        faults: what goes wrong from its start on, each as for ``--fault``.
    """

    output: tuple[Output, ...] = (Say(),)
    overlap: bool = False
    think_ms: Milliseconds | None = None
    speed: float | None = Field(None, gt=0, allow_inf_nan=False)
    burst_ms: Milliseconds = 0
    late_deltas: int = Field(0, ge=0, le=100)
    late_after_done: bool = False
    comes_as: Literal["speech", "text", "transcript"] = "speech"
    interleave: bool = False
    backwards: bool = False
    end: Annotated[End, Field(discriminator="status")] | None = None
    crossed: Crossed | None = None
    faults: tuple[str, ...] = ()

    @property
    def calls(self) -> bool:
        """Whether it calls tools."""
        return any(not isinstance(part, Say) for part in self.output)
