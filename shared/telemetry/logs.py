"""One line per thing that happened, in one form, whoever says it; without secrets.

Our own code, gunicorn, Dramatiq, periodiq, pika, alembic and every other user of the standard library's
logging end in the same processors: JSON on stdout, or colored text when stdout is a terminal.

    log = get_logger(__name__)
    log.info("job_attempt", outcome="succeeded", duration_seconds=0.31)

The event's name is static, data go in keywords, ids instead of objects. The facts of the unit of work
(service, tenant, request, job, attempt, event, trace) are added from `shared.context`, so nobody binds
them. The habit that keeps logs readable: one canonical line per request, per job attempt and per event,
with `outcome` and `duration_seconds`; everything else is for when something is odd.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
import traceback
from collections.abc import Mapping, MutableMapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TextIO

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor

from shared.context import current
from shared.telemetry.redaction import bounded, redact
from shared.telemetry.traces import trace_ids

__all__ = ["PROBE_PATHS", "configure_logging", "get_logger", "is_probe"]

PROBE_PATHS: Final = frozenset({"/livez", "/readyz", "/startupz", "/metrics"})
"""What machines ask every few seconds. Their successful requests are not logged."""

_EXCEPTION_LIMIT: Final = 16_384
_TEXT_LIMIT: Final = 32_768
# Libraries which at `info` describe their own plumbing for every connection or request.
_QUIET: Final = {
    "pika": logging.WARNING,
    "urllib3": logging.WARNING,
    "werkzeug": logging.WARNING,
    "alembic.runtime.plugins": logging.WARNING,
}
_ACCESS_LOGGERS: Final = ("werkzeug", "gunicorn.access")
_PROBE_REQUEST: Final = re.compile(r'"(?:GET|HEAD) (/[a-z]+)[? ]')

_process: dict[str, Any] = {}


def is_probe(path: str | None) -> bool:
    """Tell whether a request's path is a probe's or the metrics', whose requests are not logged."""
    return path in PROBE_PATHS


def get_logger(name: str) -> FilteringBoundLogger:
    """Return the logger of a module: `log = get_logger(__name__)`. Cheap; may be called at import."""
    return structlog.get_logger(name)


def configure_logging(
    service: str,
    level: str = "INFO",
    *,
    version: str | None = None,
    env: str | None = None,
    stream: TextIO | None = None,
    as_json: bool | None = None,
) -> None:
    """Send all logging of this process through us. Call it first; calling it again replaces the settings.

    `level` is a name of the standard library's in any case. `stream` is stdout unless given, `as_json`
    is true unless the stream is a terminal. Uncaught exceptions of the process and of its threads are
    logged too. Handlers that libraries installed on their own are removed; those of a test runner stay.
    A logger that was used before keeps its level. Raises ValueError for an unknown level.
    """
    threshold = logging.getLevelNamesMapping().get(level.upper())
    if threshold is None:
        raise ValueError(f"unknown log level {level!r}")
    _output.stream = stream
    if as_json is None:
        as_json = not _output.is_terminal()
    _process.clear()
    _process.update({key: value for key, value in (("version", version), ("env", env)) if value})
    _process["service"] = service

    finish: list[Processor] = [_enrich, _redact_event, _render_json if as_json else _console_renderer()]
    # In place, as loggers in use hold on to the list that they first saw.
    _processors[:] = [_add_own_facts, *finish]
    structlog.configure(
        processors=_processors,
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=_Line,
        cache_logger_on_first_use=True,
    )
    handler = _Handler()
    handler.setFormatter(_formatter(finish))
    _take_over(handler, threshold)
    _log_uncaught()


def _formatter(finish: Sequence[Processor]) -> logging.Formatter:
    """The same last steps for records of the standard library."""
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder(), _add_record_facts],
        processors=[_drop_record, *finish],
    )


class _Output:
    """Whole lines to a stream, from any thread. Looks stdout up anew each time unless given a stream."""

    def __init__(self) -> None:
        self.stream: TextIO | None = None
        self._lock = threading.Lock()
        # A fork while another thread writes would leave the child a lock that nobody opens.
        os.register_at_fork(after_in_child=self._renew_lock)

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()

    def is_terminal(self) -> bool:
        stream = self.stream or sys.stdout
        return bool(stream and stream.isatty())

    def write(self, line: str) -> None:
        stream = self.stream or sys.stdout
        if stream is None:  # a daemon without stdout
            return
        with self._lock:
            try:
                stream.write(line + "\n")
                stream.flush()
            except UnicodeEncodeError:  # a terminal that speaks no UTF-8
                stream.write(line.encode("ascii", "backslashreplace").decode() + "\n")
            except (ValueError, BrokenPipeError):
                pass  # closed at the end of the process: logging must not be what kills it


_output = _Output()
_processors: list[Processor] = []  # filled below; always this one list


class _Line:
    """Where structlog's loggers end: a name, and the output of the process.

    Not a logger of the standard library: that costs as much again per line.
    """

    __slots__ = ("name",)

    def __init__(self, name: str | None = None) -> None:
        self.name = name

    def msg(self, line: str) -> None:
        _output.write(line)

    debug = info = warning = warn = error = critical = exception = fatal = failure = log = msg


class _Handler(logging.Handler):
    """The end of the line for the standard library's logging."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            _output.write(self.format(record))
        except structlog.DropEvent:
            pass
        except Exception as error:
            # Mostly arguments that do not fit the message. The standard library would print both to
            # stderr, secrets included.
            log = get_logger(record.name)
            log.warning("unloggable_record", template=str(record.msg), at=record.lineno, error=repr(error))


def _take_over(handler: logging.Handler, threshold: int) -> None:
    root = logging.getLogger()
    for former in list(root.handlers):
        # By exact type: pytest's and other tools' subclasses are there on purpose.
        if isinstance(former, _Handler) or type(former) is logging.StreamHandler:
            root.removeHandler(former)
    root.addHandler(handler)
    root.setLevel(threshold)
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger):
            for own in list(logger.handlers):
                if type(own) in (logging.StreamHandler, logging.FileHandler):
                    logger.removeHandler(own)
            if name.partition(".")[0] in ("gunicorn", "dramatiq", "periodiq", "alembic", "sqlalchemy"):
                logger.propagate = True
                logger.disabled = False  # logging.config.fileConfig, as alembic likes it, disables others
    for name, least in _QUIET.items():
        logging.getLogger(name).setLevel(max(least, threshold))
    logging.captureWarnings(True)


def _log_uncaught() -> None:
    log = get_logger("uncaught")

    def of_process(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        if issubclass(kind, Exception):
            log.critical("uncaught_exception", exc_info=(kind, error, trace))
        else:
            sys.__excepthook__(kind, error, trace)  # Ctrl-C

    def of_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None and issubclass(args.exc_type, Exception):
            name = args.thread.name if args.thread else None
            log.critical("uncaught_exception", thread=name, exc_info=args.exc_value)

    sys.excepthook = of_process
    threading.excepthook = of_thread


# --- Processors: each takes and returns the event's dict ------------------------------------------------


def _add_own_facts(logger: Any, method: str, event: EventDict) -> EventDict:
    event["logger"] = logger.name
    event["level"] = "error" if method == "exception" else "warning" if method == "warn" else method
    return event


def _add_record_facts(_: Any, __: str, event: EventDict) -> EventDict:
    """Of a record of the standard library: level, logger, and its own time."""
    record: logging.LogRecord = event["_record"]
    if record.name in _ACCESS_LOGGERS and record.levelno < logging.WARNING:
        match = _PROBE_REQUEST.search(str(event.get("event", "")))
        if match is not None and is_probe(match[1]):
            raise structlog.DropEvent
    event["level"] = record.levelname.lower()
    event["logger"] = record.name
    event["timestamp"] = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")
    return event


def _drop_record(_: Any, __: str, event: EventDict) -> EventDict:
    event.pop("_record", None)
    event.pop("_from_structlog", None)
    return event


def _enrich(_: Any, __: str, event: EventDict) -> EventDict:
    """Put what every line has in front, the facts of the unit of work behind; give exceptions as text."""
    if event.get("path") in PROBE_PATHS and event["level"] in ("debug", "info"):
        raise structlog.DropEvent
    line: dict[str, Any] = {
        "timestamp": event.pop("timestamp", None) or datetime.now(UTC).isoformat(timespec="microseconds"),
        "level": event.pop("level"),
        "event": event.pop("event", ""),
        "logger": event.pop("logger", None),
    }
    error = event.pop("exc_info", None)
    stack = event.pop("stack_info", None)
    line.update(event)
    for name, value in _process.items():
        line.setdefault(name, value)
    context = current()
    if context.service:
        line["service"] = context.service
    for name in _FROM_CONTEXT:
        value = getattr(context, name)
        if value is not None:
            line.setdefault(name, value)
    ids = trace_ids()
    if ids is not None:
        line["trace_id"], line["span_id"] = ids
    if stack:
        line["stack"] = stack if isinstance(stack, str) else "".join(traceback.format_stack())
    if error:
        line["exception"] = _exception_text(error)
    return line


_FROM_CONTEXT: Final = (
    "tenant_id",
    "principal",
    "request_id",
    "correlation_id",
    "job_id",
    "job_actor",
    "attempt",
    "event_id",
)


def _exception_text(error: Any) -> str:
    if isinstance(error, BaseException):
        parts = traceback.format_exception(error)
    elif isinstance(error, tuple) and error[0] is not None:
        parts = traceback.format_exception(*error)
    else:
        caught = sys.exc_info()[1]
        if caught is None:
            return ""
        parts = traceback.format_exception(caught)
    return bounded("".join(parts).rstrip(), _EXCEPTION_LIMIT)


def _redact_event(_: Any, __: str, event: EventDict) -> MutableMapping[str, Any]:
    line = redact(event)
    text = line["event"]
    if isinstance(text, str) and len(text) > _TEXT_LIMIT:
        line["event"] = bounded(text, _TEXT_LIMIT)
    return line


_encode = json.JSONEncoder(
    ensure_ascii=True,  # a log's reader must not depend on the encoding of stdout
    separators=(",", ":"),
    default=lambda value: redact(_plain(value)),
).encode


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)


def _render_json(_: Any, __: str, event: EventDict) -> str:
    try:
        return _encode(event)
    except Exception as error:  # a cycle, or a __str__ that raises: the line must not be lost, nor raise
        texts = {str(key): value for key, value in event.items() if isinstance(value, str | int | None)}
        return _encode({**texts, "unloggable": type(error).__name__})


def _console_renderer() -> Any:
    """Colored text for people; ids of the unit of work are shortened away where they only repeat."""
    console = structlog.dev.ConsoleRenderer(
        colors=_output.is_terminal(), exception_formatter=structlog.dev.plain_traceback
    )

    def render(logger: Any, name: str, event: EventDict) -> str:
        for noise in ("version", "env", "trace_id", "span_id", "correlation_id", "principal"):
            event.pop(noise, None)
        event["timestamp"] = str(event["timestamp"])[11:23]
        return console(logger, name, {key: _shown(value) for key, value in event.items() if value is not None})

    return render


def _shown(value: Any) -> Any:
    plain = value is None or isinstance(value, str | int | float | list | dict | tuple)
    return value if plain else redact(_plain(value))


_processors[:] = [_add_own_facts, _enrich, _redact_event, _render_json]
