"""Spans on their way to an OTLP receiver that decodes them with OpenTelemetry's own messages."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest
from structlog.testing import capture_logs

from gateway.settings.tracing import TracingSettings
from gateway.tracing import exporter
from gateway.tracing.context import TraceContext
from gateway.tracing.exporter import CAPACITY, SpanExporter
from gateway.tracing.spans import Span, SpanKind
from tests.rigs.otlp_receiver import OtlpReceiver
from tests.rigs.waiting import until

pytestmark = pytest.mark.integration

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
async def receiver() -> AsyncIterator[OtlpReceiver]:
    async with OtlpReceiver() as receiver:
        yield receiver


@pytest.fixture
def no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GATHER_S", "FIRST_RETRY_S"):
        monkeypatch.setattr(exporter, name, 0.01)


def exporter_to(receiver: OtlpReceiver, **given: object) -> SpanExporter:
    settings = TracingSettings.model_validate({"endpoint": receiver.url, **given})
    return SpanExporter(settings, {"service.name": "sip-voice-gateway", "service.instance.id": "w1"})


def span(number: int, **given: str) -> Span:
    made = Span("turn", TraceContext(TRACE, f"{number:016x}", sampled=True), given.get("parent", ""), 100.5)
    made.ended_at = 101.25
    return made


@contextmanager
def told() -> Iterator[list[str]]:
    """Collect the names of what is logged."""
    names: list[str] = []
    with capture_logs() as logs:
        yield names
    names += [entry["event"] for entry in logs]


async def test_a_span_arrives_as_it_is(receiver: OtlpReceiver, no_delay: None) -> None:
    whole = span(7, parent="00000000000000aa")
    whole.kind = SpanKind.SERVER
    whole.say(gateway__route="sales", gateway__rx_lost=3, gateway__mos=4.25, gateway__turn__cut=True)
    whole.happened("first_audio", 100.75, gateway__code="x" * 5000)
    whole.fail("no_rtp", "nothing \ud800 came")
    async with exporter_to(receiver, headers={"authorization": "Bearer secret"}) as sending:
        sending.send([whole])
        await until(lambda: receiver.spans)
    (got,) = receiver.spans
    assert (got.trace_id.hex(), got.span_id.hex(), got.parent_span_id.hex()) == (TRACE, f"{7:016x}", "00000000000000aa")
    assert (got.name, got.kind, got.status.code) == ("turn", 2, 2)
    assert (got.start_time_unix_nano, got.end_time_unix_nano) == (100_500_000_000, 101_250_000_000)
    assert receiver.attributes_of(got) == {
        "gateway.route": "sales",
        "gateway.rx_lost": 3,
        "gateway.mos": 4.25,
        "gateway.turn.cut": True,
        "error.type": "no_rtp",
    }
    (event,) = got.events
    assert (event.name, event.time_unix_nano) == ("first_audio", 100_750_000_000)
    assert len(event.attributes[0].value.string_value) == 1024
    assert receiver.resource == {"service.name": "sip-voice-gateway", "service.instance.id": "w1"}
    request = receiver.requests[0]
    assert request.path == "/v1/traces"
    assert request.headers["authorization"] == "Bearer secret"
    assert (request.headers["content-type"], request.headers["content-encoding"]) == ("application/x-protobuf", "gzip")


async def test_an_endpoint_may_name_the_whole_path(receiver: OtlpReceiver, no_delay: None) -> None:
    async with exporter_to(receiver, endpoint=f"{receiver.url}/tenant/v1/traces") as sending:
        sending.send([span(1)])
        await until(lambda: receiver.requests)
    assert receiver.requests[0].path == "/tenant/v1/traces"


async def test_what_waits_at_the_end_is_sent(receiver: OtlpReceiver) -> None:
    async with exporter_to(receiver) as sending:
        sending.send(span(number) for number in range(1, 201))
    assert len(receiver.spans) == 200
    assert [*range(1, 201)] == [int(got.span_id.hex(), 16) for got in receiver.spans]
    assert max(len(request.spans) for request in receiver.requests) <= 64


async def test_nothing_runs_while_there_is_nothing_to_send(receiver: OtlpReceiver, no_delay: None) -> None:
    async with exporter_to(receiver) as sending:
        sending.send([span(1)])
        await until(lambda: receiver.spans)
        await until(lambda: not [task for task in asyncio.all_tasks() if task.get_name() == "span exporter"])
        sending.send([span(2)])
        await until(lambda: len(receiver.spans) == 2)


@pytest.mark.parametrize("status", [429, 503])
async def test_a_receiver_that_cannot_take_them_now_gets_them_once_later(
    receiver: OtlpReceiver, no_delay: None, status: int
) -> None:
    receiver.answers = [status, status, status]
    with told() as names:
        async with exporter_to(receiver) as sending:
            sending.send(span(number) for number in range(1, 101))
            await until(lambda: len(receiver.spans) == 100)
    assert [*range(1, 101)] == [int(got.span_id.hex(), 16) for got in receiver.spans]
    assert names == ["trace_receiver_away", "traces_are_sent_again"]


async def test_a_receiver_that_is_gone_costs_bounded_memory_and_a_bounded_end(
    receiver: OtlpReceiver, no_delay: None
) -> None:
    await receiver.stop()
    with told() as names:
        async with exporter_to(receiver) as sending:
            sending.send(span(number) for number in range(1, CAPACITY + 101))
            assert sending.dropped == 100
            await asyncio.sleep(0.2)
            sending.send([span(9)])
            assert 101 <= sending.dropped <= 165  # of a batch under way, no room is left to put it back
    assert names == ["trace_receiver_away", "traces_not_sent"]


async def test_what_is_refused_is_dropped_and_told_once(receiver: OtlpReceiver, no_delay: None) -> None:
    receiver.answers = [401, 401]
    with told() as names:
        async with exporter_to(receiver) as sending:
            sending.send(span(number) for number in range(1, 129))
            await until(lambda: len(receiver.requests) == 2)
            sending.send([span(200)])
            await until(lambda: receiver.spans)
    assert len(receiver.spans) == 1
    assert sending.dropped == 128
    assert names == ["traces_refused"]


async def test_spans_that_a_receiver_took_in_part_are_told(receiver: OtlpReceiver, no_delay: None) -> None:
    receiver.rejects = 2
    with told() as names:
        async with exporter_to(receiver) as sending:
            sending.send(span(number) for number in range(1, 4))
            await until(lambda: receiver.requests)
    assert sending.dropped == 2
    assert names == ["traces_refused"]


async def test_no_redirect_is_followed_with_the_headers(receiver: OtlpReceiver, no_delay: None) -> None:
    receiver.answers = [307]
    async with exporter_to(receiver, headers={"x-key": "secret"}) as sending:
        sending.send([span(1)])
        await until(lambda: receiver.requests)
    assert len(receiver.requests) == 1


def test_without_the_extra_the_gateway_says_what_to_install() -> None:
    program = """
import sys
sys.modules["opentelemetry"] = None
from gateway.errors import ConfigError
from gateway.settings.sections import Settings
from gateway.worker.worker import Worker
given = {"realtime": {"api_key": "k"}, "tracing": {"endpoint": "http://127.0.0.1:4318"}}
try:
    Worker(Settings.model_validate(given), print)
except ConfigError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "pip install 'sip-voice-gateway[otel]'" in done.stdout, done.stderr
