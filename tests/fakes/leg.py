"""A SIP leg that only remembers what it was told."""

from __future__ import annotations

from gateway.audio.tap import AudioTap
from gateway.call.actions import CallSecond
from gateway.call.events import EarlyMediaUp, LegClosed, MediaUp, SecondClosed
from gateway.call.ports import EmitEvent
from gateway.ids import CallId

CALL = CallId("call")


class FakeLeg:
    """
    Remembers its orders, e.g. ``[("ring",), ("answer",), ("hang_up", 503, "Agent lost")]``.

    Args:
        call_id: the call of the events it emits.
        obedient: answer at once with ``MediaUp``, ``LegClosed`` and ``SecondClosed`` through ``emit``; set ``emit``
            first.
    """

    def __init__(self, call_id: CallId = CALL, *, obedient: bool = False) -> None:
        self.call_id = call_id
        self.obedient = obedient
        self.emit: EmitEvent | None = None
        self.orders: list[tuple[object, ...]] = []
        self.raises: dict[str, Exception] = {}
        """Order name -> what it raises after it was remembered."""

    def ring(self) -> None:
        self._obey("ring")

    def progress(self) -> None:
        self._obey("progress")
        if self.obedient and self.emit is not None:
            self.emit(EarlyMediaUp(self.call_id, "PCMU/8000"))

    def answer(self) -> None:
        self._obey("answer")
        if self.obedient and self.emit is not None:
            self.emit(MediaUp(self.call_id, "PCMU/8000"))

    def hang_up(self, code: int, reason: str, contacts: tuple[str, ...] = (), cause: int = 0) -> None:
        self._obey("hang_up", code, reason, *([contacts] if contacts else []), *([cause] if cause else []))
        if self.obedient and self.emit is not None:
            self.emit(LegClosed(self.call_id, by_caller=False, code=code, reason=reason))

    def transfer(self, target: str) -> None:
        self._obey("transfer", target)

    def send_digits(self, digits: str) -> None:
        self._obey("send_digits", digits)

    def trace(self) -> None:
        self._obey("trace")

    def dial(self) -> None:
        self._obey("dial")

    def call_second(self, order: CallSecond) -> None:
        self._obey("call_second", order)

    def talk_to_second(self) -> None:
        self._obey("talk_to_second")

    def talk_to_caller(self) -> None:
        self._obey("talk_to_caller")

    def join(self) -> None:
        self._obey("join")

    def listen(self, tap: AudioTap | None) -> None:
        self._obey("listen", tap)

    def drop_second(self) -> None:
        self._obey("drop_second")
        if self.obedient and self.emit is not None:
            self.emit(SecondClosed(self.call_id, 200, "OK"))

    @property
    def hung_up(self) -> int | None:
        """The code of the first hang-up order, or None."""
        return next((int(str(order[1])) for order in self.orders if order[0] == "hang_up"), None)

    def _obey(self, name: str, *arguments: object) -> None:
        self.orders.append((name, *arguments))
        if name in self.raises:
            raise self.raises[name]
