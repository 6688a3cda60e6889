"""The vocabulary of debts: why speech is owed, what happened to it, what a profile wants done, what a call learns."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto
from typing import Literal

Remedy = Literal["apologize", "play", "reconnect", "give_up"]
"""What is done where asking again did not help."""


class Cause(StrEnum):
    """Why the agent owes speech."""

    GREETING = "greeting"
    PROMPT = "prompt"
    ANNOUNCEMENT = "announcement"
    TURN = "turn"
    TOOL = "tool"
    MESSAGE = "message"
    GOODBYE = "goodbye"


class Why(StrEnum):
    """What a response brought instead of speech."""

    FAILED = "failed"
    INCOMPLETE = "incomplete"
    EMPTY = "empty"
    WRITTEN = "text"
    CANCELLED = "cancelled"
    REFUSED = "refused"
    NOT_BEGUN = "not_begun"
    STALLED = "stalled"


class DebtStage(Enum):
    """How far the answer to a debt is."""

    PENDING = auto()
    DELAYED = auto()
    EXPECTED = auto()
    ASKED = auto()
    ANSWERING = auto()


OWN_WORDS = frozenset({Cause.GOODBYE, Cause.ANNOUNCEMENT, Cause.PROMPT})
"""What has to be said in its own words: no answer to the caller's turn takes its place."""


@dataclass(frozen=True, slots=True)
class Policy:
    """
    What a profile wants done about silence (``on_no_answer``).

    Attributes:
        limit_s: no speech for this long counts as no answer.
        retries: how often a response is asked for again.
        then: what follows when that did not help, each once, in this order.
        apology: what the agent is asked to say as an apology.
        sound: what ``play`` plays; empty: nothing.
    """

    limit_s: float = 5.0
    retries: int = 2
    then: tuple[Remedy, ...] = ("apologize", "reconnect", "give_up")
    apology: str = "Apologize in one short sentence and ask the caller to say it again."
    sound: str = ""


@dataclass(frozen=True, slots=True)
class Ask:
    """
    How one response is to differ from those that the session would give.

    Attributes:
        task: what to say in it; empty for what the conversation calls for.
        tools: it may call tools.
        alone: the task is all there is to know: the agent's own instructions do not count for it.
        aloud: it must be speech, because text came before.
    """

    task: str = ""
    tools: bool = True
    alone: bool = False
    aloud: bool = False


@dataclass(slots=True, eq=False)
class Debt:
    """
    Speech that is owed.

    Attributes:
        cause: why.
        ask: how the response is to be; None: as the session says.
        tries: how often it came to nothing.
        heard: a part of it was heard.
        remedied: a step of the policy was taken for it.
        hint: what the model is given before it is asked again.
    """

    cause: Cause
    ask: Ask | None = None
    stage: DebtStage = DebtStage.PENDING
    tries: int = 0
    busy: int = 0
    heard: bool = False
    remedied: bool = False
    hint: str = ""
    wanted: Ask | None = field(init=False)  # before an apology took its place

    def __post_init__(self) -> None:
        """Keep what was wanted first."""
        self.wanted = self.ask

    @property
    def is_due_once_more(self) -> bool:
        """Whether it has to be said once more when the caller cut it off."""
        return self.cause is Cause.ANNOUNCEMENT or (self.cause in OWN_WORDS and not self.heard)


@dataclass(frozen=True, slots=True)
class Wish:
    """A response to be asked for now under this id, behind the message ``hint`` if there is one."""

    event_id: str
    ask: Ask | None
    hint: str = ""


# What the call is to learn


@dataclass(frozen=True, slots=True)
class Missed:
    """A response came to nothing; ``then`` says what follows."""

    cause: Cause
    why: Why
    detail: str
    tries: int
    then: str


@dataclass(frozen=True, slots=True)
class Overdue:
    """The caller waits for longer than one should."""


@dataclass(frozen=True, slots=True)
class Came:
    """What was late can be heard now."""


@dataclass(frozen=True, slots=True)
class Said:
    """What had to be said in its own words was said whole."""

    cause: Cause


@dataclass(frozen=True, slots=True)
class Unsaid:
    """It was not, and is not tried again."""

    cause: Cause
    detail: str


@dataclass(frozen=True, slots=True)
class PlaySound:
    """A recorded apology takes the place of the agent's."""

    sound: str


@dataclass(frozen=True, slots=True)
class Renew:
    """The session answers no more: another is to take its place."""

    detail: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The agent is of no use to the caller any more."""

    detail: str


Move = Missed | Overdue | Came | Said | Unsaid | PlaySound | Renew | GiveUp
