"""``gateway simulator``: a Realtime API on this machine, to try the gateway without a key."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from gateway.cli.render import say
from gateway.errors import ConfigError
from gateway.lab.simulator import Connection, Simulator, SimulatorOptions
from gateway.lab.simulator.faults.faults import FAULTS

RECORDED_S = 600.0


def simulator(
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="TCP port; 0 picks a free one")] = 8090,
    echo: Annotated[bool, typer.Option("--echo", help="send the caller's audio back as it arrives")] = False,
    key: Annotated[str | None, typer.Option(help="the only API key accepted; default: any")] = None,
    record: Annotated[Path | None, typer.Option(help="folder for WAV files of each session")] = None,
    speed: Annotated[float, typer.Option(help="seconds of speech sent per second")] = 8.0,
    think_ms: Annotated[int, typer.Option(help="milliseconds from the start of a response to its first audio")] = 150,
    fault: Annotated[
        list[str] | None, typer.Option(help=f"what goes wrong, NAME or NAME=VALUE: {', '.join(FAULTS)}; repeatable")
    ] = None,
    script: Annotated[Path | None, typer.Option(help="scenario file (YAML): what the agent does, in order")] = None,
    context_tokens: Annotated[
        int | None, typer.Option(help="most input tokens of a response; default: the model's limit")
    ] = None,
    require_safety_identifier: Annotated[
        bool,
        typer.Option(
            "--require-safety-identifier", help="report connections without the OpenAI-Safety-Identifier header"
        ),
    ] = False,
    sessions: Annotated[
        int | None, typer.Option(min=0, help="sessions of one model at once; more get 429; default: any number")
    ] = None,
    shutdown: Annotated[
        list[str] | None, typer.Option(help="MODEL=DATE: until when the list of models says it is offered; repeatable")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM certificate; serves TLS (wss)")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM key of the certificate")] = None,
) -> None:
    """Run a Realtime API that answers callers with recorded sentences, until interrupted."""
    options = SimulatorOptions(
        host=host,
        port=port,
        key=key,
        echo=echo,
        record_dir=record,
        speed=speed,
        think_ms=think_ms,
        faults=tuple(fault or ()),
        script=script,
        context_tokens=context_tokens,
        require_safety_identifier=require_safety_identifier,
        sessions=sessions,
        shutdown=dict(each.partition("=")[::2] for each in shutdown or ()),
        tls_cert=tls_cert,
        tls_key=tls_key,
        keep_audio_s=RECORDED_S if record is not None else 0.0,
        keep_connections=20,
    )
    _serve(options)


def _serve(options: SimulatorOptions) -> None:
    try:
        uvloop.run(_run(options))
    except OSError as error:
        where = f"{options.host}:{options.port}"
        raise ConfigError(f"simulator: cannot listen on {where}: {error}; try another --port") from None


async def _run(options: SimulatorOptions) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with Simulator(options, on_opened=_tell_opened, on_closed=_tell_closed) as running:
        say(f"Realtime simulator on {running.url}")
        await stop.wait()
    say("Realtime simulator stopped")


def _tell_opened(connection: Connection) -> None:
    say(f"session {connection.number} opened: {connection.model}, {connection.session_id}")


def _tell_closed(connection: Connection) -> None:
    if connection.refused is not None:
        say(f"connection {connection.number} refused: {connection.refused}")
        return
    lasted_s = (connection.closed_at or connection.opened_at) - connection.opened_at
    end = f"closed by {connection.closed_by} with {connection.close_code} after {lasted_s:.1f} s"
    say(f"session {connection.number} {end}; {_told(connection.violations)}")


def _told(violations: list[str]) -> str:
    """Return the violations in one line: each once, with how often it came."""
    if not violations:
        return "no violations"
    each = {text: violations.count(text) for text in dict.fromkeys(violations)}
    return "violations: " + "; ".join(text if count == 1 else f"{text} (x{count})" for text, count in each.items())
