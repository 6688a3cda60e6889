"""What people write in a dialplan: agents (how a voice behaves) and routes (who answers which call)."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Voice = Literal["alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse", "marin", "cedar"]
Text = Annotated[str, Field(min_length=1, max_length=32_000)]


class Part(BaseModel):
    """A part of a dialplan: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TurnDetection(Part):
    """When the model thinks the caller's turn is over (Realtime API, ``server_vad``)."""

    threshold: float = Field(0.5, ge=0, le=1, description="higher needs louder speech")
    prefix_padding_ms: int = Field(300, ge=0, le=5000, description="audio kept from before the speech began")
    silence_duration_ms: int = Field(500, ge=50, le=10_000, description="silence that ends a turn")
    interrupt_response: bool = Field(True, description="speech of the caller cuts the agent off")


class AgentProfile(Part):
    """How one voice agent behaves."""

    model: str = Field("gpt-realtime-2.1", min_length=1, description="model of the Realtime API")
    instructions: Text = Field(description="who the agent is and what it should do")
    greeting: Text | None = Field(None, description="what the agent says first; none lets the caller speak first")
    voice: Voice = Field("marin", description="voice of the agent")
    language: str | None = Field(
        None, pattern=r"^[a-z]{2}$", description="language of the caller, ISO 639-1, helps the transcript"
    )
    transcription: str | None = Field(
        "gpt-realtime-whisper", description="model that writes down what the caller says; null writes nothing"
    )
    turn_detection: TurnDetection = TurnDetection()


class Rule(Part):
    """One route: the first whose conditions hold answers the call."""

    name: str = Field(min_length=1, max_length=64, description="shown in logs and in the call's record")
    called: str | None = Field(None, min_length=1, description="user part of the called address; none is any")
    agent: str = Field(description="name of the agent that answers")


class Dialplan(Part):
    """A whole dialplan."""

    agents: dict[str, AgentProfile] = Field(min_length=1, description="the agents by name")
    routes: tuple[Rule, ...] = Field(min_length=1, description="in order, first match wins")

    @model_validator(mode="after")
    def _agents_exist(self) -> Self:
        for rule in self.routes:
            if rule.agent not in self.agents:
                raise ValueError(
                    f"route {rule.name!r} names the agent {rule.agent!r}; there is {', '.join(map(repr, self.agents))}"
                )
        return self
