"""What the agents of one call used, and what that cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from gateway.call.ports import Price, Scalar


class Bill:
    """Adds up the tokens of one call, each agent's at its own price."""

    def __init__(self) -> None:
        self._agents: list[tuple[Price, Counter[str]]] = []

    def change_price(self, price: Price) -> None:
        """Count for another agent from now on."""
        self._agents.append((price, Counter()))

    def add(self, used: Mapping[str, Scalar]) -> None:
        """Count tokens and seconds, by kind."""
        if self._agents:
            self._agents[-1][1].update({kind: n for kind, n in used.items() if isinstance(n, int | float)})

    def total(self) -> dict[str, Scalar]:
        """
        Return the tokens of the whole call and their estimated cost, named as in the record.

        Nothing when none were used; no cost where one of the prices is not known.
        """
        used = sum((each for _, each in self._agents), Counter[str]())
        if not used:
            return {}
        tokens: dict[str, Scalar] = {
            "tokens_in": int(used["text_in"] + used["audio_in"]),
            "tokens_out": int(used["text_out"] + used["audio_out"]),
        }
        costs = [price(each) for price, each in self._agents if each]
        known = [cost for cost in costs if cost is not None]
        return tokens if len(known) < len(costs) else tokens | {"cost_usd": round(sum(known), 6)}
