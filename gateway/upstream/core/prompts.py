"""From an agent's profile to what it is asked to say on its own account, and to what is done when it says nothing."""

from __future__ import annotations

from gateway.dialplan.model.agent import AgentProfile
from gateway.upstream.core.debts import Ask, Policy

RESUMED = (
    "The connection was interrupted for a moment and is back. What stands above was said before; "
    "the caller may not have heard your last words to the end, nor you theirs. Go on from there. Do not greet again."
)
"""What the agent is told after a loss, as a message of the gateway's."""


def greeting(profile: AgentProfile, text: str = "") -> Ask | None:
    """
    Return the agent's greeting; None when the caller is to speak first.

    ``text``, if there is one, is read out in place of the greeting.
    """
    if not text and profile.greeting is None:
        return None
    wanted = (
        f"Read this out now, word for word, then wait: {text}"
        if text
        else f"Say this now, then wait: {profile.greeting}"
    )
    return Ask(f"The call was just answered.\n{wanted}")


def announcement(profile: AgentProfile) -> Ask | None:
    """Return what tells the caller of the recording; None when there is no announcement."""
    words = profile.recording.announcement
    if words is None:
        return None
    return Ask(f"Say exactly this sentence, word for word, and nothing else: {words}", tools=False, alone=True)


def sentence(text: str) -> Ask:
    """Return what an operator wants said."""
    return Ask(f"Say exactly this, word for word, and nothing else: {text}", tools=False, alone=True)


def goodbye(profile: AgentProfile, detail: str) -> Ask:
    """Return the last words; ``detail`` is why the call must end."""
    return Ask(f"The call has to end now ({detail}). {profile.goodbye}", tools=False)


def silence_policy(profile: AgentProfile) -> Policy:
    """Return what is done when the agent owes the caller speech and none comes."""
    wanted = profile.on_no_answer
    return Policy(wanted.limit_s, wanted.retries, wanted.then, wanted.apology, wanted.sound or "")
