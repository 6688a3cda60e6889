"""
A dialplan read, checked, and with all it names loaded, so that no call waits for a disk.

``load_plan`` is the only way from files to calls: at start, at each reload, and in the commands that check. What one of
them refuses is what all refuse.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gateway.audio.filler import load_filler
from gateway.audio.pcm import PcmFormat
from gateway.audio.sounds import load_sound
from gateway.dialplan.model.plan import Dialplan, all_steps
from gateway.dialplan.read.files import PlanFile
from gateway.dialplan.read.lint import sounds_of
from gateway.dialplan.read.loader import dialplan_of
from gateway.settings.sections import Settings
from gateway.tools.builtin import OwnTool
from gateway.tools.runner import own_definitions
from gateway.worker.tool_check import tool_findings


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


def load_plan(
    files: list[PlanFile], folder: Path, settings: Settings, phone: PcmFormat, *, is_named_known: bool = True
) -> PreparedPlan:
    """
    Check a dialplan and load what it names. Waits for the disk.

    Args:
        files: all of them, in their order.
        folder: where relative paths of WAV files start from.
        settings: trunks and secrets that a plan may name.
        phone: format of a leg's audio.
        is_named_known: trunks and secrets must be among the settings; False only remarks which ones are named.

    Raises:
        DialplanError: with all mistakes, each with its place.
        ConfigError: a file went away meanwhile.
    """
    trunks, secrets = (settings.trunks, settings.secrets) if is_named_known else (None, None)
    dialplan = dialplan_of(files, folder, trunks, partial(tool_findings, secrets=secrets))
    named = {name for rule in dialplan.routes for _, step in all_steps(rule) for _, name in sounds_of(step)}
    named |= {sound for agent in dialplan.agents.values() if (sound := agent.on_no_answer.sound) is not None}
    return PreparedPlan(
        dialplan,
        {name: load_filler(agent.filler, folder, phone) for name, agent in dialplan.agents.items()},
        {name: tuple(own_definitions(agent.tools)) for name, agent in dialplan.agents.items()},
        {name: load_sound(folder / name, phone) for name in named},
    )
