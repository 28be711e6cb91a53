"""Spans and log lines kept in memory, to assert what was traced and said.

    with captured_spans() as spans:
        client.post("/v1/orders/1/label")
        worker.run_until_idle()
    assert spans.named("process labels")[0].parent is spans.one("POST /v1/orders/<id>/label")
    assert len(spans.trace_ids) == 1

    with captured_logs() as lines:
        worker.run_until_idle()
    assert lines.one("job_attempt")["outcome"] == "succeeded"

Both work across threads of the process, not across processes. Spans need the extra `tracing`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import structlog

from shared.telemetry import logs, traces

__all__ = ["CapturedLogs", "CapturedSpan", "CapturedSpans", "captured_logs", "captured_spans"]


@dataclass(frozen=True, eq=False)
class CapturedSpan:
    """An ended span: ids in hex as in a `traceparent`, `kind` in lower case, `links` as span ids."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str | None
    links: tuple[str, ...]
    attributes: Mapping[str, Any]
    failed: bool
    events: tuple[tuple[str, Mapping[str, Any]], ...]
    _all: CapturedSpans = field(repr=False)

    @property
    def parent(self) -> CapturedSpan | None:
        """The parent among the captured spans; None for a root and for a parent from outside."""
        return next((span for span in self._all if span.span_id == self.parent_id), None)


class CapturedSpans:
    """All spans that ended so far, in order of their start; live, so read it whenever you like."""

    def __init__(self, exporter: Any) -> None:
        self._exporter = exporter
        self._seen: dict[str, CapturedSpan] = {}

    def __iter__(self) -> Iterator[CapturedSpan]:
        finished = sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time)
        return iter([self._captured(span) for span in finished])

    def __len__(self) -> int:
        return len(self._exporter.get_finished_spans())

    def named(self, name: str) -> list[CapturedSpan]:
        """All spans of this name, in order of their start."""
        return [span for span in self if span.name == name]

    def one(self, name: str) -> CapturedSpan:
        """The only span of this name. Raises AssertionError, showing the tree, if there is not just one."""
        found = self.named(name)
        assert len(found) == 1, f"{len(found)} spans named {name!r} in\n{self.tree()}"
        return found[0]

    @property
    def trace_ids(self) -> set[str]:
        """The ids of all traces seen; one element when everything is in one trace."""
        return {span.trace_id for span in self}

    def tree(self) -> str:
        """The spans as indented text, a line each: children below parents, `~` before linked roots."""
        spans = list(self)
        known = {span.span_id for span in spans}
        lines: list[str] = []

        def show(span: CapturedSpan, depth: int) -> None:
            lines.append("  " * depth + ("~ " if span.links else "") + span.name)
            for child in spans:
                if child.parent_id == span.span_id:
                    show(child, depth + 1)

        for span in spans:
            if span.parent_id not in known:
                show(span, 0)
        return "\n".join(lines)

    def _captured(self, span: Any) -> CapturedSpan:
        span_id = f"{span.context.span_id:016x}"
        if span_id not in self._seen:
            self._seen[span_id] = CapturedSpan(
                name=span.name,
                kind=span.kind.name.lower(),
                trace_id=f"{span.context.trace_id:032x}",
                span_id=span_id,
                parent_id=f"{span.parent.span_id:016x}" if span.parent else None,
                links=tuple(f"{link.context.span_id:016x}" for link in span.links),
                attributes=dict(span.attributes or {}),
                failed=span.status.status_code.name == "ERROR",
                events=tuple((event.name, dict(event.attributes or {})) for event in span.events),
                _all=self,
            )
        return self._seen[span_id]


@contextmanager
def captured_spans() -> Iterator[CapturedSpans]:
    """Switch tracing on within, every span sampled and kept in memory; then restore what was before.

    Raises ImportError when the SDK is not installed: a test of traces without traces would prove nothing.
    """
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON

    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    former = traces._install(traces._Tracing(provider))
    try:
        yield CapturedSpans(exporter)
    finally:
        traces._install(former)
        provider.shutdown()


class CapturedLogs(list[dict[str, Any]]):
    """The lines as dicts, in order, with the facts of the context and redacted, as they would be written."""

    def named(self, event: str) -> list[dict[str, Any]]:
        """All lines of this event."""
        return [line for line in self if line["event"] == event]

    def one(self, event: str) -> dict[str, Any]:
        """The only line of this event. Raises AssertionError, naming the others, if there is not just one."""
        found = self.named(event)
        assert len(found) == 1, f"{len(found)} lines {event!r} among {[line['event'] for line in self]}"
        return found[0]


@contextmanager
def captured_logs() -> Iterator[CapturedLogs]:
    """Keep what is logged within, from debug on, instead of writing it; foreign loggers' lines too.

    Use it rather than `structlog.testing.capture_logs`, which misses loggers that were used before a
    change of configuration.
    """
    lines = CapturedLogs()

    def keep(_: Any, __: str, event: Any) -> Any:
        lines.append(dict(event))
        raise structlog.DropEvent

    former_config = structlog.get_config() if structlog.is_configured() else None
    former_processors = list(logs._processors)
    finish = [logs._enrich, logs._redact_event, keep]
    logs._processors[:] = [logs._add_own_facts, *finish]
    structlog.configure(
        processors=logs._processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=logs._Line,
        cache_logger_on_first_use=False,  # nothing of the test must outlive it
    )
    root = logging.getLogger()
    former_handlers, former_level = list(root.handlers), root.level
    handler = logs._Handler()
    handler.setFormatter(logs._formatter(finish))
    # A test runner's own handlers stay; ours would write the line to stdout.
    root.handlers[:] = [h for h in former_handlers if not isinstance(h, logs._Handler)] + [handler]
    root.setLevel(logging.DEBUG)
    try:
        yield lines
    finally:
        root.handlers[:] = former_handlers
        root.setLevel(former_level)
        logs._processors[:] = former_processors
        if former_config is None:
            structlog.reset_defaults()
        else:
            structlog.configure(**former_config)
