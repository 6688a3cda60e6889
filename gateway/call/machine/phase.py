"""Where a call stands, and the timers of the call as a whole."""

from __future__ import annotations

from enum import StrEnum

SETUP = "setup"
"""Timer: how long an agent may take to be ready, and a leg to have its media up."""

PATIENCE = "patience"
"""Timer: how long the caller rings at the least."""

RINGING = "ringing"
"""Timer: how long a call that we place may ring."""

MAX_LENGTH = "max_length"
"""Timer: the longest answered call, whoever speaks with the caller."""

HOLD = "hold"
"""Timer: the longest time on hold."""

ENDING = "ending"
"""Timer: how long the SIP side may take to say that its dialog is over."""

ENDING_LIMIT_S = 5.0


class Phase(StrEnum):
    """Where a call stands; the value is the ``state`` of the call's record."""

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
