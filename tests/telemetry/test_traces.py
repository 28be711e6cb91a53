"""One trace from request to handler; links for late runs; nothing secret; no cost when off."""

import threading
import time
import timeit
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.context import current, use
from shared.telemetry import (
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
    trace_ids,
    traces,
    tracing_enabled,
)
from shared.telemetry.testing import captured_spans

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACE_ID, SPAN_ID = TRACEPARENT.split("-")[1:3]


def long_ago(seconds=301.0):
    return datetime.now(UTC) - timedelta(seconds=seconds)


@pytest.fixture
def spans():
    with captured_spans() as spans:
        yield spans


def test_one_trace_from_request_through_outbox_job_event_and_handler(spans):
    now = datetime.now(UTC)
    with request_span("POST", traceparent=TRACEPARENT) as request:
        job_row = inject()
        request.route("/v1/orders/<id>/label").status(202)
    with publish_span("labels", "labels", "j-1", traceparent=job_row):
        pass
    with job_span("purchase_label", "labels", "j-1", 1, job_row, now) as attempt:
        with client_span("shippo", "create_transaction", "POST", "https://u:p@api.goshippo.com/transactions") as call:
            call.status(201)
        outbox_row = inject()
        attempt.outcome("succeeded")
    with publish_span("events", "backroom.shipping.label.purchased.v1", "e-1", traceparent=outbox_row):
        pass
    with job_span("label_to_deal", "crm.events", "j-2", 1, outbox_row, now, event_id="e-1", event_type="t"):
        pass

    assert spans.tree().splitlines() == [
        "POST /v1/orders/<id>/label",
        "  publish labels",
        "  process labels",
        "    shippo create_transaction",
        "    publish events",
        "    process crm.events",
    ]
    assert spans.trace_ids == {TRACE_ID}
    assert [s.kind for s in spans] == ["server", "producer", "consumer", "client", "producer", "consumer"]
    assert spans.one("POST /v1/orders/<id>/label").parent_id == SPAN_ID
    assert spans.one("process labels").parent is spans.one("POST /v1/orders/<id>/label")
    assert not any(s.failed for s in spans)


def test_messaging_attributes_follow_the_conventions(spans):
    with publish_span("events", "backroom.x.y.z.v1", "e-1", traceparent=TRACEPARENT):
        pass
    with job_span("purchase_label", "labels", "j-1", 2, TRACEPARENT):
        pass
    published, processed = spans.one("publish events").attributes, spans.one("process labels").attributes
    assert published == {
        "messaging.system": "rabbitmq",
        "messaging.operation.type": "publish",
        "messaging.operation.name": "publish",
        "messaging.destination.name": "events",
        "messaging.rabbitmq.destination.routing_key": "backroom.x.y.z.v1",
        "messaging.message.id": "e-1",
    }
    assert processed == {
        "messaging.system": "rabbitmq",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": "labels",
        "messaging.message.id": "j-1",
        "backroom.job_id": "j-1",
        "backroom.job.actor": "purchase_label",
        "backroom.job.attempt": 2,
    }


def test_spans_carry_the_facts_of_the_work(spans):
    with use(service="shipping", tenant_id="t-1", request_id="r-1", job_id="j-1", event_id="e-1"), span("x"):
        pass
    assert spans.one("x").attributes == {
        "backroom.service": "shipping",
        "backroom.tenant_id": "t-1",
        "backroom.request_id": "r-1",
        "backroom.job_id": "j-1",
        "backroom.event_id": "e-1",
    }


@pytest.mark.parametrize(("age", "linked"), [(0, False), (290, False), (301, True), (86_400, True)])
def test_a_run_long_after_the_creation_is_linked_instead(spans, age, linked):
    with job_span("a", "labels", "j-1", 3, TRACEPARENT, long_ago(age)):
        pass
    late = spans.one("process labels")
    assert (late.trace_id != TRACE_ID) is linked
    assert (late.parent_id is None) is linked
    assert (late.links == (SPAN_ID,)) is linked


def test_a_job_without_a_cause_is_a_trace_of_its_own_whatever_the_thread_did_before(spans):
    with span("left open by mistake"):
        with job_span("sweep", "sweeps", "j-1", 1):
            pass
        with request_span("GET"):
            pass
    assert spans.one("process sweeps").parent_id is None
    assert spans.one("GET").parent_id is None
    assert len(spans.trace_ids) == 3


def test_spans_nest_and_the_context_is_restored_after_an_error(spans):
    with span("outer"):
        before = inject()
        with pytest.raises(KeyError), span("inner"):
            raise KeyError("x")
        assert inject() == before
    assert inject() is None
    assert spans.one("inner").parent is spans.one("outer")
    assert (spans.one("inner").failed, spans.one("outer").failed) == (True, False)
    assert spans.one("inner").attributes["error.type"] == "KeyError"


def test_generic_spans_take_a_parent_or_links(spans):
    with span("child", "consumer", {"n": 1, "none": None}, parent=TRACEPARENT):
        pass
    with span("outer"), span("batch", links=[TRACEPARENT, "nonsense", TRACEPARENT.replace("4bf", "5bf")]):
        pass
    child, batch = spans.one("child"), spans.one("batch")
    assert (child.parent_id, child.kind, child.attributes) == (SPAN_ID, "consumer", {"n": 1})
    assert (batch.parent_id, batch.links) == (None, (SPAN_ID, SPAN_ID))


def test_publishing_without_any_cause_makes_no_trace(spans):
    with publish_span("events", "x", "e-1") as nothing:
        assert not nothing.recording
    assert len(spans) == 0
    with span("outer"), publish_span("events", "x", "e-1"):
        pass
    assert spans.one("publish events").parent is spans.one("outer")


@pytest.mark.parametrize(
    ("make", "code", "failed"),
    [
        (lambda: request_span("GET"), 404, False),
        (lambda: request_span("GET"), 503, True),
        (lambda: client_span("shippo", "get_rate"), 302, False),
        (lambda: client_span("shippo", "get_rate"), 429, True),
    ],
)
def test_a_status_is_a_failure_by_side(spans, make, code, failed):
    with make() as made:
        made.status(code)
    (seen,) = spans
    assert seen.failed is failed
    assert seen.attributes["http.response.status_code"] == code
    assert seen.attributes.get("error.type") == (str(code) if failed else None)


def test_outcomes_of_attempts(spans):
    with job_span("a", "q", "j-1", 1) as attempt:
        attempt.outcome("retry", "carrier_unavailable")

    def fail():
        with job_span("a", "q", "j-1", 2) as attempt:
            attempt.outcome("failed", "address_rejected")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    retried, failed = spans.named("process q")
    assert (retried.attributes["backroom.job.outcome"], retried.failed) == ("retry", True)
    assert failed.attributes["error.type"] == "address_rejected", "the more precise code stays"


def test_an_interruption_is_no_failure(spans):
    with pytest.raises(KeyboardInterrupt), span("x"):
        raise KeyboardInterrupt
    assert not spans.one("x").failed


def test_nothing_secret_reaches_a_span(spans):
    secret = "s3cr3t-Zq9"
    url = f"https://u:{secret}@h:8443/p/{secret}?token={secret}"

    def fail():
        with client_span("shippo", "x", "GET", url) as call:
            call.set({"header": f"ShippoToken {secret}"})
            raise ValueError(f"GET /x?token={secret}")

    with pytest.raises(ValueError, match="GET /x"):
        fail()
    seen = spans.one("shippo x")
    assert secret not in repr((seen.name, seen.attributes, seen.events))
    assert (seen.attributes["server.address"], seen.attributes["server.port"]) == ("h", 8443)
    assert seen.events[0][1]["exception.message"] == "GET /x?token=[redacted]"


def test_a_malformed_url_is_not_our_problem(spans):
    with client_span("shippo", "x", "GET", "http://[::1"):
        pass
    assert len(spans) == 1


def test_threads_do_not_share_their_current_span(spans):
    seen = []
    with span("main"):
        thread = threading.Thread(target=lambda: seen.append(inject()))
        thread.start()
        thread.join()
    assert seen == [None]


def test_ids_for_logs_are_those_of_the_current_span(spans):
    with span("x"):
        ids = trace_ids()
    assert ids == (spans.one("x").trace_id, spans.one("x").span_id)


def test_one_says_what_there_was_instead(spans):
    with span("outer"), span("inner"):
        pass
    with pytest.raises(AssertionError, match="0 spans named 'missing'"):
        spans.one("missing")


# --- traceparent ----------------------------------------------------------------------------------------


def test_extract_and_back():
    parsed = extract(TRACEPARENT)
    assert (parsed.trace_id, parsed.span_id, parsed.sampled) == (TRACE_ID, SPAN_ID, True)
    assert str(parsed) == TRACEPARENT
    assert extract(TRACEPARENT[:-2] + "00").sampled is False
    assert extract("cc" + TRACEPARENT[2:] + "-future").trace_id == TRACE_ID


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "nonsense",
        TRACEPARENT.upper(),
        TRACEPARENT + "-more",
        "ff" + TRACEPARENT[2:],
        f"00-{'0' * 32}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        TRACEPARENT + "\n" * 600,
    ],
)
def test_what_is_malformed_is_ignored(text, spans):
    assert extract(text) is None
    with request_span("GET", traceparent=text):
        pass
    assert spans.one("GET").parent_id is None


@given(st.text(max_size=80))
def test_any_header_can_be_read(text):
    parsed = extract(text)
    assert parsed is None or extract(str(parsed)) == parsed


def test_what_is_injected_can_be_extracted(spans):
    with span("x"):
        text = inject()
    assert str(extract(text)) == text
    assert extract(text).span_id == spans.one("x").span_id


# --- Off ------------------------------------------------------------------------------------------------


def test_off_without_an_endpoint(monkeypatch):
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", raising=False)
    assert configure_tracing("shipping") is False
    assert not tracing_enabled()


def test_off_with_a_warning_without_the_sdk(monkeypatch, caplog):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.sdk.trace", None)
    assert configure_tracing("shipping") is False
    assert "install the extra 'tracing'" in caplog.text


def test_off_when_switched_off(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert configure_tracing("shipping") is False


def test_on_with_an_exporter_and_off_again(monkeypatch):
    from opentelemetry import trace
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    monkeypatch.setattr(trace, "set_tracer_provider", lambda provider: None)  # may be set once per process
    exporter = InMemorySpanExporter()
    assert configure_tracing("shipping", version="1.2", env="test", exporter=exporter)
    try:
        with span("x"):
            pass
    finally:
        shutdown_tracing()
    (seen,) = exporter.get_finished_spans()
    resource = seen.resource.attributes
    assert [resource[f"service.{key}"] for key in ("name", "namespace", "version")] == [
        "shipping",
        "backroom",
        "1.2",
    ]
    assert resource["deployment.environment.name"] == "test"
    assert not tracing_enabled()


def test_spans_go_out_over_otlp_and_a_dead_collector_delays_no_shutdown(monkeypatch):
    from opentelemetry import trace

    posted = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self):
            posted.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    monkeypatch.setattr(trace, "set_tracer_provider", lambda provider: None)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
    try:
        assert configure_tracing("shipping")
        with span("over the wire"):
            pass
        shutdown_tracing()
    finally:
        server.shutdown()
        server.server_close()
    ((path, body),) = posted
    assert path == "/v1/traces"
    assert b"over the wire" in body

    assert configure_tracing("shipping")  # nobody listens any more
    with span("lost"):
        pass
    start = time.monotonic()
    shutdown_tracing(timeout_seconds=0.2)
    assert time.monotonic() - start < 5


def test_off_every_helper_hands_out_the_same_idle_span():
    idle = [
        span("x", "client", {"a": 1}, parent=TRACEPARENT),
        request_span("GET"),
        request_span("GET", traceparent="nonsense"),
        publish_span("events", "x", "e-1", traceparent=TRACEPARENT),
        job_span("a", "q", "j-1", 1),
        client_span("shippo", "x"),
    ]
    assert {id(one) for one in idle} == {id(traces._NOOP)}
    with idle[0] as quiet:
        assert quiet.set({"a": 1}).fail("x").route("/").status(500).outcome("failed", "x") is quiet
        assert not quiet.recording
    assert inject() is None
    assert trace_ids() is None


def test_off_a_callers_trace_is_passed_on():
    with request_span("GET", traceparent=TRACEPARENT):
        assert inject() == TRACEPARENT
        assert trace_ids() == (TRACE_ID, SPAN_ID)
        stored = inject()
    assert current().traceparent is None
    with job_span("a", "q", "j-1", 1, stored, long_ago()):
        assert inject() == TRACEPARENT
    assert inject() is None


def test_an_idle_span_has_every_method_of_a_recording_one():
    public = {name for name in vars(traces._RecordedSpan) if not name.startswith("_")}
    assert public <= set(vars(Span))


def test_off_costs_next_to_nothing():
    """By ratio, since machines differ: an idle span against the cheapest context manager there is,
    and against a recorded span."""

    def nothing():
        with nullcontext():
            pass

    def job():
        with job_span("purchase_label", "labels", "j-1", 1):
            pass

    def fastest(function):
        return min(timeit.repeat(function, number=2000, repeat=7, timer=time.thread_time))

    idle = fastest(job)
    assert idle < 8 * fastest(nothing)
    with captured_spans():
        assert idle * 10 < fastest(job)
