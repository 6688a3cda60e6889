"""What stands in a call's history of the dialplan's steps."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.call.actions import Note
from gateway.call.steps import Announce, DialTo, Menu, Redirect, Refuse, Step, TalkTo


def told(step: Step, cause: str) -> Note:
    """Return what stands in the call's history of a step that is taken."""
    fields = {**_story(step), "detail": cause}
    return Note("step", {name: text for name, text in fields.items() if text})


def _story(step: Step) -> Mapping[str, str]:
    match step:
        case TalkTo(agent=agent):
            return {"action": "agent", "target": agent, "agent": agent}
        case Refuse(code=code, reason=reason):
            return {"action": "reject", "target": f"{code} {reason}".rstrip()}
        case Redirect(contacts=contacts):
            return {"action": "redirect", "target": ", ".join(contacts)}
        case DialTo(target=target):
            return {"action": "dial", "target": target}
        case Announce(sounds=sounds):
            return {"action": "announce", "target": ", ".join(sounds)}
        case Menu(sound=sound):
            return {"action": "menu", "target": sound}
        case _:
            return {"action": type(step).__name__}
