"""``gateway calls``: look at calls and steer them, over the HTTP API."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.api_client.client import LIMIT_S, PICK_UP_LIMIT_S, Api, NoApi, ServerEvent
from gateway.api_client.listen import WAV_RATE_HZ, heard, wav_header
from gateway.cli.api import AsJson, Config, LiveCall, Url, open_api
from gateway.cli.render import as_json, binary, live_tables, say, table
from gateway.errors import GatewayError

app = typer.Typer(help="Look at calls and steer them, over the HTTP API.", no_args_is_help=False)
WATCH_S = 1.0
COLUMNS = ("call", "from", "to", "route", "agent", "state", "time s", "cost $")
_RETRY_S = 1.0
_TALKING = ("agent_heard", "caller_spoke")
_QUIET_FIELDS = frozenset({"call_id", "event", "at", "worker", "id"})


class Format(StrEnum):
    """What ``export`` writes."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


@app.callback(invoke_without_command=True)
def calls(
    context: typer.Context,
    config: Config = None,
    url: Url = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="show them again each second until Ctrl-C")] = False,
    json: AsJson = False,
) -> None:
    """Show the live calls of all workers."""
    if context.invoked_subcommand is not None:
        return
    with open_api(config, url) as api:
        if json:
            as_json(api.get("calls"))
        elif watch:
            _watch(api)
        else:
            table(*live_table(api.get("calls")["calls"], time.time()))


def _watch(api: Api) -> None:
    with live_tables() as draw:
        while True:
            draw(*live_table(api.get("calls")["calls"], time.time()))
            time.sleep(WATCH_S)


def live_table(found: list[dict[str, Any]], now: float) -> tuple[str, tuple[str, ...], Sequence[tuple[str, ...]]]:
    """
    Return title, columns and rows of the table of live calls.

    Args:
        found: as ``GET /v1/calls`` has them.
        now: Unix seconds.
    """
    rows = [
        (
            call["call_id"],
            str(call.get("caller") or call.get("from_uri", "")),
            str(call.get("called") or call.get("to_uri", "")),
            str(call.get("route", "")),
            str(call.get("agent", "")),
            str(call.get("state", "")),
            f"{max(0.0, now - call.get('created_at', now)):.0f}",
            f"{call['cost_usd']:.4f}" if call.get("cost_usd") is not None else "",
        )
        for call in found
    ]
    title = f"{len(rows)} live call{'' if len(rows) == 1 else 's'}" if rows else "No live calls"
    return title, COLUMNS, rows


@app.command()
def show(call_id: LiveCall, config: Config = None, url: Url = None, json: AsJson = False) -> None:
    """Show all that is known of a call, live or ended: its record, what was said, why it ended."""
    with open_api(config, url) as api:
        call, events = api.get("calls", call_id), api.get("calls", call_id, "events")["events"]
    if json:
        as_json({**call, "events": events})
        return
    end = call.pop("end", None)
    table(f"Call {call_id}", ("field", "value"), [(name, in_words(name, value)) for name, value in call.items()])
    lines = [spoken for event in events if (spoken := spoken_line(event))]
    if lines:
        say("\n".join(["", "What was said:", *lines]))
    if end:
        say(f"\nEnd: {call.get('end_reason', '')}. {end['meaning']} Fault: {end['fault']}. {end['cure']}".rstrip())


@app.command()
def tail(
    call_id: Annotated[str, typer.Argument(help="id of a call; without one, the events of all calls")] = "",
    config: Config = None,
    url: Url = None,
    json: AsJson = False,
) -> None:
    """Follow a call's events as they happen, to its end; or those of all calls, until Ctrl-C."""
    with open_api(config, url) as api:
        for event in followed(api, call_id):
            if json:
                as_json({"id": event.id, **event.data})
            else:
                say(event_line(event.data))


def followed(api: Api, call_id: str) -> Iterator[ServerEvent]:
    """Yield the events of a call to its end, or of all calls; where a stream ends before that, it is opened again."""
    path = ("calls", call_id, "events", "stream") if call_id else ("calls", "stream")
    last, is_over, is_vain = "", False, False
    while not is_over:
        came = False
        try:
            for event in api.events(*path, after=last):
                came, last = True, event.id or last
                is_over = bool(call_id) and event.data.get("event") == "ended"
                if event.event != "levels":
                    yield event
        except NoApi:
            if is_vain or not last:
                raise
        is_over = is_over or (bool(call_id) and is_vain)
        is_vain = not came
        if is_vain:
            time.sleep(_RETRY_S)


@app.command()
def listen(
    call_id: LiveCall,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="WAV file, caller left and agent right; default: standard output")
    ] = None,
    seconds: Annotated[float, typer.Option(help="end after this long", min=1)] = 3600,
    config: Config = None,
    url: Url = None,
) -> None:
    """
    Listen to a call: write the audio of both sides as WAV until it ends, or Ctrl-C.

    To hear it: gateway calls listen CALL | aplay
    """
    if out is None and sys.stdout.isatty():
        raise GatewayError("this writes a WAV file: name one with --out, or send it to a player: ... | aplay")
    with open_api(config, url) as api, out.open("wb") if out is not None else binary() as file:
        file.write(wav_header())
        frames = 0
        try:
            for pcm in heard(api.place, call_id, limit_s=seconds):
                frames += len(pcm) // 4
                file.write(pcm)
                file.flush()
        except KeyboardInterrupt:
            pass
        if out is not None:
            file.seek(0)
            file.write(wav_header(frames))
            say(f"{frames / WAV_RATE_HZ:.1f} s written to {out}")


@app.command()
def hangup(
    call_id: LiveCall,
    goodbye: Annotated[bool, typer.Option("--goodbye", help="let the agent say goodbye first")] = False,
    config: Config = None,
    url: Url = None,
    json: AsJson = False,
) -> None:
    """Hang up."""
    _steer(config, url, call_id, "hang-up", {"goodbye": goodbye}, json=json)


@app.command()
def transfer(
    call_id: LiveCall,
    target: Annotated[str, typer.Argument(help="number, or SIP URI")],
    config: Config = None,
    url: Url = None,
    json: AsJson = False,
) -> None:
    """Transfer the caller."""
    _steer(config, url, call_id, "transfer", {"target": target}, json=json)


@app.command(name="take-over")
def take_over(
    call_id: LiveCall,
    target: Annotated[str, typer.Argument(help="your number, or SIP URI: you are called, then joined with the caller")],
    config: Config = None,
    url: Url = None,
    json: AsJson = False,
) -> None:
    """Talk to the caller yourself; the agent is silent meanwhile, and takes the caller back when you hang up."""
    _steer(config, url, call_id, "take-over", {"target": target}, json=json)


@app.command(name="give-back")
def give_back(call_id: LiveCall, config: Config = None, url: Url = None, json: AsJson = False) -> None:
    """Give a caller that was taken over back to the agent."""
    _steer(config, url, call_id, "give-back", {}, json=json)


@app.command(name="say")
def say_words(
    call_id: LiveCall,
    text: Annotated[str, typer.Argument(help="a sentence")],
    whisper: Annotated[
        bool, typer.Option("--whisper", help="an instruction to the agent, which the caller does not hear")
    ] = False,
    config: Config = None,
    url: Url = None,
    json: AsJson = False,
) -> None:
    """Have the agent say a sentence; or, with --whisper, do as it says."""
    _steer(config, url, call_id, "whisper" if whisper else "say", {"text": text}, json=json)


@app.command()
def digits(
    call_id: LiveCall,
    keys: Annotated[str, typer.Argument(help="0-9 * # A-D")],
    config: Config = None,
    url: Url = None,
    json: AsJson = False,
) -> None:
    """Send telephone keys (DTMF)."""
    _steer(config, url, call_id, "digits", {"digits": keys}, json=json)


@app.command()
def trace(call_id: LiveCall, config: Config = None, url: Url = None, json: AsJson = False) -> None:
    """Write down the call's SIP messages from now on."""
    _steer(config, url, call_id, "trace", {}, json=json)


def _steer(
    config: Path | None, url: str | None, call_id: str, what: str, fields: Mapping[str, object], *, json: bool
) -> None:
    with open_api(config, url) as api:
        limit_s = PICK_UP_LIMIT_S if what in ("transfer", "take-over") else LIMIT_S
        answer = api.post("calls", call_id, what, body=fields, limit_s=limit_s)
    if json:
        as_json(answer)
    else:
        say(f"{what}: {answer.get('state', 'done')}{': ' + answer['detail'] if answer.get('detail') else ''}")


@app.command()
def export(
    since: Annotated[str, typer.Option(help="day or time (ISO 8601) from which on; in UTC unless it says otherwise")],
    until: Annotated[str | None, typer.Option(help="day or time before which; default: now")] = None,
    format: Annotated[Format, typer.Option("--format", "-f", help="what to write")] = Format.CSV,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="file; default: standard output")] = None,
    config: Config = None,
    url: Url = None,
) -> None:
    """Write the detail records (CDRs) of calls that have ended."""
    if format is Format.PARQUET and out is None and sys.stdout.isatty():
        raise GatewayError("parquet is no text: name a file with --out")
    query = {"format": format.value, "since": moment("--since", since)}
    if until is not None:
        query["until"] = moment("--until", until)
    with open_api(config, url) as api:
        if out is None:
            api.download(binary(), "cdrs", "export", **query)
            return
        draft = out.with_name(out.name + ".part")
        try:
            with draft.open("wb") as file:
                written = api.download(file, "cdrs", "export", **query)
            draft.replace(out)
        finally:
            draft.unlink(missing_ok=True)
    say(f"{written} bytes written to {out}")


@app.command()
def erase(
    number: Annotated[str, typer.Argument(help="telephone number as E.164 or as it was written, or SIP user")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what there is")] = False,
    config: Config = None,
    url: Url = None,
    json: AsJson = False,
) -> None:
    """Erase what is kept of a person: records, transcripts, CDRs, recordings, traces."""
    with open_api(config, url) as api:
        erased = api.delete("callers", number, dry_run="true" if dry_run else "false")
    if json:
        as_json(erased)
        return
    for line in erasure(erased):
        say(line)


def erasure(erased: Mapping[str, Any]) -> Iterator[str]:
    """
    Yield what was erased, a line each, and what was not.

    Args:
        erased: as ``DELETE /v1/callers/{number}`` has it.
    """
    yield f"{'there are' if erased['dry_run'] else 'erased'}: {len(erased['calls'])} calls"
    for name in ("records", "events", "cdrs", "deliveries", "limits", "audit"):
        yield f"  {name}: {erased[name]}"
    yield f"  files: {len(erased['files'])}"
    for path in erased["files_elsewhere"]:
        yield f"not on the machine of the HTTP API, erase it there: {path}"
    for call_id in erased["live"]:
        yield f"still live, nothing of it was erased: {call_id}; ask again when it has ended"


def moment(option: str, text: str) -> float:
    """
    Return a day or time as Unix seconds.

    Raises:
        GatewayError: it is none; names the option.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise GatewayError(f"{option}: {text!r} is not a time; write 2026-01-31 or 2026-01-31T08:00:00+01:00") from None
    return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()


def in_words(name: str, value: object) -> str:
    """Return a field of the record for people: times as dates."""
    if name.endswith("_at") and isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC).isoformat(sep=" ", timespec="milliseconds")
    return str(value)


def event_line(event: Mapping[str, Any]) -> str:
    """Return an event as one line: its time, name and fields."""
    fields = " ".join(f"{name}={value}" for name, value in event.items() if name not in _QUIET_FIELDS)
    return f"{_clock_time(event)} {event.get('call_id', '')} {event.get('event', '')} {fields}".rstrip()


def spoken_line(event: Mapping[str, Any]) -> str:
    """Return what was said and heard as a line of the transcript; empty for other events."""
    if event.get("event") not in _TALKING or not event.get("text"):
        return ""
    who = "agent " if event["event"] == "agent_heard" else "caller"
    cut = " (interrupted)" if str(event.get("cut")).lower() == "true" else ""
    return f"  {_clock_time(event)}  {who}  {event['text']}{cut}"


def _clock_time(event: Mapping[str, Any]) -> str:
    return datetime.fromtimestamp(float(event.get("at") or 0), UTC).strftime("%H:%M:%S.%f")[:-3]
