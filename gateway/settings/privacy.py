"""What of the people in a call is written down."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pydantic import Field

from gateway.privacy import PrivacyMode, shortener_for, strictest
from gateway.settings.section import Section


class PrivacySettings(Section):
    """What is kept of calls: everything, numbers without their last digits, or counts alone; see docs/privacy.md."""

    mode: PrivacyMode = Field("full", description="what is kept of calls: full, shortened (numbers), or counts alone")
    routes: Mapping[str, PrivacyMode] = Field({}, description="another mode for routes: name -> mode")

    def of_route(self, route: str) -> PrivacyMode:
        """Return the mode of a route's calls; ``route`` is empty for calls without one."""
        return self.routes.get(route, self.mode)

    @property
    def strictest(self) -> PrivacyMode:
        """The mode for what cannot be told apart by routes: the log and SIP traces."""
        return strictest((self.mode, *self.routes.values()))

    @property
    def in_log(self) -> Callable[[str], str] | None:
        """What takes people out of the log's texts; None where they may stay."""
        shortener = shortener_for(self.strictest)
        return None if shortener is None else shortener.text
