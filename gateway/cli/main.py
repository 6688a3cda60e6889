"""
The ``gateway`` command: puts the commands together and turns errors into messages and exit codes.

How this folder works. Each command is one module with one function, whose parameters are its options (Typer). It reads
the settings, calls into the rooms below, and hands what it found to ``render``, the only module that prints. An error
raised on purpose (``GatewayError``) comes up to ``main``, which prints its text and exits with 1; 2 is a wrong command
line. The main thread takes the role ``loop`` here.
"""

from __future__ import annotations

import sys

import typer

from gateway.cli import (
    bench,
    call,
    calls,
    check,
    demo,
    dial,
    dialplan,
    doctor,
    edge,
    fleet,
    render,
    serve,
    simulator,
    token,
    trunks,
    web,
    workers,
)
from gateway.errors import GatewayError
from gateway.threads import enter_role

app = typer.Typer(
    name="gateway",
    help="A phone number for a realtime voice model: SIP on one side, the OpenAI Realtime API on the other.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("serve")(serve.serve)
app.command("dial")(dial.dial)
app.command("check")(check.check)
app.command("doctor")(doctor.doctor)
app.command("call")(call.call)
app.command("simulator")(simulator.simulator)
app.command("demo")(demo.demo)
app.command("bench")(bench.bench)
app.command("web")(web.web)
app.command("token")(token.token)
app.add_typer(calls.app, name="calls")
app.add_typer(workers.app, name="workers")
app.add_typer(trunks.app, name="trunks")
app.add_typer(dialplan.app, name="dialplan")
app.add_typer(fleet.app, name="fleet")
app.add_typer(edge.app, name="edge")


def main() -> None:
    """Run a command; one of our own errors is shown as its text alone, with exit code 1."""
    enter_role("loop")
    try:
        app()
    except GatewayError as error:
        render.fail(str(error))
        sys.exit(1)


if __name__ == "__main__":
    main()
