"""One form for all logs, with the facts of the work and without secrets."""

import io
import json
import logging
import subprocess
import sys
import textwrap
import threading
import warnings
from datetime import UTC, datetime

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.context import use
from shared.telemetry import get_logger, logs
from shared.telemetry.logs import PROBE_PATHS, is_probe
from shared.telemetry.testing import captured_logs

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_line_is_json_with_the_facts_of_the_work(configure):
    lines = configure(version="1.2", env="test")
    with use(
        tenant_id="t-1",
        request_id="r-1",
        job_id="j-1",
        job_actor="purchase_label",
        attempt=2,
        event_id="e-1",
        traceparent=TRACEPARENT,
    ):
        get_logger("services.shipping").info("job_attempt", outcome="succeeded", duration_seconds=0.5)
    line = lines.last
    assert datetime.fromisoformat(line.pop("timestamp")).tzinfo == UTC
    assert line == {
        "level": "info",
        "event": "job_attempt",
        "logger": "services.shipping",
        "outcome": "succeeded",
        "duration_seconds": 0.5,
        "service": "shipping",
        "version": "1.2",
        "env": "test",
        "tenant_id": "t-1",
        "request_id": "r-1",
        "job_id": "j-1",
        "job_actor": "purchase_label",
        "attempt": 2,
        "event_id": "e-1",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "span_id": "00f067aa0ba902b7",
    }


def test_the_service_of_the_context_wins_over_that_of_the_process(lines):
    with use(service="crm"):
        get_logger("x").info("here")
    assert lines.last["service"] == "crm"


@pytest.mark.parametrize(
    "name",
    [
        "gunicorn.error",
        "dramatiq.worker.WorkerThread",
        "periodiq",
        "pika.adapters",
        "alembic.runtime",
        "other",
    ],
)
def test_foreign_loggers_come_out_in_the_same_form(lines, name):
    with use(tenant_id="t-1", job_id="j-1"):
        logging.getLogger(name).warning("lost %s at %d", "Bearer abcdef", 7, extra={"token": "x", "queue": "labels"})
    line = lines.last
    assert line["event"] == "lost Bearer [redacted] at 7"
    assert ("warning", name, "shipping", "t-1", "j-1") == tuple(
        line[key] for key in ("level", "logger", "service", "tenant_id", "job_id")
    )
    assert (line["token"], line["queue"]) == ("[redacted]", "labels")
    assert len(lines.all) == 1


def test_handlers_that_libraries_installed_are_replaced(configure):
    logger = logging.getLogger("gunicorn.error")
    own = io.StringIO()
    logger.addHandler(logging.StreamHandler(own))
    logger.propagate = False
    lines = configure()
    logger.warning("once")
    assert lines.last["event"] == "once"
    assert own.getvalue() == ""


def test_configuring_again_does_not_double_the_lines(configure):
    configure()
    lines = configure()
    logging.getLogger("x").warning("once")
    get_logger("x").warning("twice")
    assert [line["event"] for line in lines.all] == ["once", "twice"]


def test_a_logger_in_use_follows_a_new_configuration(configure):
    first = configure()
    log = get_logger("x")
    log.info("one")
    second = configure(service="crm")
    log.info("two")
    assert [line["event"] for line in first.all] == ["one"]
    assert [(line["event"], line["service"]) for line in second.all] == [("two", "crm")]


def test_levels_hold_for_both_kinds_of_logger(configure):
    lines = configure(level="warning")
    get_logger("x").info("no")
    logging.getLogger("x").info("no")
    logging.getLogger("pika").warning("yes")
    assert [line["event"] for line in lines.all] == ["yes"]


def test_an_unknown_level_is_refused(configure):
    with pytest.raises(ValueError, match="unknown log level 'loud'"):
        configure(level="loud")


def test_exceptions_are_text_without_secrets(lines):
    try:
        raise ValueError("GET https://u:pass-word@h/?token=abcdef")
    except ValueError as error:
        get_logger("x").exception("own")
        get_logger("x").error("given", exc_info=error)
        logging.getLogger("y").exception("foreign")
    for line in lines.all:
        assert line["level"] == "error"
        assert "Traceback" in line["exception"]
        assert "ValueError: GET https://[redacted]@h/?token=[redacted]" in line["exception"]
    assert "pass-word" not in lines.getvalue()
    assert "abcdef" not in lines.getvalue()


def test_uncaught_exceptions_of_threads_are_logged(lines):
    def fail():
        raise RuntimeError("password=hunter22")

    thread = threading.Thread(target=fail, name="relay")
    thread.start()
    thread.join()
    line = lines.last
    assert (line["event"], line["level"], line["thread"]) == ("uncaught_exception", "critical", "relay")
    assert "hunter22" not in lines.getvalue()


def test_a_record_that_cannot_be_formatted_loses_no_secret(lines, capsys):
    record = logging.makeLogRecord({"name": "x", "levelno": 30, "msg": "count %d", "args": ("token=abcdef",)})
    ours = next(handler for handler in logging.getLogger().handlers if isinstance(handler, logs._Handler))
    ours.handle(record)  # not through the root, where the test runner's handlers raise
    assert lines.last["event"] == "unloggable_record"
    assert "abcdef" not in lines.getvalue() + capsys.readouterr().err


def test_warnings_are_logged(lines):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert lines.last["logger"] == "py.warnings"


class _Odd:
    def __str__(self):
        return "Odd(password=hunter22)"


class _Broken:
    def __str__(self):
        raise RuntimeError


@pytest.mark.parametrize(
    "value",
    [
        _Odd(),
        {"nested": _Odd()},
        [_Odd()],
        {1: _Odd()},
        datetime.now(UTC),
        {"a"},
        b"token=hunter22",
        "\ud800",
    ],
)
def test_any_value_can_be_logged(lines, value):
    get_logger("x").info("odd", value=value)
    assert lines.last["event"] == "odd"
    assert "hunter22" not in lines.getvalue()


def test_what_cannot_be_written_costs_its_value_not_the_line(lines):
    get_logger("x").info("broken", value=_Broken(), order="o-1")
    assert tuple(lines.last[key] for key in ("event", "order", "unloggable")) == (
        "broken",
        "o-1",
        "RuntimeError",
    )


def test_one_event_is_one_line_whatever_it_says(lines):
    get_logger("x").info('forged\n{"event": "other"}', text="a\r\nb\u2028c")
    assert len(lines.getvalue().split("\n")) - 1 == 1
    assert lines.getvalue().isascii()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    secret=st.text("abcXYZ0189-_", min_size=8, max_size=30).map(lambda text: f"q7{text}7q"),
    noise=st.text(max_size=20),
    key=st.sampled_from(["token", "Authorization", "api_key", "signature", "cookie", "password"]),
)
def test_a_planted_secret_never_appears_in_the_output(lines, secret, noise, key):
    lines.seek(0)
    lines.truncate()
    try:
        raise ValueError(f"{noise} {key}={secret}")
    except ValueError:
        get_logger("x").exception(
            f"call to https://u:{secret}@host/?{key}={secret}", **{key: secret}, more={key: [secret]}
        )
        logging.getLogger("y").exception("%s Bearer %s", noise, secret, extra={key: secret})
    assert secret not in lines.getvalue()
    assert len(lines.all) == 2


def test_probes_are_not_logged(lines):
    for path in PROBE_PATHS:
        get_logger("web").info("request", path=path, status=200)
        logging.getLogger("gunicorn.access").info('1.2.3.4 - "GET %s HTTP/1.1" 200', path)
    assert lines.getvalue() == ""


def test_failing_probes_and_other_requests_are_logged(lines):
    get_logger("web").warning("request", path="/readyz", status=503)
    get_logger("web").info("request", path="/v1/orders", status=200)
    logging.getLogger("gunicorn.access").info('1.2.3.4 - "GET /v1/orders HTTP/1.1" 200')
    assert len(lines.all) == 3
    assert is_probe("/livez")
    assert not is_probe("/v1/orders")
    assert not is_probe(None)


def test_for_a_terminal_it_is_text_and_as_safe(configure):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = configure(stream=Terminal())
    try:
        raise ValueError("token=abcdef")
    except ValueError:
        get_logger("x").exception("failed", order="o-1", odd=_Odd())
    logging.getLogger("y").warning("foreign")
    text = terminal.getvalue()
    assert "failed" in text
    assert "o-1" in text
    assert "foreign" in text
    assert "ValueError: token=[redacted]" in text
    assert "hunter22" not in text
    assert "\x1b[" in text


def test_a_stream_that_was_closed_does_not_raise(configure):
    stream = configure()
    stream.close()
    get_logger("x").info("too late")
    logging.getLogger("x").warning("too late")


def test_stdout_is_where_it_goes_and_uncaught_exceptions_too(tmp_path):
    program = textwrap.dedent(
        """
        from shared.telemetry import configure_logging, get_logger
        configure_logging("shipping")
        get_logger("x").info("hello")
        raise RuntimeError("token=abcdef")
        """
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == ""
    assert [json.loads(line)["event"] for line in done.stdout.splitlines()] == ["hello", "uncaught_exception"]
    assert "abcdef" not in done.stdout


def test_captured_logs_sees_own_and_foreign_lines_and_leaves_nothing_behind(configure):
    written = configure(level="INFO")
    log = get_logger("x")
    log.info("before")
    with use(tenant_id="t-1"), captured_logs() as lines:
        log.info("own", token="abcdef")
        get_logger("new").debug("fresh")
        logging.getLogger("y").warning("foreign %s", "Bearer abcdef")
    log.info("after")
    get_logger("new").debug("below the level again")
    logging.getLogger("y").warning("after too")
    assert [line["event"] for line in lines] == ["own", "fresh", "foreign Bearer [redacted]"]
    assert (lines.one("own")["tenant_id"], lines.one("own")["token"]) == ("t-1", "[redacted]")
    assert [line["event"] for line in written.all] == ["before", "after", "after too"]
    with pytest.raises(AssertionError, match=r"0 lines 'missing' among \['own'"):
        lines.one("missing")


def test_captured_logs_works_without_any_configuration():
    structlog.reset_defaults()
    with captured_logs() as lines:
        get_logger("x").info("own")
    assert lines.one("own")["logger"] == "x"
    assert not structlog.is_configured()


def test_gunicorn_leaves_logging_to_us(configure):
    gunicorn = pytest.importorskip("gunicorn.config", reason="gunicorn does not run on this system")
    from shared.telemetry.gunicorn import Logger

    lines = configure()
    logger = Logger(gunicorn.Config())
    logger.info("Listening at: %s", "http://127.0.0.1:8000")
    logger.access(None, None, {}, None)
    assert [line["event"] for line in lines.all] == ["Listening at: http://127.0.0.1:8000"]
    assert [line["logger"] for line in lines.all] == ["gunicorn.error"]
