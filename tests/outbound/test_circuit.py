"""The breaker over threads and processes: it opens once, lets one probe through, and closes once."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.orm import Session

from shared.context import SYSTEM, current, use
from shared.db.database import Database, unit_of_work
from shared.outbound import CircuitOpen, RateLimited, Refused, Unavailable, UnknownOutcome
from shared.outbound.circuit import CircuitBreaker, CircuitSettings
from shared.outbound.client import Client, Timeouts
from shared.telemetry import metrics
from tests.outbound.raw_server import Server, answer

DOWN = Unavailable("time-out")


class Bench:
    """A breaker with a clock of the test's own and a list of what its hooks were told."""

    def __init__(self, provider: str) -> None:
        self.now = datetime(2026, 3, 1, 12, tzinfo=UTC)
        self.provider = provider
        self.events: list[tuple[Any, ...]] = []
        self.breaker = self.make()

    def make(self) -> CircuitBreaker:
        """Another process's breaker: it knows nothing but the table."""
        breaker = CircuitBreaker(CircuitSettings(failures=3, cache=0), clock=lambda: self.now)
        breaker.on_open = lambda session, **facts: self.events.append(("open", facts["waiting"], facts["last_error"]))
        breaker.on_close = lambda session, **facts: self.events.append(("close", facts["opened_at"]))
        breaker.count_waiting = lambda session, **_: 7
        return breaker

    def fail(self, times: int = 1, breaker: CircuitBreaker | None = None, error: Exception = DOWN) -> None:
        for _ in range(times):
            (breaker or self.breaker).before(self.provider).failed(error)  # type: ignore[arg-type]

    def pass_(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def refused_until(self) -> float:
        with pytest.raises(CircuitOpen) as caught:
            self.breaker.before(self.provider)
        return (caught.value.retry_at - self.now).total_seconds()


@pytest.fixture
def bench(tenant: str) -> Bench:
    return Bench(tenant)


def test_it_opens_after_failures_in_a_row_and_closes_by_a_probe(bench: Bench) -> None:
    bench.fail(2)
    bench.breaker.before(bench.provider).succeeded()
    bench.fail(2)
    assert bench.events == []
    bench.fail(1, error=UnknownOutcome("no answer"))
    assert bench.events == [("open", 7, "provider_unknown_outcome: no answer")]
    assert bench.refused_until() == 5
    bench.pass_(5)
    probe = bench.breaker.before(bench.provider)
    assert probe.probe
    assert bench.refused_until() == 60, "one probe at a time"
    probe.succeeded()
    assert bench.events[1:] == [("close", bench.now - timedelta(seconds=5))]
    bench.breaker.before(bench.provider).succeeded()
    assert len(bench.events) == 2


def test_failures_far_apart_do_not_add_up(bench: Bench) -> None:
    for _ in range(10):
        bench.fail(2)
        bench.pass_(61)
    assert bench.events == []


@pytest.mark.parametrize("error", [Refused("no"), RateLimited("slow", retry_after=1)])
def test_an_answer_is_no_failure(bench: Bench, error: Exception) -> None:
    bench.fail(2)
    bench.fail(1, error=error)
    bench.fail(2)
    assert bench.events == []
    bench.fail(1)
    bench.pass_(5)
    bench.fail(1, error=error)
    assert [event[0] for event in bench.events] == ["open", "close"]


def test_a_probe_that_fails_waits_longer_and_says_nothing(bench: Bench) -> None:
    bench.fail(3)
    waits = []
    for _ in range(9):
        waits.append(bench.refused_until())
        bench.pass_(waits[-1])
        bench.fail(1)
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300, 300]
    assert [event[0] for event in bench.events] == ["open"]


def test_a_probe_that_never_reports_is_replaced(bench: Bench) -> None:
    bench.fail(3)
    bench.pass_(5)
    lost = bench.breaker.before(bench.provider)
    bench.pass_(60)
    probe = bench.breaker.before(bench.provider)
    assert lost.probe
    assert probe.probe
    probe.succeeded()
    assert [event[0] for event in bench.events] == ["open", "close"]


def test_late_answers_of_earlier_calls_change_nothing(bench: Bench) -> None:
    early = [bench.breaker.before(bench.provider) for _ in range(3)]
    bench.fail(3)
    early[0].succeeded()
    early[1].failed(DOWN)
    assert bench.refused_until() == 5
    bench.pass_(5)
    bench.breaker.before(bench.provider)
    early[2].succeeded()
    assert [event[0] for event in bench.events] == ["open"]


def test_flapping_waits_longer_each_time(bench: Bench) -> None:
    bench.fail(3)
    bench.pass_(5)
    bench.breaker.before(bench.provider).succeeded()
    bench.fail(3)
    assert bench.refused_until() == 10
    bench.pass_(10)
    bench.breaker.before(bench.provider).succeeded()
    bench.pass_(3600)
    bench.fail(3)
    assert bench.refused_until() == 5


def test_another_process_counts_along(bench: Bench) -> None:
    other = bench.make()
    bench.fail(1)
    bench.fail(1, breaker=other)
    bench.fail(1)
    with pytest.raises(CircuitOpen):
        other.before(bench.provider)
    bench.pass_(5)
    other.before(bench.provider).succeeded()
    bench.breaker.before(bench.provider)
    assert [event[0] for event in bench.events] == ["open", "close"]


def test_a_success_elsewhere_breaks_the_row(bench: Bench) -> None:
    other = bench.make()
    bench.fail(2)
    other.before(bench.provider).succeeded()
    bench.fail(2)
    assert bench.events == []


def test_tenants_with_servers_of_their_own_do_not_hinder_each_other(bench: Bench) -> None:
    for _ in range(3):
        bench.breaker.before(bench.provider, per_tenant=True).failed(DOWN)
    with pytest.raises(CircuitOpen):
        bench.breaker.before(bench.provider, per_tenant=True)
    with use(tenant_id=f"{bench.provider}-other"):
        bench.breaker.before(bench.provider, per_tenant=True)
    bench.breaker.before(bench.provider)


def test_the_hook_runs_in_the_transaction_that_opens(bench: Bench, database: Database) -> None:
    seen: list[Any] = []

    def on_open(session: Session, **facts: Any) -> None:
        with unit_of_work() as joined:
            seen.append((joined is session, current().tenant_id))
        session.execute(text("INSERT INTO queues (name) VALUES (:name)"), {"name": bench.provider})
        raise LookupError("a hook that fails")

    bench.breaker.on_open = on_open
    bench.fail(2)
    with pytest.raises(LookupError):
        bench.fail(1)
    assert seen == [(True, SYSTEM)]
    with database.system.connect() as connection:
        count = connection.execute(text("SELECT count(*) FROM queues WHERE name = :n"), {"n": bench.provider})
        assert count.scalar() == 0
    bench.breaker.before(bench.provider)  # still closed


def test_it_works_inside_of_a_unit_of_work_and_apart_from_it(bench: Bench) -> None:
    with unit_of_work() as session:
        bench.fail(3)
        session.rollback()
    assert bench.refused_until() == 5


def test_a_happy_call_costs_no_query(bench: Bench, database: Database) -> None:
    breaker = CircuitBreaker(CircuitSettings(cache=30))
    breaker.before(bench.provider).succeeded()
    statements: list[str] = []

    def count(_c: Any, _k: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    event.listen(database.system, "before_cursor_execute", count)
    for _ in range(100):
        breaker.before(bench.provider).succeeded()
    event.remove(database.system, "before_cursor_execute", count)
    assert statements == []


def test_a_database_that_is_away_does_not_hide_the_outcome(bench: Bench, database: Database) -> None:
    ticket = bench.breaker.before(bench.provider)
    nowhere = Database("postgresql://postgres@127.0.0.1:1/none")
    token = nowhere.bind()
    ticket.failed(DOWN)
    ticket.succeeded()
    nowhere.unbind(token)


def run_threads(count: int, work: Callable[[], None]) -> None:
    barrier = threading.Barrier(count)
    errors: list[BaseException] = []

    def run() -> None:
        try:
            barrier.wait()
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_many_threads_open_once_probe_once_close_once(bench: Bench, database: Database) -> None:
    tickets = [bench.make().before(bench.provider) for _ in range(12)]
    probes = []

    def fail() -> None:
        database.bind()
        tickets.pop().failed(DOWN)

    def ask() -> None:
        database.bind()
        with contextlib.suppress(CircuitOpen):
            probes.append(bench.make().before(bench.provider))

    run_threads(12, fail)
    assert [event[0] for event in bench.events] == ["open"]
    bench.pass_(5)
    run_threads(12, ask)
    assert len(probes) == 1

    def succeed() -> None:
        database.bind()
        probes[0].succeeded()

    run_threads(6, succeed)
    assert [event[0] for event in bench.events] == ["open", "close"]


PROCESS = """
import sys, time
from sqlalchemy import text
from shared.db.database import Database
from shared.outbound import CircuitOpen, Unavailable
from shared.outbound.circuit import CircuitBreaker, CircuitSettings

url, provider = sys.argv[1:]
Database(url).use_as_default()
breaker = CircuitBreaker(CircuitSettings(failures=5, first_wait=0.3, probe_lease=30, cache=0.05))
def note(kind):
    def hook(session, **_):
        session.execute(text(
            "INSERT INTO outbox (id, tenant_id, type, subject, data) "
            "VALUES (gen_random_uuid(), 'x', :kind, :provider, '{}')"), {"kind": kind, "provider": provider})
    return hook
breaker.on_open, breaker.on_close = note("opened"), note("closed")
print("ready", flush=True)
sys.stdin.readline()
back = time.monotonic() + 1.5
closed_again = 0
while time.monotonic() < back + 10 and closed_again < 3:
    try:
        ticket = breaker.before(provider)
    except CircuitOpen:
        time.sleep(0.02)
        continue
    if time.monotonic() < back:
        ticket.failed(Unavailable("down"))
    else:
        ticket.succeeded()
        closed_again += 1
print("done", closed_again, flush=True)
"""


def test_processes_share_one_circuit(bench: Bench, database: Database) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, database.url, bench.provider],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        assert process.communicate(timeout=60)[0].endswith("done 3\n")
    with database.system.connect() as connection:
        rows = connection.execute(
            text("SELECT type, count(*) FROM outbox WHERE subject = :p GROUP BY type"), {"p": bench.provider}
        ).all()
    assert dict(rows) == {"opened": 1, "closed": 1}


def test_a_client_behind_a_breaker(bench: Bench, server: Server) -> None:
    client = Client("acme-down", server.url, timeouts=Timeouts(1, 1, 1), breaker=bench.breaker)

    def gauge() -> float | None:
        return metrics.REGISTRY.get_sample_value("circuit_open", {"service": "", "provider": "acme-down"})

    server.handler = answer(b"", "503 Away")
    for _ in range(3):
        with pytest.raises(Unavailable):
            client.get("x", "/")
    with pytest.raises(CircuitOpen) as caught:
        client.get("x", "/")
    assert caught.value.provider == "acme-down"
    assert len(server.requests) == 3
    assert gauge() == 1
    bench.pass_(5)
    server.handler = answer(b"{}")
    client.get("x", "/")
    assert gauge() == 0
    assert [event[0] for event in bench.events] == ["open", "close"]
