"""The numbers: their exposition, what may be a label, the database's figures, and the side port."""

import re
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from shared.context import use
from shared.telemetry import metrics
from shared.telemetry.metrics import (
    DATABASE_METRICS,
    REGISTRY,
    DatabaseCollector,
    Heartbeat,
    metrics_app,
    serve,
    watch_database,
)

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"


def value(name, **labels):
    return REGISTRY.get_sample_value(name, labels) or 0.0


def exposition(registry=REGISTRY):
    """What a scrape gets, parsed: name → family."""
    answered = []
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/metrics",
        "QUERY_STRING": "",
        "HTTP_ACCEPT": "text/plain",
    }
    body = b"".join(metrics_app(registry)(environ, lambda status, headers: answered.append(status)))
    assert answered == ["200 OK"]
    return {family.name: family for family in text_string_to_metric_families(body.decode())}


@pytest.fixture
def record_everything():
    """Every function was called once, for the service `shipping`."""
    with use(service="shipping", tenant_id="tenant-77", job_id="job-77"):
        metrics.http_request("GET", "/v1/orders/<id>", 200, 0.02)
        metrics.job_started("purchase_label", 0.4)
        metrics.job_finished("purchase_label", "succeeded", 1.5)
        metrics.job_recovered("purchase_label")
        metrics.event_published("backroom.shipping.label.purchased.v1", 2)
        metrics.event_handled("backroom.imports.batch.finished.v1", "succeeded")
        metrics.provider_request("shippo", "create_transaction", "ok", 2.2)
        metrics.circuit_changed("shippo", True)
        metrics.relay_published(20, 5, 0.01)
        metrics.relay_failed("broker")
        metrics.relay_leads(True)
        metrics.set_build_info("shipping", "1.2.3")
    figures = {
        name: {tuple(f"some_{label}" for label in labels): 1.0} for name, (_, labels) in DATABASE_METRICS.items()
    }
    watch_database("shipping", lambda: figures)
    yield
    metrics._DATABASES.remove("shipping")


def test_what_is_recorded_is_exposed(record_everything):
    families = exposition()
    requests = {tuple(sorted(s.labels.items())): s.value for s in families["http_requests"].samples if s.value}
    labels = {"service": "shipping", "method": "GET", "route": "/v1/orders/<id>", "status": "200"}
    assert requests[tuple(sorted(labels.items()))] >= 1
    assert value("relay_published_total", service="shipping", kind="event") >= 5
    assert value("job_wait_seconds_bucket", service="shipping", actor="purchase_label", le="0.5") >= 1
    assert value("jobs_oldest_due_age_seconds", service="shipping", queue="some_queue") == 1.0
    assert value("database_scrape_success", service="shipping") == 1.0


def test_no_label_names_a_tenant_or_a_job(record_everything):
    for family in exposition().values():
        for sample in family.samples:
            assert not {"tenant_id", "tenant", "job_id", "request_id", "principal"} & sample.labels.keys()
            assert not {"tenant-77", "job-77"} & set(sample.labels.values())


def test_names_follow_the_rules_of_prometheus():
    ours = [f for f in REGISTRY.collect() if not f.name.startswith(("process_", "python_"))]
    for family in ours:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", family.name)
        assert not re.search(r"_(ms|milliseconds|minutes|kb)$", family.name), "base units only"
        assert family.documentation.endswith("."), family.name


def test_a_client_cannot_make_up_series():
    with use(service="shipping"):
        before = value("http_requests_total", service="shipping", method="OTHER", route="unmatched", status="404")
        for number in range(3):
            metrics.http_request(f"HACK{number}", None, 404, 0.001)
    after = value("http_requests_total", service="shipping", method="OTHER", route="unmatched", status="404")
    assert after == before + 3


def test_a_wait_below_zero_counts_as_zero():
    with use(service="clock"):
        metrics.job_started("a", -5.0)
    assert value("job_wait_seconds_sum", service="clock", actor="a") == 0.0


# --- Figures from the database --------------------------------------------------------------------------


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Database:
    """Counts how often it is asked."""

    def __init__(self, figures=None):
        self.asked = 0
        self.figures = figures or {"outbox_pending": {(): 3}}

    def __call__(self):
        self.asked += 1
        if isinstance(self.figures, Exception):
            raise self.figures
        return self.figures


def collected(collector):
    registry = CollectorRegistry()
    registry.register(collector)
    return registry.get_sample_value


def test_many_scrapes_are_one_query():
    database, clock = Database(), Clock()
    sample = collected(DatabaseCollector(database, "shipping", cache_seconds=5, clock=clock))
    for _ in range(10):
        assert sample("outbox_pending", {"service": "shipping"}) == 3
    assert database.asked == 1
    clock.now += 4.9
    sample("outbox_pending", {"service": "shipping"})
    assert database.asked == 1
    clock.now += 0.2
    sample("outbox_pending", {"service": "shipping"})
    assert database.asked == 2


def test_registering_asks_nothing():
    database = Database()
    collected(DatabaseCollector(database, "shipping"))
    assert database.asked == 0


def test_a_cache_below_five_seconds_is_refused():
    with pytest.raises(ValueError, match="at least 5 seconds"):
        DatabaseCollector(Database(), cache_seconds=4.9)


@pytest.mark.parametrize(
    "figures",
    [
        ConnectionError("password=x"),
        {"jobs_by_state": {("only-one",): 1}},
        {"never_heard_of": {(): 1}},
        {"outbox_pending": {(): None}},
    ],
)
def test_figures_that_cannot_be_had_are_absent_and_say_so(figures):
    database, clock = Database(), Clock()
    sample = collected(DatabaseCollector(database, "shipping", cache_seconds=5, clock=clock))
    labels = {"service": "shipping"}
    assert sample("outbox_pending", labels) == 3
    assert sample("database_scrape_success", labels) == 1
    database.figures = figures
    clock.now += 6
    assert sample("outbox_pending", labels) is None
    assert sample("database_scrape_success", labels) == 0
    assert database.asked == 2, "a database in trouble is not asked more often"
    database.figures = {"outbox_pending": {(): 4}}
    clock.now += 6
    assert sample("outbox_pending", labels) == 4


def test_one_services_trouble_leaves_the_other_alone():
    collector = DatabaseCollector(Database(ConnectionError()), "crm")
    collector.add("shipping", Database())
    sample = collected(collector)
    assert sample("outbox_pending", {"service": "shipping"}) == 3
    assert sample("database_scrape_success", {"service": "crm"}) == 0
    collector.remove("crm")
    assert sample("database_scrape_success", {"service": "crm"}) is None


def test_a_slow_query_holds_up_one_scrape_only():
    clock, entered, go = Clock(), threading.Event(), threading.Event()
    slow = threading.Event()

    def query():
        if slow.is_set():
            entered.set()
            assert go.wait(10)
            return {"outbox_pending": {(): 2}}
        return {"outbox_pending": {(): 1}}

    sample = collected(DatabaseCollector(query, "shipping", cache_seconds=5, clock=clock))
    labels = {"service": "shipping"}
    assert sample("outbox_pending", labels) == 1
    slow.set()
    clock.now += 6
    scrape = threading.Thread(target=sample, args=("outbox_pending", labels))
    scrape.start()
    assert entered.wait(10)
    assert sample("outbox_pending", labels) == 1, "from before, without waiting"
    go.set()
    scrape.join(10)
    assert sample("outbox_pending", labels) == 2


# --- The side port --------------------------------------------------------------------------------------


def get(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_the_side_port_answers_metrics_and_liveness():
    clock = Clock()
    heartbeat = Heartbeat(60, clock)
    server = serve(0, heartbeat.alive)
    try:
        assert get(server.port, "/livez") == (200, "ok\n")
        status, text = get(server.port, "/metrics")
        assert status == 200
        assert "jobs_started_total" in text
        clock.now += 60
        assert get(server.port, "/livez") == (503, "Service Unavailable\n")
        heartbeat.beat()
        assert get(server.port, "/livez")[0] == 200
        assert get(server.port, "/other")[0] == 404
    finally:
        server.close()


def test_a_liveness_check_that_raises_is_not_alive():
    def broken():
        raise RuntimeError

    server = serve(0, broken)
    try:
        assert get(server.port, "/livez")[0] == 503
    finally:
        server.close()


def test_a_taken_port_is_an_error_and_a_closed_one_is_free():
    server = serve(0)
    with pytest.raises(OSError, match="in use"):
        serve(server.port)
    server.close()
    serve(server.port).close()


def test_a_loop_that_never_began_is_found_out():
    clock = Clock()
    heartbeat = Heartbeat(60, clock)
    clock.now += 59
    assert heartbeat.alive()
    clock.now += 1
    assert not heartbeat.alive()
    assert heartbeat.age_seconds() == 60


# --- The reference page ---------------------------------------------------------------------------------


def documented():
    """Name → (type, labels) as the page's tables say."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \| [^|]+ \| [^|]+ \|$", PAGE.read_text(), re.MULTILINE)
    return {name: (kind, re.findall(r"`(\w+)`", labels)) for name, kind, labels in rows}


def declared():
    """Name → (type, labels) as the registry says, the process's and platform's own left out."""
    found = {}
    for name, (_, labels) in DATABASE_METRICS.items():
        found[name] = ("gauge", ["service", *labels])
    found["database_scrape_success"] = ("gauge", ["service"])
    for metric in vars(metrics).values():
        if hasattr(metric, "_labelnames"):
            kind = metric._type
            suffix = "_total" if kind == "counter" else ""
            found[metric._name + suffix] = (kind, list(metric._labelnames))
    return found


def test_the_reference_page_lists_each_metric_with_type_and_labels():
    assert documented() == declared()


def test_everything_in_the_registry_is_declared_or_standard(record_everything):
    names = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in REGISTRY.collect()
        if not family.name.startswith(("process_", "python_"))
    }
    assert names == set(declared())
