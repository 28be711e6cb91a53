"""One trace from the HTTP request through outbox, job, event and handler; free of cost when off.

Tracing is on when `OTEL_EXPORTER_OTLP_ENDPOINT` is set and the SDK is installed (the extra `tracing`);
otherwise every helper here hands out one shared object that does nothing. Then a `traceparent` that a
caller sent is still passed on and logged, so that we never break somebody else's trace.

    with request_span("POST", traceparent=request.headers.get("traceparent")) as span:
        job.traceparent = inject()                       # stored on the job row and the outbox row
        span.route("/v1/orders/<id>/label").status(202)

    with publish_span("labels", "labels", job.id, traceparent=job.traceparent): ...           # relay
    with job_span("purchase_label", "labels", job.id, 1, job.traceparent, job.created_at): ...  # worker
    with client_span("shippo", "create_transaction", "POST", url) as span: ...                # provider

A job attempt and the publishing of its message are both children of the span that created the job:
that span is the cause, the relay is only the carrier. An attempt more than five minutes after the
creation starts a trace of its own, linked to the first, since a trace over hours cannot be read.

No bodies, no queries and no raw paths on spans, as these carry personal data and secrets; every text
attribute and exception is redacted. Trace headers are never sent to third parties.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Self
from urllib.parse import urlsplit

from shared.context import Context, current, use
from shared.telemetry.redaction import bounded, redact

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Tracer

__all__ = [
    "LINK_AFTER_SECONDS",
    "Span",
    "TraceParent",
    "client_span",
    "configure_tracing",
    "extract",
    "inject",
    "job_span",
    "publish_span",
    "request_span",
    "shutdown_tracing",
    "span",
    "trace_id",
    "trace_ids",
    "tracing_enabled",
]

Kind = Literal["internal", "server", "client", "producer", "consumer"]
Attribute = str | bool | int | float

LINK_AFTER_SECONDS: Final = 300.0
"""A job attempt later than this after the job's creation is linked to its cause, not a child of it."""

_EXCEPTION_LIMIT: Final = 4096
_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
# What practically every header looks like; told apart in a third of the time that `extract` takes.
_PLAIN: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-0[01]").fullmatch
_log = logging.getLogger(__name__)


class TraceParent(NamedTuple):
    """A parsed W3C `traceparent`: ids in lower-case hex, and whether the caller samples the trace."""

    trace_id: str
    span_id: str
    sampled: bool

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


def extract(traceparent: str | None) -> TraceParent | None:
    """Parse a W3C `traceparent` header; None for anything malformed, which callers then ignore."""
    if not traceparent:
        return None
    match = _TRACEPARENT.fullmatch(traceparent.strip()) if len(traceparent) < 512 else None
    if match is None:
        return None
    version, trace_id, span_id, flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest) or not int(trace_id, 16) or not int(span_id, 16):
        return None
    return TraceParent(trace_id, span_id, bool(int(flags, 16) & 1))


class Span:
    """A span that does nothing: what every helper returns while tracing is off.

    All methods return the span, so that calls chain. Usable in a `with` statement only.
    """

    __slots__ = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    @property
    def recording(self) -> bool:
        """True when what is set here reaches an exporter; to skip costly attributes."""
        return False

    def set(self, attributes: Mapping[str, Attribute | None]) -> Self:
        """Add attributes; None values are left out, texts redacted."""
        return self

    def fail(self, error_type: str, message: str = "") -> Self:
        """Mark the span as failed: `error_type` is a stable code or class name, `message` is private."""
        return self

    def route(self, template: str) -> Self:
        """Of a request: set the matched route's template and name the span after it."""
        return self

    def status(self, code: int) -> Self:
        """Of a request or a call: set the HTTP status; from 500 (server) or 400 (client) it is a failure."""
        return self

    def outcome(self, outcome: str, error_type: str | None = None) -> Self:
        """Of a job attempt: set how it ended; with an error type the span counts as failed."""
        return self


_NOOP: Final = Span()


class _PassedOn(Span):
    """Tracing is off and a caller sent a `traceparent`: pass it on through the context."""

    __slots__ = ("_use",)

    def __init__(self, traceparent: str) -> None:
        self._use = use(traceparent=traceparent)

    def __enter__(self) -> Self:
        self._use.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._use.__exit__()


def _passed_on(traceparent: str | None) -> Span:
    if not traceparent:
        return _NOOP
    if _PLAIN(traceparent):
        return _PassedOn(traceparent)
    parsed = extract(traceparent)
    return _NOOP if parsed is None else _PassedOn(str(parsed))


class _Tracing:
    """What the SDK gives us, looked up once. Exists only while tracing is on."""

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry import context, trace
        from opentelemetry.trace.status import Status, StatusCode

        self.provider = provider
        self.tracer: Tracer = provider.get_tracer("backroom")
        self.attach = context.attach
        self.detach = context.detach
        self.root = context.Context()
        self.current_span = trace.get_current_span
        self.with_span = trace.set_span_in_context
        self.link = trace.Link
        self.error = StatusCode.ERROR
        self.status = Status
        self.kinds: dict[Kind, Any] = {
            "internal": trace.SpanKind.INTERNAL,
            "server": trace.SpanKind.SERVER,
            "client": trace.SpanKind.CLIENT,
            "producer": trace.SpanKind.PRODUCER,
            "consumer": trace.SpanKind.CONSUMER,
        }

    def remote(self, parent: TraceParent) -> Any:
        from opentelemetry.trace import SpanContext, TraceFlags

        return SpanContext(
            int(parent.trace_id, 16), int(parent.span_id, 16), True, TraceFlags(1 if parent.sampled else 0)
        )

    def remote_context(self, parent: TraceParent) -> Any:
        from opentelemetry.trace import NonRecordingSpan

        return self.with_span(NonRecordingSpan(self.remote(parent)), self.root)


_tracing: _Tracing | None = None


class _RecordedSpan(Span):
    """A span of the SDK; started on entry, ended on exit, its context always detached."""

    __slots__ = (
        "_attributes",
        "_failed",
        "_kind",
        "_links",
        "_method",
        "_name",
        "_parent",
        "_root",
        "_span",
        "_token",
        "_tracing",
    )

    def __init__(
        self,
        tracing: _Tracing,
        name: str,
        kind: Kind,
        attributes: Mapping[str, Attribute | None] | None,
        parent: TraceParent | None,
        links: Iterable[TraceParent],
        root: bool,
    ) -> None:
        self._tracing, self._name, self._kind = tracing, name, kind
        self._attributes, self._parent, self._links, self._root = attributes, parent, links, root
        self._failed = False
        self._method = name
        self._span: Any = None
        self._token: Any = None

    def __enter__(self) -> Self:
        tracing = self._tracing
        context = None  # the current one
        if self._parent is not None:
            context = tracing.remote_context(self._parent)
        elif self._root:
            context = tracing.root
        self._span = tracing.tracer.start_span(
            self._name,
            context=context,
            kind=tracing.kinds[self._kind],
            attributes=_clean(_ambient(current())),
            links=[tracing.link(tracing.remote(link)) for link in self._links],
            record_exception=False,
            set_status_on_exception=False,
        )
        if self._attributes:
            self.set(self._attributes)
        self._token = tracing.attach(tracing.with_span(self._span))
        return self

    def __exit__(self, *exception: object) -> None:
        error = exception[1]
        try:
            # Not for BaseException: a shutdown that interrupts the work is no failure of the work.
            if isinstance(error, Exception):
                self._record(error)
        finally:
            self._tracing.detach(self._token)
            self._span.end()

    @property
    def recording(self) -> bool:
        return self._span is not None and self._span.is_recording()

    def set(self, attributes: Mapping[str, Attribute | None]) -> Self:
        if self.recording:
            self._span.set_attributes(_clean(attributes))
        return self

    def fail(self, error_type: str, message: str = "") -> Self:
        if self.recording:
            self._failed = True
            self._span.set_attribute("error.type", error_type)
            self._span.set_status(self._tracing.status(self._tracing.error, bounded(message, 1024) or None))
        return self

    def route(self, template: str) -> Self:
        if self.recording:
            self._span.set_attribute("http.route", template)
            self._span.update_name(f"{self._method} {template}")
        return self

    def status(self, code: int) -> Self:
        if self.recording:
            self._span.set_attribute("http.response.status_code", code)
            if code >= (400 if self._kind == "client" else 500):
                self.fail(str(code))
        return self

    def outcome(self, outcome: str, error_type: str | None = None) -> Self:
        self.set({"backroom.job.outcome": outcome})
        return self.fail(error_type) if error_type else self

    def _record(self, error: Exception) -> None:
        if not self.recording:
            return
        import traceback

        name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
        text = "".join(traceback.format_exception(error))
        self._span.add_event(
            "exception",
            {
                "exception.type": name,
                "exception.message": bounded(str(error), _EXCEPTION_LIMIT),
                "exception.stacktrace": bounded(text, _EXCEPTION_LIMIT),
            },
        )
        if not self._failed:  # a more precise code may be there already
            self.fail(name, str(error))


def _clean(attributes: Mapping[str, Attribute | None]) -> dict[str, Attribute]:
    return {
        name: redact(value) if isinstance(value, str) else value
        for name, value in attributes.items()
        if value is not None
    }


def _ambient(context: Context) -> dict[str, Attribute | None]:
    return {
        "backroom.service": context.service or None,
        "backroom.tenant_id": context.tenant_id,
        "backroom.request_id": context.request_id,
        "backroom.job_id": context.job_id,
        "backroom.event_id": context.event_id,
    }


def span(
    name: str,
    kind: Kind = "internal",
    attributes: Mapping[str, Attribute | None] | None = None,
    *,
    parent: str | None = None,
    links: Iterable[str] = (),
) -> Span:
    """Return a span to be used in a `with` statement.

    `parent` is a `traceparent`; without one the current span is the parent. `links` are `traceparent`s
    too: with links and no parent the span starts a trace of its own. What is malformed is ignored.
    An exception that passes through is recorded, redacted, and marks the span as failed.
    """
    tracing = _tracing
    if tracing is None:
        return _NOOP
    parsed = [link for link in map(extract, links) if link is not None]
    return _RecordedSpan(tracing, name, kind, attributes, extract(parent), parsed, root=bool(parsed))


def request_span(method: str, *, traceparent: str | None = None) -> Span:
    """Span of an HTTP request that we serve; call `.route(template)` and `.status(code)` on it.

    `traceparent` is the header as it came; what is malformed starts a new trace.
    """
    tracing = _tracing
    if tracing is None:
        return _passed_on(traceparent)
    attributes = {"http.request.method": method}
    # `root`: nothing may leak in from an earlier request that a server thread failed to end.
    return _RecordedSpan(tracing, method, "server", attributes, extract(traceparent), (), root=True)


def publish_span(
    destination: str,
    routing_key: str,
    message_id: str,
    *,
    traceparent: str | None = None,
) -> Span:
    """Span of handing one message to RabbitMQ: `publish <destination>`.

    `destination` is the exchange, or the queue where the default exchange is used; `traceparent` comes
    from the job or outbox row. Does nothing when there is neither that nor a current span: the relay
    would fill the trace store with traces of one span each.
    """
    tracing = _tracing
    if tracing is None:
        return _NOOP
    parent = extract(traceparent)
    if parent is None and not tracing.current_span().get_span_context().is_valid:
        return _NOOP
    attributes = _messaging("publish", "publish", destination, message_id)
    attributes["messaging.rabbitmq.destination.routing_key"] = routing_key
    return _RecordedSpan(tracing, f"publish {destination}", "producer", attributes, parent, (), root=False)


def job_span(
    actor: str,
    queue: str,
    job_id: str,
    attempt: int,
    traceparent: str | None = None,
    created_at: datetime | None = None,
    *,
    event_id: str | None = None,
    event_type: str | None = None,
) -> Span:
    """Span of one attempt of a job: `process <queue>`; call `.outcome(…)` on it.

    A child of the `traceparent` stored with the job. If the job was created (`created_at`, aware) more
    than `LINK_AFTER_SECONDS` ago it starts a trace of its own with a link instead. Handlers of events are
    jobs: name the event too. Pass plain values, ids as text.
    """
    tracing = _tracing
    if tracing is None:
        return _passed_on(traceparent)
    cause = extract(traceparent)
    parent, links = cause, tuple[TraceParent, ...]()
    if cause and created_at and time.time() - created_at.timestamp() > LINK_AFTER_SECONDS:
        parent, links = None, (cause,)
    attributes = _messaging("process", "process", queue, event_id or job_id)
    attributes["backroom.job_id"] = job_id
    attributes["backroom.job.actor"] = actor
    attributes["backroom.job.attempt"] = attempt
    attributes["backroom.event_id"] = event_id
    attributes["backroom.event.type"] = event_type
    return _RecordedSpan(tracing, f"process {queue}", "consumer", attributes, parent, links, root=True)


def client_span(provider: str, operation: str, method: str | None = None, url: str | None = None) -> Span:
    """Span of a call to a third party: `<provider> <operation>`; call `.status(code)` on it.

    Of the URL only host and port are kept. Attempts within one call are spans of their own.
    """
    tracing = _tracing
    if tracing is None:
        return _NOOP
    attributes: dict[str, Attribute | None] = {
        "backroom.provider": provider,
        "backroom.operation": operation,
        "http.request.method": method,
    }
    if url:
        try:
            parts = urlsplit(url)
            attributes["server.address"] = parts.hostname
            attributes["server.port"] = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
        except ValueError:
            pass  # not for us to judge: the call itself will say so
    return _RecordedSpan(tracing, f"{provider} {operation}", "client", attributes, None, (), root=False)


def _messaging(kind: str, name: str, destination: str, message_id: str) -> dict[str, Attribute | None]:
    return {
        "messaging.system": "rabbitmq",
        "messaging.operation.type": kind,
        "messaging.operation.name": name,
        "messaging.destination.name": destination,
        "messaging.message.id": message_id,
    }


def inject() -> str | None:
    """Return the `traceparent` to store on a job or outbox row now; None outside of any trace."""
    tracing = _tracing
    if tracing is not None:
        context = tracing.current_span().get_span_context()
        if context.is_valid:
            return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & 1:02x}"
    return current().traceparent


def trace_ids() -> tuple[str, str] | None:
    """Return trace id and span id of the current span in hex, for logs; None outside of any trace."""
    tracing = _tracing
    if tracing is not None:
        context = tracing.current_span().get_span_context()
        if context.is_valid:
            return f"{context.trace_id:032x}", f"{context.span_id:016x}"
    traceparent = current().traceparent
    if traceparent is None:
        return None
    return traceparent[3:35], traceparent[36:52]


def trace_id() -> str | None:
    """Return the id of the current trace in hex; None outside of any."""
    ids = trace_ids()
    return None if ids is None else ids[0]


def tracing_enabled() -> bool:
    """Tell whether spans are recorded at all."""
    return _tracing is not None


def configure_tracing(
    service: str,
    *,
    version: str | None = None,
    env: str | None = None,
    exporter: SpanExporter | None = None,
) -> bool:
    """Switch tracing on if it is wanted and possible; return whether it is on. Once per process.

    Wanted: `OTEL_EXPORTER_OTLP_ENDPOINT` (or `…_TRACES_ENDPOINT`) is set and `OTEL_SDK_DISABLED` is
    not, or an exporter is given. Wanted but without the SDK installed: a warning, and it stays off. The
    other variables of OpenTelemetry (headers, sampler, resource attributes) work as documented there.
    Spans are exported in the background and survive forks; when the collector is away they are dropped.
    """
    if exporter is None and not (
        os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    ):
        return False
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if _tracing is not None:
        return True
    try:
        from opentelemetry import trace
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        if exporter is None:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            exporter = OTLPSpanExporter()
    except ImportError as error:
        _log.warning("tracing_unavailable: an OTLP endpoint is set, but %s; install the extra 'tracing'", error)
        return False
    facts = {
        "service.name": service,
        "service.namespace": "backroom",
        "service.version": version,
        "deployment.environment.name": env,
    }
    provider = TracerProvider(resource=Resource.create({k: v for k, v in facts.items() if v}))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)  # so that third-party instrumentation joins our traces
    _install(_Tracing(provider))
    return True


def shutdown_tracing(timeout_seconds: float = 5.0) -> None:
    """Send what is buffered and switch tracing off. For the end of a process, after the drain.

    Waits at most about the timeout, whatever the collector does: a deploy must not hang on it.
    """
    tracing = _install(None)
    if tracing is not None:
        closing = threading.Thread(target=tracing.provider.shutdown, name="tracing-shutdown", daemon=True)
        closing.start()
        closing.join(timeout_seconds)


def _install(tracing: _Tracing | None) -> _Tracing | None:
    """Make this the tracing of the process and return the former one; for the tests' helper too."""
    global _tracing
    former, _tracing = _tracing, tracing
    return former
