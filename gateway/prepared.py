"""A dialplan with all it names loaded, so that no call waits for a disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.audio.filler import load_filler
from gateway.audio.pcm import PcmFormat
from gateway.audio.sounds import load_sound
from gateway.dialplan.model import Dialplan, all_steps
from gateway.dialplan.review import sounds_of
from gateway.realtime.tools import OwnTool
from gateway.settings import Settings
from gateway.tools.check import check_tools
from gateway.tools.runner import own_definitions


@dataclass(frozen=True, slots=True)
class PreparedPlan:
    """
    What calls are made of. A call keeps the one it began with.

    Attributes:
        dialplan: who answers which call.
        fillers: agent -> what its callers hear while it is away.
        own_tools: agent -> the tools of its own.
        sounds: file as the plan names it -> its PCM in the leg's format.
    """

    dialplan: Dialplan
    fillers: Mapping[str, bytes]
    own_tools: Mapping[str, tuple[OwnTool, ...]]
    sounds: Mapping[str, bytes]


def prepare(dialplan: Dialplan, settings: Settings, phone: PcmFormat) -> PreparedPlan:
    """
    Load what a dialplan names. Waits for the disk.

    Raises:
        ConfigError: a file, a secret or a plugin is missing; says which and the cure.
    """
    check_tools(dialplan, settings.secrets)
    folder = dialplan.folder
    named = {name for rule in dialplan.routes for _, step in all_steps(rule) for _, name in sounds_of(step)}
    return PreparedPlan(
        dialplan,
        {name: load_filler(agent.filler, folder, phone) for name, agent in dialplan.agents.items()},
        {name: tuple(own_definitions(agent.tools)) for name, agent in dialplan.agents.items()},
        {name: load_sound(folder / name, phone) for name in named},
    )
