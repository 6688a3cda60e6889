"""``gateway edge``: the SIP proxy in front of the workers, where it is not the gateway that starts it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from gateway.cli.render import raw, say
from gateway.edge.config import EdgePlace, kamailio_config, tls_config
from gateway.edge.edge import key_of, public_address
from gateway.edge.workers import EdgeWorker, tables
from gateway.errors import ConfigError
from gateway.fleet.lone_edge import LoneEdge
from gateway.logs import configure_logs
from gateway.settings.load import load_settings
from gateway.settings.sections import Settings
from gateway.sip.location.resolver import locate_trunks
from gateway.threads import check_threads

FOLDER = Path("/etc/kamailio")
CONTROL = Path("/run/kamailio/gateway.sock")

app = typer.Typer(help="The SIP proxy in front of the workers (Kamailio).", no_args_is_help=True)


@app.command("config")
def config(
    settings_file: Annotated[
        Path | None, typer.Option("--config", help="configuration file (TOML); default: gateway.toml if it exists")
    ] = None,
    worker: Annotated[
        list[str] | None,
        typer.Option(help="a worker that is always there, as address:port/calls; may be given several times"),
    ] = None,
    folder: Annotated[Path, typer.Option(help="where the files will be on the edge")] = FOLDER,
    tls: Annotated[bool, typer.Option("--tls", help="print the file with the certificates instead")] = False,
) -> None:
    """
    Print the configuration for a Kamailio that the gateway does not start.

    What to do with it is in the comment at its head. Names of trunks are looked up now.
    """
    settings = load_settings(config=settings_file)
    if tls:
        raw(tls_config(settings.sip))
        return
    raw(_kamailio(settings, [_worker(each) for each in worker or ()], folder))


@app.command("run")
def run(
    settings_file: Annotated[
        Path | None, typer.Option("--config", help="configuration file (TOML); default: gateway.toml if it exists")
    ] = None,
    control: Annotated[
        Path | None,
        typer.Option(help="socket of a Kamailio that runs with the output of `gateway edge config`; starts none then"),
    ] = None,
) -> None:
    """
    Run an edge on a machine of its own, for the workers of all machines that share its Redis.

    It follows the workers as they come, drain and go, until SIGTERM or Ctrl-C. SIGHUP reloads the certificates.
    """
    settings = load_settings(config=settings_file)
    configure_logs(settings.log, shorten=settings.privacy.in_log)
    if settings.log.debug_threads:
        check_threads()
    uvloop.run(LoneEdge(settings, say, control=control).run())


def _kamailio(settings: Settings, workers: list[EdgeWorker], folder: Path) -> str:
    sip, inner = settings.sip, f"{settings.edge.inner_host}:{settings.edge.inner_port}"
    if settings.edge.inner_port == 0:
        raise ConfigError("edge.inner_port: an edge of its own needs a fixed port for workers; set it, and inner_host")
    if sip.port == 0 or (sip.tls and sip.tls_port == 0):
        raise ConfigError("sip.port: an edge of its own needs fixed ports; set sip.port and sip.tls_port")
    place = EdgePlace(
        port=sip.port,
        tls_port=sip.tls_port,
        inner=inner,
        control=CONTROL,
        tls_config=folder / "gateway-tls.cfg",
        public=public_address(sip),
        key=key_of(settings),
        children=4,
        child=False,
    )
    located = asyncio.run(locate_trunks(sip, settings.trunks)) if settings.trunks else {}
    addresses = [server.address for found in located.values() for server in found.servers]
    head = [
        f"Put this in {folder}/kamailio.cfg and start Kamailio 5.6 or newer:",
        "  apt-get install kamailio kamailio-tls-modules && systemctl restart kamailio",
        *([f"gateway edge config --tls prints {folder}/gateway-tls.cfg, which it needs."] if sip.tls else []),
        "It contains a key: only Kamailio should be able to read it.",
        *(
            []
            if settings.edge.key
            else ["edge.key is not set: each print has another key, and calls do not survive it."]
        ),
        f"Workers need sip.edges = [{inner.partition(':')[0]!r}] and sip.edge = {inner!r}; it learns them",
        f"over {CONTROL}.",
    ]
    return kamailio_config(settings, place, held=tables(place.key, workers), located=addresses, head=head)


def _worker(text: str) -> EdgeWorker:
    sip, _, capacity = text.partition("/")
    try:
        return EdgeWorker(sip, int(capacity or 4))
    except ValueError as error:
        raise ConfigError(f"--worker {text}: {error}; give address:port/calls, such as 192.0.2.20:5060/4") from None
