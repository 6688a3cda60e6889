"""
Every metric of the gateway: its name with its unit, its type, its labels with what they can be, its buckets.

Theory of operation
-------------------
There are two kinds of figures, and they take two ways.

*What happened* (counters, histograms) is counted where it happens: a worker turns the notes of its calls into whole
numbers (``call_counts``), and its store adds them to one hash in Redis, ``{prefix}:metrics``, each exactly once, with
the same numbered commands that append events (``store/calls.py``). A field of that hash is a metric, the values of its
labels, and for a histogram the bucket (``fields``). So a worker that ends, or is killed, takes none of its figures with
it, and a scrape sees the sum over all workers of all machines.

*How things are* (gauges) is read when somebody asks: the live calls, the registry of workers, the states of trunks,
dialplans and services, which vanish by themselves when their worker does (``gateway/web/metrics.py``).

Labels are few, and each has a set of values that does not grow: those listed here, or names that the operator gave
(trunks, models). None is a telephone number, a call or a process. What is not among the listed values is ``other``.

Amounts that are not whole numbers (seconds, dollars) are kept in millionths, because sums of whole numbers do not
depend on the order in which they were added.

``docs/metrics.md`` is printed from this table (``docs/generate/metrics.py``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from gateway.call.machine.phase import Phase
from gateway.call.outcome import EndReason, Fault

MICRO = 1_000_000
OTHER = "other"


class MetricType(StrEnum):
    """The types of Prometheus (prometheus.io/docs, "Metric types")."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Label:
    """
    A label of a metric.

    Attributes:
        name: of the label.
        values: all that it can be, besides ``other``; empty where ``meaning`` says what bounds it.
        meaning: whose names the values are.
    """

    name: str
    values: tuple[str, ...] = ()
    meaning: str = ""

    def known(self, value: str) -> str:
        """Return the value, or ``other`` where it is not a listed one."""
        return value if value in self.values or not self.values else OTHER


@dataclass(frozen=True, slots=True)
class Metric:
    """
    One metric.

    Attributes:
        name: with its unit; a counter's ends in ``_total``.
        type: what it is.
        help: one sentence.
        labels: in the order in which their values are given.
        buckets: upper bounds of a histogram, without the infinite one; in the unit of the name.
        micro: a counter that is kept in millionths. Histograms are, in their sums.
    """

    name: str
    type: MetricType
    help: str
    labels: tuple[Label, ...] = ()
    buckets: tuple[float, ...] = ()
    micro: bool = False

    @property
    def label_names(self) -> tuple[str, ...]:
        """The names of its labels."""
        return tuple(label.name for label in self.labels)


def _counter(name: str, help: str, *labels: Label, micro: bool = False) -> Metric:
    return Metric(f"gateway_{name}_total", MetricType.COUNTER, help, labels, micro=micro)


def _gauge(name: str, help: str, *labels: Label) -> Metric:
    return Metric(f"gateway_{name}", MetricType.GAUGE, help, labels)


def _seconds(name: str, help: str, buckets: Iterable[float], *labels: Label) -> Metric:
    return Metric(f"gateway_{name}_seconds", MetricType.HISTOGRAM, help, labels, tuple(buckets))


DIRECTION = Label("direction", ("inbound", "outbound"))
PHASE = Label(
    "state", tuple(phase for phase in Phase if phase is not Phase.ENDED), "as in [call-states.md](call-states.md)"
)
END_REASON = Label("end_reason", tuple(EndReason), "as in [end-reasons.md](end-reasons.md)")
FAULT = Label("fault", tuple(Fault))
WHY_MISSING = Label("why", ("failed", "incomplete", "empty", "text", "cancelled", "refused", "not_begun", "stalled"))
WAY = Label("way", ("received", "sent"))
ERROR_CODE = Label(
    "code",
    (
        *("rate_limit_exceeded", "insufficient_quota", "server_error", "session_expired", "invalid_api_key"),
        *("insufficient_permissions", "invalid_model", "missing_model", "beta_api_shape_disabled", "invalid_value"),
        *("missing_required_parameter", "unknown_parameter", "invalid_request_error", "content_filter"),
        *("max_output_tokens", "conversation_already_has_active_response", "response_cancel_not_active"),
        *("item_truncate_invalid_item_id", "input_audio_buffer_commit_empty", "tool_call_not_found", "no_answer"),
        *("unreachable", "http_3xx", "http_401", "http_403", "http_404", "http_429", "http_4xx", "http_5xx"),
        *("close_1000", "close_1001", "close_1005", "close_1006", "close_1008", "close_1011", "close_1012"),
        *("close_1013", "close_3000", "close_4000", "close_other"),
    ),
    "an error code of the service, or what it answered or closed with",
)
SIDE = Label("by", ("service", "gateway"))
TOKENS = Label(
    "kind",
    (
        *("text_in", "cached_text_in", "audio_in", "cached_audio_in", "text_out", "audio_out"),
        *("transcription_text_in", "transcription_audio_in", "transcription_text_out"),
    ),
)
TOOL_RESULT = Label("result", ("ok", "failed"))
DELIVERY = Label("result", ("delivered", "failed", "given_up"))
WORKER_STATE = Label("state", ("ready", "overloaded", "draining"))
TRUNK = Label("trunk", meaning="the trunks of the settings")
TRUNK_STATE = Label("state", ("registering", "registered", "failed", "unregistered", "standby", "static"))
PLAN_STATE = Label("state", ("current", "refused"))
MODEL = Label("model", meaning="the models that the dialplan names")
UPSTREAM_STATE = Label("state", ("away", "back"))

# --- calls ---

CALLS_STARTED = _counter("calls_started", "Calls that began: INVITEs that came in, and calls placed.", DIRECTION)
CALLS_ANSWERED = _counter("calls_answered", "Calls that were answered.", DIRECTION)
CALLS_ENDED = _counter(
    "calls_ended", "Calls that ended, by why and by whose fault it was.", END_REASON, FAULT, DIRECTION
)
LIVE_CALLS = _gauge("live_calls", "Calls that have not ended.", PHASE, DIRECTION)
TALK = _seconds(
    "call_talk",
    "How long answered calls lasted, from the answer to the end.",
    (5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200),
    DIRECTION,
)
SETUP = _seconds(
    "call_setup",
    "From the INVITE to the answer, which waits until the agent is ready.",
    (0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 8, 15, 30),
    DIRECTION,
)
FIRST_AUDIO = _seconds(
    "call_first_audio",
    "From the answer to the first frame that the caller hears.",
    (0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 8),
)
TURN_LATENCY = _seconds(
    "turn_latency",
    "From the moment the gateway learned that the caller had stopped speaking to the agent's first frame.",
    (0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1, 1.25, 1.5, 2, 3, 5, 8),
)
INTERRUPTION = _seconds(
    "interruption",
    "From the moment the gateway learned that the caller interrupts to the last frame of the agent's speech.",
    (0.02, 0.04, 0.06, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2),
)
TRANSFERS = _counter("transfers_asked", "Transfers that an agent asked for; those done end the call as `transferred`.")
ANSWERS_MISSING = _counter("answers_missing", "Speech that the agent owed and that did not come.", WHY_MISSING)

# --- audio ---

UNDERRUNS = _counter("underrun_frames", "Frames of callers that were due and not there: silence or concealment.")
LATE_FRAMES = _counter("late_frames", "Frames of callers that came too late or too early to be used.")
RTP_PACKETS = _counter("rtp_packets", "RTP packets that came from callers, and that were sent to them.", WAY)
RTP_LOST = _counter("rtp_lost_packets", "RTP packets that were lost, as RTCP says for those sent.", WAY)

# --- the voice model's service ---

UPSTREAM_SESSIONS = _counter("upstream_sessions", "Sessions with the voice model that became ready.")
UPSTREAM_SESSIONS_ENDED = _counter("upstream_sessions_ended", "Sessions that ended before their call.", SIDE)
SESSIONS_FULL = _counter(
    "upstream_sessions_full",
    "Agents whose model had all its sessions, and whether another model took its place.",
    Label("then", ("another_model", "none")),
)
UPSTREAM_ERRORS = _counter(
    "upstream_errors", "Errors of the service, failed attempts to get a session, sessions lost.", ERROR_CODE
)
UPSTREAM_TOKENS = _counter(
    "upstream_tokens", "Tokens used; cached ones are also among the others that went in.", TOKENS
)
COST = _counter("cost_dollars", "Estimated cost of calls in US dollars, by the price table.", micro=True)
UPSTREAM_STATES = _gauge(
    "upstream_workers", "Workers that found a model's service away, or back.", MODEL, UPSTREAM_STATE
)
MODEL_SHUTDOWN = _gauge(
    "model_shutdown_timestamp_seconds",
    "When the service will shut a model down, Unix time; none when not announced.",
    MODEL,
)

# --- tools, webhooks ---

TOOL_CALLS = _counter("tool_calls", "Uses of the profiles' own tools.", TOOL_RESULT)
TOOL_SECONDS = _seconds("tool", "How long the profiles' own tools took.", (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30))
WEBHOOKS = _counter(
    "webhooks", "Attempts to deliver an event to a webhook; given_up: the event became a dead letter.", DELIVERY
)
WEBHOOKS_DEAD = _gauge("webhook_dead_entries", "Dead letters: events that could not be delivered.")

# --- Redis ---

REDIS_UP = _gauge("redis_up", "Whether Redis answered this scrape: 1, or 0.")
JOURNAL_LAG = _seconds(
    "journal_lag",
    "How long the oldest event of each batch waited until it was in Redis.",
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60),
)
REDIS_OUTAGES = _counter("redis_outages", "How often a worker lost Redis; counted when it is back.")
REDIS_AWAY = _counter("redis_away_seconds", "How long workers were without Redis; counted when it is back.", micro=True)
JOURNAL_DROPPED = _counter("journal_dropped_entries", "Events and records given up because the backlog was full.")

# --- workers, trunks, dialplans ---

WORKERS = _gauge("workers", "Workers in the registry.", WORKER_STATE)
WORKER_CALLS = _gauge("worker_calls", "Calls of the workers in the registry.", WORKER_STATE)
WORKER_CAPACITY = _gauge("worker_capacity_calls", "Calls that the workers in the registry can have.", WORKER_STATE)
TRUNK_STATES = _gauge("trunk_workers", "Workers that have a trunk in a state.", TRUNK, TRUNK_STATE)
PLAN_STATES = _gauge("dialplan_workers", "Processes whose newest dialplan is in force, or was refused.", PLAN_STATE)
PLAN_VERSIONS = _gauge("dialplan_versions", "Different dialplans that are in force; more than 1 only during a reload.")

# --- the process that serves the metrics ---

BUILD = _gauge(
    "build_info", "The program that serves these metrics; always 1.", Label("version", meaning="one version")
)

METRICS: tuple[Metric, ...] = tuple(each for each in tuple(globals().values()) if isinstance(each, Metric))
"""All of them, in the order of the page."""

BY_NAME = {metric.name: metric for metric in METRICS}
