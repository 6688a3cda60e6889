"""When a session ends by its age, and what is done before: a roll-over to a new one, or a goodbye."""

from __future__ import annotations

from dataclasses import dataclass

SHORTEST_PART = 0.5
"""A session that lives only briefly is not replaced, and no goodbye is said, before so much of its life is over."""


@dataclass(frozen=True, slots=True)
class Expiry:
    """
    Moments in the life of one session, on one monotonic scale, in seconds.

    Attributes:
        roll_over_at: from now on a new session is wanted.
        hurry_at: from now on any pause of both sides will do.
        goodbye_at: without a new one the agent says goodbye now.
        ends_at: the service ends the session.
    """

    roll_over_at: float
    hurry_at: float
    goodbye_at: float
    ends_at: float

    @classmethod
    def of(
        cls,
        expires_at: float | None,
        *,
        longest_s: float,
        unix_s: float,
        monotonic_s: float,
        roll_over_before_s: float,
        goodbye_s: float,
    ) -> Expiry | None:
        """
        Plan the end of a session.

        Args:
            expires_at: as the service said, Unix seconds of its clock; None or 0 is a session without an end.
            longest_s: no session lives longer; assumed when the clocks of both sides disagree.
            unix_s: our clock when the service said so.
            monotonic_s: the same moment on the scale of the result.
            roll_over_before_s: how long before the end a new session is wanted.
            goodbye_s: how long before the end the goodbye is said.
        """
        if not expires_at:
            return None
        left_s = expires_at - unix_s
        if not 0 < left_s <= longest_s:
            left_s = longest_s
        earliest = monotonic_s + SHORTEST_PART * left_s
        ends_at = monotonic_s + left_s
        goodbye_at = max(earliest, ends_at - goodbye_s)
        roll_over_at = min(goodbye_at, max(earliest, ends_at - roll_over_before_s))
        return cls(roll_over_at, (roll_over_at + goodbye_at) / 2, goodbye_at, ends_at)
