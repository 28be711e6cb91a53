"""What happens, in numbers for Prometheus; described for operators in docs/reference/metrics.md.

Every metric is declared here and nowhere else. Base units, and labels with few values only: never a
tenant, a job, a raw path. Counters and histograms are fed through the functions below, which know
the current service; how things stand in the database (age and number of waiting jobs, the outbox, dead
letters) comes from `watch_database`, one query per service at most every few seconds however many
scrape, and age rather than depth: a queue of 100,000 that moves is fine, one job waiting for an hour is not.

Each process has its own numbers and its own port (`serve`); for an API, mount `metrics_app()`.
"""

from __future__ import annotations

import logging
import platform
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from http import HTTPStatus
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    make_wsgi_app,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from shared.context import current

__all__ = [
    "DATABASE_METRICS",
    "REGISTRY",
    "DatabaseCollector",
    "Heartbeat",
    "SideServer",
    "circuit_changed",
    "event_handled",
    "event_published",
    "http_request",
    "job_finished",
    "job_recovered",
    "job_started",
    "metrics_app",
    "provider_request",
    "relay_failed",
    "relay_leads",
    "relay_published",
    "serve",
    "set_build_info",
    "watch_database",
]

_log = logging.getLogger(__name__)

REGISTRY: Final = CollectorRegistry(auto_describe=False)
"""Our own registry: the library's default one collects whatever any dependency declares."""

ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)

# Buckets in seconds. A request should take milliseconds, a job may take a quarter of an hour.
_REQUEST_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_JOB_BUCKETS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900)
_WAIT_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 15, 60, 300, 900, 3600)
_PROVIDER_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60)
_BATCH_BUCKETS: Final = (1, 5, 10, 25, 50, 100, 250, 500, 1000)

_HTTP_REQUESTS = Counter(
    "http_requests_total",
    "HTTP requests answered.",
    ["service", "method", "route", "status"],
    registry=REGISTRY,
)
_HTTP_DURATION = Histogram(
    "http_request_duration_seconds",
    "Time from a request's arrival to the end of its answer.",
    ["service", "method", "route"],
    buckets=_REQUEST_BUCKETS,
    registry=REGISTRY,
)
_JOBS_STARTED = Counter(
    "jobs_started_total",
    "Attempts of jobs that were claimed and started.",
    ["service", "actor"],
    registry=REGISTRY,
)
_JOBS_FINISHED = Counter(
    "jobs_finished_total",
    "Attempts of jobs that ended, by how.",
    ["service", "actor", "outcome"],
    registry=REGISTRY,
)
_JOB_DURATION = Histogram(
    "job_duration_seconds",
    "Time that an attempt of a job took, from its claim to its end.",
    ["service", "actor"],
    buckets=_JOB_BUCKETS,
    registry=REGISTRY,
)
_JOB_WAIT = Histogram(
    "job_wait_seconds",
    "Time that a job waited from when it was due until an attempt started.",
    ["service", "actor"],
    buckets=_WAIT_BUCKETS,
    registry=REGISTRY,
)
_JOBS_RECOVERED = Counter(
    "jobs_recovered_total",
    "Running jobs taken over from a worker process that died.",
    ["service", "actor"],
    registry=REGISTRY,
)
_EVENTS_PUBLISHED = Counter(
    "events_published_total",
    "Events that RabbitMQ confirmed.",
    ["service", "type"],
    registry=REGISTRY,
)
_EVENTS_HANDLED = Counter(
    "events_handled_total",
    "Events handled by a service, by how that ended.",
    ["service", "type", "outcome"],
    registry=REGISTRY,
)
_PROVIDER_REQUESTS = Counter(
    "provider_requests_total",
    "Requests to third parties, each attempt counted.",
    ["service", "provider", "operation", "outcome"],
    registry=REGISTRY,
)
_PROVIDER_DURATION = Histogram(
    "provider_request_duration_seconds",
    "Time that a request to a third party took.",
    ["service", "provider", "operation"],
    buckets=_PROVIDER_BUCKETS,
    registry=REGISTRY,
)
_CIRCUIT_OPEN = Gauge(
    "circuit_open",
    "1 while calls to the provider are held back because it is down, else 0.",
    ["service", "provider"],
    registry=REGISTRY,
)
_ALERTS_OPENED = Counter(
    "alerts_opened_total",
    "Alerts opened, by what went wrong and in which service.",
    ["service", "kind", "about"],
    registry=REGISTRY,
)
_RELAY_PUBLISHED = Counter(
    "relay_published_total",
    "Messages that the relay published and RabbitMQ confirmed.",
    ["service", "kind"],
    registry=REGISTRY,
)
_RELAY_FAILURES = Counter(
    "relay_failures_total",
    "Passes of the relay that failed, by reason.",
    ["service", "reason"],
    registry=REGISTRY,
)
_RELAY_BATCH_SIZE = Histogram(
    "relay_batch_size",
    "Messages per batch that the relay published.",
    ["service"],
    buckets=_BATCH_BUCKETS,
    registry=REGISTRY,
)
_RELAY_BATCH_DURATION = Histogram(
    "relay_batch_duration_seconds",
    "Time from picking a batch until it was marked as published.",
    ["service"],
    buckets=_JOB_BUCKETS,
    registry=REGISTRY,
)
_RELAY_LEADER = Gauge(
    "relay_leader",
    "1 in the process whose relay leads for the service, 0 where one stands by.",
    ["service"],
    registry=REGISTRY,
)
_BUILD_INFO = Gauge(
    "build_info",
    "Always 1; the labels say what runs.",
    ["service", "version", "python"],
    registry=REGISTRY,
)

DATABASE_METRICS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "jobs_oldest_due_age_seconds": (
        "How long the oldest job that is due has been waiting to start.",
        ("queue",),
    ),
    "jobs_by_state": (
        "Jobs in the table by actor and state, finished ones until they are cleaned up.",
        ("actor", "state"),
    ),
    "outbox_pending": ("Events written but not yet confirmed by RabbitMQ.", ()),
    "outbox_oldest_age_seconds": ("Age of the oldest event not yet confirmed by RabbitMQ.", ()),
    "schedule_last_success_timestamp_seconds": (
        "When a job of this schedule last succeeded, in Unix time.",
        ("schedule",),
    ),
    "dead_letters": ("Messages that nobody could handle and that wait for a person.", ("queue",)),
}
"""Gauges read from a service's database: name → (meaning, labels besides `service`)."""

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def http_request(method: str, route: str | None, status: int, seconds: float) -> None:
    """Count a request answered. `route` is the matched template, None when nothing matched."""
    service = current().service
    # Both come from the client unless checked; each new value would be a new time series for ever.
    method = method if method in _METHODS else "OTHER"
    route = route or "unmatched"
    _HTTP_REQUESTS.labels(service, method, route, str(status)).inc()
    _HTTP_DURATION.labels(service, method, route).observe(seconds)


def job_started(actor: str, wait_seconds: float) -> None:
    """Count an attempt claimed; `wait_seconds` is from when it was due (clocks differ: below 0 is 0)."""
    service = current().service
    _JOBS_STARTED.labels(service, actor).inc()
    _JOB_WAIT.labels(service, actor).observe(max(wait_seconds, 0.0))


def job_finished(actor: str, outcome: str, seconds: float) -> None:
    """Count an attempt ended. `outcome` is one of the job system's closed list, as text."""
    service = current().service
    _JOBS_FINISHED.labels(service, actor, outcome).inc()
    _JOB_DURATION.labels(service, actor).observe(seconds)


def job_recovered(actor: str) -> None:
    """Count a running job that was taken over from a dead process."""
    _JOBS_RECOVERED.labels(current().service, actor).inc()


def event_published(type_: str, count: int = 1) -> None:
    """Count events of a type that the broker confirmed."""
    _EVENTS_PUBLISHED.labels(current().service, type_).inc(count)


def event_handled(type_: str, outcome: str) -> None:
    """Count an event handled by the current service. `outcome` as for jobs, or `skipped`."""
    _EVENTS_HANDLED.labels(current().service, type_, outcome).inc()


def provider_request(provider: str, operation: str, outcome: str, seconds: float) -> None:
    """Count one attempt of a call. `outcome`: `ok`, or a failure code from a closed list, no message."""
    service = current().service
    _PROVIDER_REQUESTS.labels(service, provider, operation, outcome).inc()
    _PROVIDER_DURATION.labels(service, provider, operation).observe(seconds)


def circuit_changed(provider: str, is_open: bool) -> None:
    """Note that the circuit of a provider opened or closed, as this process sees it."""
    _CIRCUIT_OPEN.labels(current().service, provider).set(1 if is_open else 0)


def alert_opened(kind: str, about: str) -> None:
    """Count an alert opened about the service `about`; a further failure of the same cause opens none."""
    _ALERTS_OPENED.labels(current().service, kind, about).inc()


def relay_published(jobs: int, events: int, seconds: float) -> None:
    """Count a batch that the relay published, of so many job and event messages."""
    service = current().service
    if jobs:
        _RELAY_PUBLISHED.labels(service, "job").inc(jobs)
    if events:
        _RELAY_PUBLISHED.labels(service, "event").inc(events)
    _RELAY_BATCH_SIZE.labels(service).observe(jobs + events)
    _RELAY_BATCH_DURATION.labels(service).observe(seconds)


def relay_failed(reason: str) -> None:
    """Count a failed pass. `reason`: `broker`, `database`, `unroutable` or `error`."""
    _RELAY_FAILURES.labels(current().service, reason).inc()


def relay_leads(leads: bool) -> None:
    """Note whether the relay of this process leads or stands by."""
    _RELAY_LEADER.labels(current().service).set(1 if leads else 0)


def set_build_info(service: str, version: str) -> None:
    """Say what this process runs."""
    _BUILD_INFO.labels(service, version, platform.python_version()).set(1)


Figures = Mapping[str, Mapping[tuple[str, ...], float]]
"""Name of a metric → values of its labels, in the order of `DATABASE_METRICS` → value."""


class DatabaseCollector(Collector):
    """Gauges out of the databases of one or more services, queried at most once per `cache_seconds`.

    `query_fn()` returns `Figures`, for example
    `{"outbox_pending": {(): 3}, "jobs_by_state": {("purchase_label", "queued"): 12}}`. It must bound
    itself (statement timeout); while it runs, others who scrape get the figures from before. When it
    fails, or gives a name or labels other than in `DATABASE_METRICS`, its gauges are absent and
    `database_scrape_success` is 0: a number that no longer holds would keep an alert quiet. The reason
    is logged, and the failure is remembered as long as figures are.
    """

    def __init__(
        self,
        query_fn: Callable[[], Figures] | None = None,
        service: str = "",
        *,
        cache_seconds: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sources: dict[str, _Source] = {}
        self._clock = clock
        if query_fn is not None:
            self.add(service, query_fn, cache_seconds=cache_seconds)

    def add(self, service: str, query_fn: Callable[[], Figures], *, cache_seconds: float = 10.0) -> None:
        """Query this service's database too; a second call for a service replaces the first.

        Raises ValueError below 5 seconds: scrapes must not harm the database.
        """
        if cache_seconds < 5:
            raise ValueError("figures from the database are kept for at least 5 seconds")
        # A new dict, as a scrape may be walking through the old one.
        self._sources = {**self._sources, service: _Source(service, query_fn, cache_seconds, self._clock)}

    def remove(self, service: str) -> None:
        """No longer query this service's database."""
        self._sources = {name: source for name, source in self._sources.items() if name != service}

    def describe(self) -> Iterable[GaugeMetricFamily]:
        yield from _families().values()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        families = _families()
        for service, source in self._sources.items():
            figures = source.figures()
            families["database_scrape_success"].add_metric([service], 0 if figures is None else 1)
            for name, values in (figures or {}).items():
                for labels, value in values.items():
                    families[name].add_metric([service, *labels], value)
        yield from families.values()


_SCRAPE_SUCCESS: Final = "1 when the figures from the database are fresh, 0 when they could not be read."


def _families() -> dict[str, GaugeMetricFamily]:
    families = {
        name: GaugeMetricFamily(name, meaning, labels=["service", *labels])
        for name, (meaning, labels) in DATABASE_METRICS.items()
    }
    families["database_scrape_success"] = GaugeMetricFamily(
        "database_scrape_success", _SCRAPE_SUCCESS, labels=["service"]
    )
    return families


class _Source:
    """The figures of one database, remembered for a while, failures too."""

    def __init__(
        self, service: str, query_fn: Callable[[], Figures], keep_seconds: float, clock: Callable[[], float]
    ) -> None:
        self._service, self._query, self._keep, self._clock = service, query_fn, keep_seconds, clock
        self._figures: Figures | None = None
        self._read_at: float | None = None
        self._lock = threading.Lock()

    def figures(self) -> Figures | None:
        # Only one queries. Others take what there was, and wait only if there was nothing yet.
        if not self._fresh() and self._lock.acquire(blocking=self._read_at is None):
            try:
                if not self._fresh():
                    self._figures = self._read()
                    self._read_at = self._clock()
            finally:
                self._lock.release()
        return self._figures

    def _fresh(self) -> bool:
        return self._read_at is not None and self._clock() - self._read_at < self._keep

    def _read(self) -> Figures | None:
        try:
            return {name: _checked(name, values) for name, values in self._query().items()}
        except Exception:
            _log.warning("database_figures_unavailable", exc_info=True, extra={"service": self._service})
            return None


def _checked(name: str, values: Mapping[tuple[str, ...], float]) -> Mapping[tuple[str, ...], float]:
    expected = len(DATABASE_METRICS[name][1])
    if any(len(labels) != expected for labels in values):
        raise ValueError(f"{name} takes {expected} labels besides the service")
    return {tuple(map(str, labels)): float(value) for labels, value in values.items()}


_DATABASES: Final = DatabaseCollector()
REGISTRY.register(_DATABASES)


def watch_database(service: str, query_fn: Callable[[], Figures], *, cache_seconds: float = 10.0) -> None:
    """Expose the figures of a service's database in this process; see `DatabaseCollector`.

    One kind of process per service should do it (the API): the same figures from ten are ten times wrong
    in a sum. Raises ValueError for a cache below 5 seconds.
    """
    _DATABASES.add(service, query_fn, cache_seconds=cache_seconds)


def metrics_app(registry: CollectorRegistry = REGISTRY) -> Callable[..., Any]:
    """Return a WSGI application that answers every GET with the metrics; mount it at `/metrics`."""
    return make_wsgi_app(registry)


class Heartbeat:
    """Tells whether a loop still turns: the loop calls `beat()`, the liveness probe `alive()`.

    Counts from its creation, so that a loop which never began is found out too. Thread-safe; `beat`
    takes well under a microsecond.
    """

    __slots__ = ("_beaten_at", "_clock", "_max_age")

    def __init__(self, max_age_seconds: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_age, self._clock = max_age_seconds, clock
        self._beaten_at = clock()

    def beat(self) -> None:
        """Say that the loop came around."""
        self._beaten_at = self._clock()

    def age_seconds(self) -> float:
        """Seconds since the last beat."""
        return self._clock() - self._beaten_at

    def alive(self) -> bool:
        """True while the last beat is younger than the maximum age."""
        return self.age_seconds() < self._max_age


class SideServer:
    """A running server of `serve`: its `port`, and `close()`."""

    def __init__(self, server: WSGIServer) -> None:
        self._server = server
        self.port: int = server.server_port
        self._thread = threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.2}, name="side-port", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop answering and free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        # The base class looks up the host's name, which where DNS is away delays the start by seconds.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        _log.debug("side_port_request_failed", exc_info=True)


class _Handler(WSGIRequestHandler):
    timeout = 10  # seconds, or a client that sends nothing would keep a thread for ever

    def address_string(self) -> str:
        return str(self.client_address[0])  # no reverse DNS look-up for a log line that is not written

    def log_message(self, format: str, *args: Any) -> None:
        return None


def serve(
    port: int,
    alive: Callable[[], bool] | None = None,
    *,
    host: str = "127.0.0.1",
    registry: CollectorRegistry = REGISTRY,
) -> SideServer:
    """Answer `/metrics` and `/livez` on a side port, in threads; for processes without an HTTP API.

    `alive` decides `/livez`: 200 or 503, for instance `Heartbeat().alive`; never ask the broker or the
    database in it, or their trouble restarts every worker. Port 0 takes a free one. In a pod pass
    `host="0.0.0.0"`. Call it after a fork, not before. Raises OSError when the port is taken: one port
    per process, so a relay beside its worker needs a second.
    """
    metrics = make_wsgi_app(registry)

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            return metrics(environ, start_response)
        if path == "/livez":
            try:
                ok = alive is None or alive()
            except Exception:
                _log.exception("liveness_check_failed")
                ok = False
            return _answer(start_response, HTTPStatus.OK if ok else HTTPStatus.SERVICE_UNAVAILABLE)
        return _answer(start_response, HTTPStatus.NOT_FOUND)

    return SideServer(make_server(host, port, app, _Server, _Handler))


def _answer(start_response: Any, status: HTTPStatus) -> Iterable[bytes]:
    body = b"ok\n" if status is HTTPStatus.OK else f"{status.phrase}\n".encode()
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
    start_response(f"{status.value} {status.phrase}", headers)
    return [body]
