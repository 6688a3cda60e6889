"""What the settings of trunks must agree on with each other, with the user agent's and with the secrets."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from gateway.settings.sip import SipSettings, TrunkSettings

MAX_TRUNKS = 6
"""A build of pjsua2 holds 8 accounts; one takes the calls from no trunk, one is kept free."""


def trunk_mistakes(
    sip: SipSettings, trunks: Mapping[str, TrunkSettings], secrets: Collection[str]
) -> Iterator[tuple[str, str]]:
    """
    Yield each mistake: the setting by its dotted name (``trunks.main.password_from``), and the problem with its cure.

    Args:
        sip: the user agent.
        trunks: name -> trunk.
        secrets: names of all secrets.
    """
    if len(trunks) > MAX_TRUNKS:
        yield (
            "trunks",
            f"{len(trunks)} trunks; one process holds {MAX_TRUNKS} at most, share them among several gateways",
        )
    for name, trunk in trunks.items():
        for key, problem in _mistakes(sip, trunk, secrets):
            yield f"trunks.{name}.{key}", problem


def _mistakes(sip: SipSettings, trunk: TrunkSettings, secrets: Collection[str]) -> Iterator[tuple[str, str]]:
    yield from _password_mistakes(trunk, secrets)
    if (trunk.transport == "udp" and not sip.udp) or (trunk.transport == "tcp" and not sip.tcp):
        yield "transport", f"{trunk.transport}, but sip.{trunk.transport} is off; switch it on or choose another"
    for key in ("numbers", "numbers_out"):
        if getattr(trunk, key) == "national" and trunk.country is None:
            yield key, "national numbers are those of a country; set country, such as DE"
    if trunk.own_number_header is not None and trunk.caller_id is None:
        yield "own_number_header", "tells the number of the trunk; set caller_id"
    if trunk.own_number_header in trunk.caller_id_header:
        yield "own_number_header", f"{trunk.own_number_header} is in caller_id_header too; a call has one of them"
    if trunk.codecs is not None and "G722" in trunk.codecs and "G722" not in sip.codecs:
        yield "codecs", "G722 makes the audio of the whole worker 16 kHz; name it in sip.codecs too"


def _password_mistakes(trunk: TrunkSettings, secrets: Collection[str]) -> Iterator[tuple[str, str]]:
    if trunk.password_from is not None and trunk.password_from not in secrets:
        known = ", ".join(sorted(secrets)) or "none"
        yield "password_from", f"there is no secret {trunk.password_from!r}; add it to [secrets] (there are: {known})"
    for key, wanted in (("register", trunk.register_here), ("challenge", trunk.challenge)):
        missing = [needed for needed in ("username", "password_from") if wanted and getattr(trunk, needed) is None]
        if missing:
            yield key, f"needs a digest account; set {' and '.join(missing)}"
    if trunk.password_from is not None and trunk.username is None and not (trunk.register_here or trunk.challenge):
        yield "password_from", "a password is of no use without a name; set username"
