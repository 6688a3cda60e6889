"""``gateway call``: the robot caller."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.render import say
from gateway.lab.callers.robot import EXIT_MEANINGS, Happening, Robot, RobotOptions
from gateway.lab.speech import caller_wav

_CODES = "\n\n".join(f"{int(code)}: {meaning}" for code, meaning in EXIT_MEANINGS.items())


def call(
    uri: Annotated[str, typer.Argument(help="SIP URI to call, such as sip:1000@127.0.0.1:5060")],
    play: Annotated[
        Path | None, typer.Option(help="WAV file to speak (8 kHz, mono, 16 bit); default: a built-in voice")
    ] = None,
    listen: Annotated[bool, typer.Option("--listen", help="say nothing, only listen")] = False,
    record: Annotated[Path | None, typer.Option(help="stereo WAV file to write: caller left, agent right")] = None,
    report: Annotated[Path | None, typer.Option(help="JSON file to write what happened to")] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="hang up at the latest this long after the answer")] = 30,
    stay: Annotated[
        bool, typer.Option("--stay", help="stay on the line until then, even when everything has been said")
    ] = False,
    talk_at: Annotated[
        float | None, typer.Option(min=0, help="start speaking this long after the answer; default: after the greeting")
    ] = None,
    answer_limit: Annotated[float, typer.Option(min=0.1, help="give up if not answered within this time")] = 30,
) -> None:
    """Call a SIP URI as a robot: play a WAV file, record the answer, print what happens and when."""
    options = RobotOptions(
        uri=uri,
        play=None if listen else play or caller_wav(),
        record=record,
        answer_limit_s=answer_limit,
        length_s=seconds,
        talk_at_s=talk_at,
        hang_up_when_done=not stay,
    )
    started: list[float] = []

    def tell(happening: Happening) -> None:
        started.append(happening.at)
        say(f"{(happening.at - started[0]) * 1000:8.0f} ms  {happening.what:22} {happening.detail}")

    outcome = asyncio.run(Robot(options, tell).call())
    if report is not None:
        report.write_text(outcome.to_json(), encoding="utf-8")
    say(f"{'':8}     {EXIT_MEANINGS[outcome.exit_code]}" + (f"; recorded in {record}" if record else ""))
    raise typer.Exit(int(outcome.exit_code))


call.__doc__ = f"{call.__doc__}\n\nExit codes:\n\n{_CODES}"
