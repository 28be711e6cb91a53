"""Logs, metrics and traces: what an operator sees of a unit of work, with nothing secret in it.

A process calls `configure_telemetry` once. After that modules use `get_logger`, the span helpers, and the
functions of `shared.telemetry.metrics`, all of which take the facts of the work from `shared.context`.
"""

from __future__ import annotations

from shared.telemetry import metrics
from shared.telemetry.logs import PROBE_PATHS, configure_logging, get_logger, is_probe
from shared.telemetry.metrics import DatabaseCollector, Heartbeat, metrics_app, serve, watch_database
from shared.telemetry.redaction import REDACTED, add_secrets, bounded, redact
from shared.telemetry.traces import (
    Span,
    client_span,
    configure_tracing,
    extract,
    inject,
    job_span,
    publish_span,
    request_span,
    shutdown_tracing,
    span,
    trace_id,
    trace_ids,
    tracing_enabled,
)

__all__ = [
    "PROBE_PATHS",
    "REDACTED",
    "DatabaseCollector",
    "Heartbeat",
    "Span",
    "add_secrets",
    "bounded",
    "client_span",
    "configure_logging",
    "configure_telemetry",
    "configure_tracing",
    "extract",
    "get_logger",
    "inject",
    "is_probe",
    "job_span",
    "metrics",
    "metrics_app",
    "publish_span",
    "redact",
    "request_span",
    "serve",
    "shutdown_tracing",
    "span",
    "trace_id",
    "trace_ids",
    "tracing_enabled",
    "watch_database",
]


def configure_telemetry(service: str, *, level: str = "INFO", version: str, env: str | None = None) -> None:
    """Set up logs, build info and, if an OTLP endpoint is set, traces for this process.

    Raises ValueError for an unknown log level. See `configure_logging` and `configure_tracing`.
    """
    configure_logging(service, level, version=version, env=env)
    metrics.set_build_info(service, version)
    configure_tracing(service, version=version, env=env)
