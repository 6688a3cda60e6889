"""The function calls of a session: which are known, and which still wait for their output."""

from __future__ import annotations

from gateway.lab.simulator.conversation.items import SimulatedConversation
from gateway.lab.simulator.wire.schema import ClientMistake


class FunctionCalls:
    """
    Follows calls from the model to the client and their outputs back.

    Args:
        conversation: holds the calls.
    """

    def __init__(self, conversation: SimulatedConversation) -> None:
        self._conversation = conversation
        self._answered: set[str] = set()
        self._waiting: dict[str, str] = {}
        self._has_news = False

    def expect(self, call_id: str, name: str) -> None:
        """A call was completed: it must be answered before the client asks for the next response."""
        if call_id not in self._answered:
            self._waiting[call_id] = name

    def answer(self, call_id: str) -> str | None:
        """
        Take a call's output.

        Returns:
            What is odd about it, or None.

        Raises:
            ClientMistake: no such call in the conversation.
        """
        if not self._conversation.has_call(call_id):
            message = f"Tool call ID '{call_id}' not found in conversation."
            raise ClientMistake("invalid_tool_call_id", message, "item.call_id")
        self._waiting.pop(call_id, None)
        if call_id in self._answered:
            return f"function call {call_id} answered twice"
        self._answered.add(call_id)
        return None

    def message_came(self) -> None:
        """The client put a message in: a response about that need not wait for the calls."""
        self._has_news = True

    def take_unanswered(self) -> list[str]:
        """Return the names of the calls a response should have waited for, and forget that they wait."""
        has_news, self._has_news = self._has_news, False
        if has_news:
            return []
        names = list(self._waiting.values())
        self._waiting.clear()
        return names
