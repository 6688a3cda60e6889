"""Which route of a dialplan answers a call."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote

from gateway.call.events import IncomingInvite
from gateway.dialplan.model import AgentProfile, Dialplan


@dataclass(frozen=True, slots=True)
class Route:
    """The rule ``name`` matched: the agent ``agent_name`` answers, behaving as ``profile`` says."""

    name: str
    agent_name: str
    profile: AgentProfile


@dataclass(frozen=True, slots=True)
class Rejection:
    """Nobody answers this call: the caller gets ``sip_code``; ``detail`` is for the log and the call's record."""

    sip_code: int
    detail: str


def find_route(dialplan: Dialplan, invite: IncomingInvite) -> Route | Rejection:
    """Return the first rule whose conditions hold, or a rejection with 404 (RFC 3261 section 21.4.5)."""
    names = called_names(invite.to_uri)
    for rule in dialplan.routes:
        if rule.called is None or rule.called in names:
            return Route(rule.name, rule.agent, dialplan.agents[rule.agent])
    return Rejection(404, f"no route for {invite.to_uri}")


def called_names(uri: str) -> tuple[str, ...]:
    """
    Return the forms of a URI's user part a rule may name; none when the URI has no user.

    Upper and lower case differ, and ``%61`` is ``a`` (RFC 3261 section 19.1.4). Reserved characters are decoded too:
    people write ``+49...`` in a dialplan, and some phones send ``%2B49...``. A password is left out. Of a telephone
    number with parameters (``sip:1000;isub=7@host``, ``tel:1000;ext=7``) the bare number is a second form.
    """
    scheme, _, rest = uri.strip().strip("<>").partition(":")
    if scheme.lower() == "tel":
        user = rest
    else:
        user, at, _ = rest.partition("@")
        if not at:
            return ()
    user = user.partition(":")[0]
    forms = (unquote(user), unquote(user.partition(";")[0]))
    return tuple(dict.fromkeys(form for form in forms if form))
