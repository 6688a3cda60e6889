"""The phases of a call, the stages inside them, and the timers that may run."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Phase(StrEnum):
    """Where a call is; the value is the ``state`` of the call's record."""

    ROUTING = "routing"
    ATTENDING = "attending"
    RINGING = "ringing"
    ANSWERING = "answering"
    PREPARING = "preparing"
    DIALING = "dialing"
    WAITING = "waiting"
    ACTIVE = "active"
    JOINED = "joined"
    ENDING = "ending"
    ENDED = "ended"


class CallStage(StrEnum):
    """What the call waits for inside the phases ``attending`` and ``active``."""

    NONE = "none"
    CHOOSING = "choosing"
    """A step names an agent, which is being made."""

    # Steps of a dialplan.
    EARLY = "early"
    """The caller is to hear us before the answer."""
    MEDIA = "media"
    """The answered call is to have audio."""
    PLAYING = "playing"
    """Sounds are to be heard to their end."""
    KEY = "key"
    """A menu waits for a key."""
    FREEING = "freeing"
    """The second leg before is to be over."""

    # Both.
    CALLING = "calling"
    """A second leg is being called."""
    REFERRED = "referred"
    """REFER went out, its end is not known."""

    # Conversations with an agent.
    LAST_WORDS = "last_words"
    """The agent's words are to be heard, then the caller is transferred."""
    BRIEFING = "briefing"
    """The agent speaks with the target of a warm transfer."""
    GOODBYE = "goodbye"
    """The agent's words are to be heard, then the call ends."""
    SUMMONING = "summoning"
    """A person who is to take the call over is being called; caller and agent talk meanwhile."""
    TAKEN_OVER = "taken_over"
    """That person talks with the caller; the agent neither hears nor speaks."""


SETUP: Final = "setup"
"""Timer: how long an agent may take to be ready, and a leg to have its media up."""

PATIENCE: Final = "patience"
"""Timer: the shortest time for which the caller hears ringing."""

RINGING: Final = "ringing"
"""Timer: how long a call that we place may ring."""

MAX_LENGTH: Final = "max_length"
"""Timer: the longest answered call, with or without an agent."""

HOLD: Final = "hold"
"""Timer: the longest time on hold."""

ENDING: Final = "ending"
"""Timer: how long the SIP side may take to say that its dialog is over."""

MENU: Final = "menu"
"""Timer: how long a menu waits for a key."""

SECOND: Final = "second"
"""Timer: how long a second leg may ring."""

TRANSFER: Final = "transfer"
"""Timer: how long the far end may take to say what became of a REFER."""

BRIEFING: Final = "briefing"
"""Timer: how long the person who answered the second leg may take to accept the call."""

GOODBYE: Final = "goodbye"
"""Timer: how long the agent's last words may take."""

GUARD: Final = "guard"
"""Timer: how long the caller's speech may still turn out to be a cough."""

KEYS: Final = "keys"
"""Timer: the pause that ends a number."""

FILLER: Final = "filler"
"""Timer: how long a tool may run in silence."""

OF_THE_CALL: Final = frozenset({MAX_LENGTH, HOLD})
"""Timers that keep running through steps and agents; all others belong to the phase or stage that started them."""

ENDING_LIMIT_S: Final = 5.0
TRANSFER_LIMIT_S: Final = 30.0
BRIEFING_LIMIT_S: Final = 60.0
MESSAGE_LIMIT_S: Final = 120.0
"""The longest message that is left in a voicemail: the voicemail itself would not take much more."""
