"""``gateway dial``: place a call and let an agent speak."""

from __future__ import annotations

import asyncio
from enum import IntEnum
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from gateway.call.end_reasons import explained, fault_of
from gateway.call.outcome import EndReason, Outcome
from gateway.cli.render import say
from gateway.cli.serve import simulated
from gateway.logs import configure_logs
from gateway.settings.load import load_settings
from gateway.threads import check_threads
from gateway.worker.switchboard import DialOrder
from gateway.worker.worker import Worker


class DialExit(IntEnum):
    """The command's exit codes."""

    DONE = 0
    FAILED = 1
    BUSY = 3
    NO_ANSWER = 4
    DECLINED = 5
    NO_SUCH_NUMBER = 6
    UNREACHABLE = 7
    CONGESTION = 8
    REDIRECTED = 9


_EXITS = {
    EndReason.BUSY: DialExit.BUSY,
    EndReason.NO_ANSWER: DialExit.NO_ANSWER,
    EndReason.DECLINED: DialExit.DECLINED,
    EndReason.NO_SUCH_NUMBER: DialExit.NO_SUCH_NUMBER,
    EndReason.UNREACHABLE: DialExit.UNREACHABLE,
    EndReason.CONGESTION: DialExit.CONGESTION,
    EndReason.REDIRECTED: DialExit.REDIRECTED,
    **dict.fromkeys(
        (
            EndReason.CALLER_HUNG_UP,
            EndReason.AGENT_HUNG_UP,
            EndReason.TRANSFERRED,
            EndReason.MESSAGE_LEFT,
            EndReason.MAX_LENGTH,
            EndReason.HELD_TOO_LONG,
            EndReason.SESSION_EXPIRED,
        ),
        DialExit.DONE,
    ),
}


def dial(
    target: Annotated[str, typer.Argument(help="number (+15550100), or SIP or tel URI (sip:1000@192.0.2.1)")],
    agent: Annotated[str, typer.Option(help="the dialplan's agent that speaks")],
    trunk: Annotated[str, typer.Option(help="trunk to call through; a plain number needs one")] = "",
    caller_id: Annotated[str, typer.Option(help="number to call as, instead of the trunk's")] = "",
    config: Annotated[
        Path | None, typer.Option(help="configuration file (TOML); default: gateway.toml if it exists")
    ] = None,
    dialplan: Annotated[
        Path | None, typer.Option(help="dialplan file or folder, instead of the configured one")
    ] = None,
    simulate: Annotated[bool, typer.Option("--simulate", help="use the built-in simulator; needs no API key")] = False,
) -> None:
    """
    Place a call; the agent speaks first, as soon as it is answered.

    Takes no incoming calls and does not register, so it can run beside `gateway serve`. Ctrl-C ends the call.

    Exit codes: 0 the call was answered, 1 it failed on our side, 3 busy, 4 no answer, 5 declined, 6 no such number,
    7 unreachable, 8 no line available, 9 redirected elsewhere.
    """
    overrides = {"sip": {"port": 0, "tls": False}, "dialplan": dialplan}
    settings = load_settings(config=config, overrides=overrides)
    configure_logs(settings.log, shorten=settings.privacy.in_log)
    if settings.log.debug_threads:
        check_threads()

    async def call() -> Outcome:
        async with simulated(settings, simulate=simulate) as used:
            say(f"calling {target}" + (f" through {trunk}" if trunk else ""))
            order = DialOrder(target, agent, trunk, caller_id)
            return await Worker(used, say).dial(order)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        outcome = runner.run(call())
    say(f"{outcome.reason.replace('_', ' ')}" + (f": {outcome.detail}" if outcome.detail else ""))
    say(explained(outcome.reason, fault_of(outcome)))
    raise typer.Exit(int(_EXITS.get(outcome.reason, DialExit.FAILED)))
