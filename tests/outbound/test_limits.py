"""Token buckets: never more than the limit in any minute, over threads and limiters, and not much less."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from shared.context import use
from shared.db.database import Database
from shared.outbound import RateLimited
from shared.outbound.client import Client
from shared.outbound.limits import Limiter
from tests.outbound.raw_server import Server, answer


class Clock:
    def __init__(self) -> None:
        self.start = self.now = datetime(2026, 3, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def drain(limiter: Limiter, per_minute: float, bucket: str = "write") -> tuple[int, float]:
    """Take until refused; return how many there were and how long to wait."""
    for taken in range(10_000):
        try:
            limiter.take("acme", bucket, per_minute=per_minute)
        except RateLimited as refusal:
            return taken, refusal.retry_after
    raise AssertionError("no limit")


def test_a_burst_then_a_trickle(tenant: str, clock: Clock) -> None:
    limiter = Limiter(clock=clock)
    assert drain(limiter, 50) == (10, pytest.approx(61 / 40))
    clock.pass_(61 / 40)
    assert drain(limiter, 50)[0] == 1
    clock.pass_(3600)
    assert drain(limiter, 50)[0] == 10


@pytest.mark.parametrize("per_minute", [2, 10, 50, 500])
def test_a_minute_holds_the_limit_and_nearly_reaches_it(tenant: str, clock: Clock, per_minute: int) -> None:
    limiter, taken = Limiter(clock=clock), 0
    for _ in range(240):
        taken += drain(limiter, per_minute)[0]
        clock.pass_(0.25)
    assert 0.7 * per_minute - 1 <= taken <= per_minute


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    per_minute=st.sampled_from([2, 7, 50, 120, 500]),
    steps=st.lists(st.tuples(st.floats(0, 20), st.integers(1, 60)), min_size=1, max_size=20),
    data=st.data(),
)
def test_no_window_of_a_minute_ever_holds_more(
    tenant: str, per_minute: int, steps: list[tuple[float, int]], data: st.DataObject
) -> None:
    clock = Clock()
    limiters = [Limiter(clock=clock), Limiter(clock=clock)]
    bucket = f"b{data.draw(st.uuids())}"
    grants: list[float] = []
    for wait, demand in steps:
        clock.pass_(wait)
        for number in range(demand):
            try:
                limiters[number % 2].take("acme", bucket, per_minute=per_minute)
            except RateLimited:
                break
            grants.append((clock.now - clock.start).total_seconds())
    for first in grants:
        assert sum(first <= moment < first + 60 for moment in grants) <= per_minute


def test_threads_and_limiters_never_overdraw(tenant: str, clock: Clock, database: Database) -> None:
    limiters = [Limiter(clock=clock) for _ in range(4)]
    grants: list[int] = []

    def run(limiter: Limiter) -> None:
        database.bind()
        with use(tenant_id=tenant):
            try:
                for _ in range(100):
                    limiter.take("acme", "write", per_minute=600)
                    grants.append(1)
            except RateLimited:
                pass

    threads = [threading.Thread(target=run, args=(limiters[n % 4],)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # What a thread left in its batch when another replaced it is lost, so a little less is fine.
    assert 80 <= len(grants) <= 120


def test_high_rates_do_not_query_per_call(tenant: str, database: Database) -> None:
    limiter = Limiter()
    statements: list[Any] = []

    def count(_c: Any, _k: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    event.listen(database.system, "before_cursor_execute", count)
    for _ in range(400):
        limiter.take("acme", "busy", per_minute=6000)
    event.remove(database.system, "before_cursor_execute", count)
    assert len(statements) < 40


def test_a_slow_caller_takes_one_at_a_time(tenant: str, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    limiter = Limiter()
    real, offset = time.monotonic, 0.0
    monkeypatch.setattr("shared.outbound.limits.time.monotonic", lambda: real() + offset)
    for _ in range(5):
        limiter.take("acme", "slow", per_minute=6000)
        assert [batch.size for key, batch in limiter._batches.items() if key[3] == "slow"] == [1]
        offset += 2


def test_tenants_and_buckets_are_apart(tenant: str, clock: Clock) -> None:
    limiter = Limiter(clock=clock)
    drain(limiter, 50)
    assert drain(limiter, 10, "list")[0] == 2
    with use(tenant_id=f"{tenant}-other"):
        assert drain(limiter, 50)[0] == 10
    for _ in range(10):
        limiter.take(f"acme-{tenant}", "all", per_minute=50, per_tenant=False)
    with use(tenant_id=f"{tenant}-other"), pytest.raises(RateLimited):
        limiter.take(f"acme-{tenant}", "all", per_minute=50, per_tenant=False)


@pytest.mark.parametrize("bucket", ["write", "*"])
@pytest.mark.parametrize("used_before", [True, False])
def test_a_block_holds_for_all(tenant: str, clock: Clock, bucket: str, used_before: bool) -> None:
    limiter, other = Limiter(clock=clock), Limiter(clock=clock)
    if used_before:
        other.take("acme", "write", per_minute=50)
    limiter.block("acme", 30, bucket=bucket)
    limiter.block("acme", 5, bucket=bucket)
    for one in (limiter, other):
        with pytest.raises(RateLimited) as caught:
            one.take("acme", "write", per_minute=50)
        assert caught.value.retry_after == pytest.approx(30, abs=0.5)
    with use(tenant_id=f"{tenant}-other"):
        limiter.take("acme", "write", per_minute=50)
    clock.pass_(30)
    limiter.take("acme", "write", per_minute=50)


def test_a_clock_that_goes_back_grants_nothing(tenant: str, clock: Clock) -> None:
    limiter = Limiter(clock=clock)
    drain(limiter, 50)
    clock.pass_(-30)
    assert drain(limiter, 50)[0] == 0
    clock.pass_(30)
    assert drain(limiter, 50)[0] == 0


def test_a_limit_that_cannot_be_kept_is_refused(tenant: str) -> None:
    with pytest.raises(ValueError, match="below 2"):
        Limiter().take("acme", "write", per_minute=1)


def test_a_block_survives_a_database_that_is_away(tenant: str) -> None:
    nowhere = Database("postgresql://postgres@127.0.0.1:1/none")
    token = nowhere.bind()
    Limiter().block("acme", 5)
    nowhere.unbind(token)


def test_a_client_with_limits(tenant: str, clock: Clock, server: Server) -> None:
    client = Client("acme-limited", server.url, limiter=Limiter(clock=clock), buckets={"list": 10, "write": 50})
    client.get("x", "/", bucket="list")
    client.get("x", "/", bucket="list")
    with pytest.raises(RateLimited, match="our own limit of 10 a minute"):
        client.get("x", "/", bucket="list")
    assert len(server.requests) == 2
    server.handler = answer(b"", "429 Slow down", "Retry-After: 20")
    with pytest.raises(RateLimited):
        client.post("x", "/", bucket="write", effect=True)
    server.handler = answer(b"{}")
    with pytest.raises(RateLimited) as caught:
        client.post("x", "/", bucket="write", effect=True)
    assert caught.value.retry_after == pytest.approx(20, abs=0.5)
    assert len(server.requests) == 3
    clock.pass_(20)
    client.post("x", "/", bucket="write", effect=True)
