"""The discipline of responses: one asked for at a time, one more waiting, and which of them are over."""

from __future__ import annotations

from gateway.realtime.wire_client import ResponseCreate, ResponseOverrides

MAX_ENDED_RESPONSES = 32
"""Ended responses whose late audio is still known to be late."""

BUSY = "conversation_already_has_active_response"


class Responses:
    """
    The responses of one session.

    Attributes:
        active_id: the response that is being generated; None when none is.
    """

    def __init__(self) -> None:
        self.active_id: str | None = None
        self._ended: dict[str, None] = {}
        self._asked: ResponseCreate | None = None  # the last response.create sent
        self._asked_open = False  # it was sent and nothing came of it yet
        self._began_asked = False  # the active response is the one that was asked for
        self._wanted: ResponseCreate | None = None  # to be sent once no response is active
        self._unwanted = False  # the response that was asked for is to be cancelled as soon as it begins
        self._retried = False  # the last response that failed was asked for again
        self._retry_due = False
        self._count = 0

    @property
    def busy(self) -> bool:
        """Whether a response is wanted, asked for, being generated, or to be asked for again soon."""
        waits = self._wanted is not None or self._asked_open
        return waits or self.active_id is not None or self._retry_due

    @property
    def answered(self) -> ResponseCreate | None:
        """What the response that began last was asked for with; None for one that began by itself."""
        return self._asked if self._began_asked else None

    @property
    def owed(self) -> ResponseCreate | None:
        """What a new session would have to ask for: a wish of which nothing was heard yet."""
        return self._wanted or (self._asked if self._asked_open else None)

    def want(self, overrides: ResponseOverrides | None = None) -> None:
        """Ask for a response as soon as none is active. The newest wish stands, but a plain one gives way."""
        if overrides is None and self._wanted is not None:
            return
        self._count += 1
        event_id = f"respond-{self._count}"
        if overrides is None:
            self._wanted = ResponseCreate(event_id=event_id)
        else:
            self._wanted = ResponseCreate(event_id=event_id, response=overrides)

    def dismiss(self) -> None:
        """A response that was asked for and has not begun is not wanted any more."""
        self._unwanted = self._asked_open

    def next(self) -> ResponseCreate | None:
        """Return what may be sent now; it counts as sent."""
        if self._wanted is None or self._asked_open or self.active_id is not None:
            return None
        create, self._wanted = self._wanted, None
        self._asked, self._asked_open = create, True
        return create

    def began(self, response_id: str) -> bool:
        """Take note of ``response.created``; return whether it is to be cancelled at once."""
        self._began_asked = self._asked_open
        self.active_id = response_id
        unwanted, self._unwanted = self._unwanted, False
        self._asked_open = self._retry_due = False
        return unwanted

    def ended(self, response_id: str) -> None:
        """Take note of ``response.done``; the next may be sent."""
        self._stale(response_id)
        if self.active_id not in (None, response_id):
            return
        if self.active_id is None:  # it failed before it was announced
            self._began_asked = self._asked_open
        self.active_id = None
        self._asked_open = False

    def succeeded(self) -> None:
        """Take note that a response did not fail: the next that does may be tried again."""
        self._retried = False

    def may_retry(self) -> bool:
        """Return, once in a row of failures, that the response that just failed may be asked for again."""
        if self._retried:
            return False
        self._retried = self._retry_due = True
        return True

    def retry(self, *, wanted: bool) -> None:
        """Ask again for the response that failed, if it is still ``wanted`` and nothing else goes on."""
        due, self._retry_due = self._retry_due, False
        if not due or not wanted or self.busy:
            return
        if self._began_asked:
            self._wanted = self._asked
        else:
            self.want()

    def give_up(self, *response_ids: str) -> None:
        """What still comes of these responses, and of the active one, is stale."""
        for response_id in response_ids:
            self._stale(response_id)
        if self.active_id is not None:
            self._stale(self.active_id)

    def _stale(self, response_id: str) -> None:
        self._ended[response_id] = None
        if len(self._ended) > MAX_ENDED_RESPONSES:
            del self._ended[next(iter(self._ended))]

    def is_over(self, response_id: str | None) -> bool:
        """Whether what comes of this response is stale."""
        return response_id in self._ended

    def refused(self, event_id: str | None, code: str | None) -> None:
        """Take note of an error about the response asked for last; one that came at the wrong moment waits."""
        if self._asked is None or event_id != self._asked.event_id:
            return
        self._asked_open = False
        if code == BUSY:  # the server began a response of its own at the same moment
            self._wanted = self._wanted or self._asked
