"""How much a tenant with 100,000 waiting jobs delays the jobs of another.

The large tenant has 100,000 leased jobs waiting, each of which waits 20 ms for something, as for a quick third party.
The other tenant works as people do with this product: bulks ("buy labels for these orders") of 10 to 60 jobs of the
same kind once a second on average, and five single clicks a second in between. In turns of some seconds it has the
worker of 8 threads, which is the default, to itself, because the large tenant's jobs are not due yet, and then beside
the large tenant; the same arrivals in both. What is measured is the time from the commit to the start of each of its
jobs, and the bar is on the p95 of all of them. Single clicks by themselves are for information.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field

import psycopg

from shared.context import use
from shared.db import unit_of_work
from shared.jobs import enqueue_many
from tests.benchmarks.bench import Place, Result, ms, percentile, place, wait, worker
from tests.sample import jobs

_THREADS = 8
_SECONDS = 0.02
_STARTED = """
SELECT arguments->>'key', extract(epoch FROM started_at)::float8 FROM jobs
WHERE tenant_id = 'small' AND started_at IS NOT NULL
"""
_ENDED = "SELECT count(*) FILTER (WHERE state <> 'succeeded') FROM jobs WHERE tenant_id = 'small'"


@dataclass
class _Arrivals:
    """Commit times by key: those of bulks, and those of single clicks."""

    bulks: dict[str, float] = field(default_factory=dict)
    clicks: dict[str, float] = field(default_factory=dict)

    def add(self, more: _Arrivals) -> None:
        self.bulks |= more.bulks
        self.clicks |= more.clicks


def main(long: bool) -> Result:
    backlog, seconds, turns = (100_000, 8.0, 4) if long else (500, 1.0, 1)
    alone, beside = _Arrivals(), _Arrivals()
    with place(threads=_THREADS) as here:
        _fill(backlog)
        with worker(here):
            _arrive("warm", 1.0)
            for turn in range(turns):
                _set_due(here, "1 day")
                alone.add(_arrive(f"alone-{turn}", seconds))
                _set_due(here, "-1 hour")
                beside.add(_arrive(f"beside-{turn}", seconds))
            wait(lambda: here.query(_ENDED)[0][0] == 0, 120)
            left = here.query("SELECT count(*) FROM jobs WHERE tenant_id = 'large' AND state = 'scheduled'")[0][0]
        started: dict[str, float] = dict(here.query(_STARTED))  # type: ignore[arg-type]

    def waits(sent: dict[str, float]) -> list[float]:
        return [max(0.0, started[key] - at) for key, at in sent.items()]

    result = Result("Fairness between tenants")
    alone_all, beside_all = waits(alone.bulks | alone.clicks), waits(beside.bulks | beside.clicks)
    ratio = percentile(beside_all, 95) / percentile(alone_all, 95)
    result.add("commit to start alone, p50 / p95", _both(alone_all))
    result.add(f"beside {backlog:,} waiting jobs, p50 / p95", _both(beside_all))
    result.add("p95 beside the large tenant, against alone", f"{ratio:.2f}x", "at most 2x", ratio <= 2)
    clicks = f"{_both(waits(alone.clicks))} → {_both(waits(beside.clicks))}"
    result.add("single clicks, p50 / p95 alone → beside", clicks)
    result.note = (
        f"{len(beside_all):,} jobs of the small tenant in each state, {len(beside.clicks)} of them single clicks; "
        f"{backlog - int(left):,} jobs of the large one ran meanwhile."  # type: ignore[call-overload]
    )
    return result


def _both(waits: list[float]) -> str:
    return f"{ms(percentile(waits, 50))} / {_p95(waits)}"


def _p95(waits: list[float]) -> str:
    return ms(percentile(waits, 95))


def _arrive(prefix: str, seconds: float) -> _Arrivals:
    """Send what the small tenant sends; the same for every prefix."""
    random_ = random.Random(7)
    arrivals = _Arrivals()
    begin = time.monotonic()
    plan = [(random_.uniform(0, seconds), 1) for _ in range(int(seconds * 5))]
    plan += [(random_.uniform(0, seconds), random_.randint(10, 60)) for _ in range(max(1, int(seconds)))]
    with use(tenant_id="small"):
        for number, (due, size) in enumerate(sorted(plan)):
            time.sleep(max(0.0, begin + due - time.monotonic()))
            keys = [f"{prefix}-{number}-{item}" for item in range(size)]
            with unit_of_work():
                enqueue_many(jobs.lease, [{"key": key, "seconds": _SECONDS} for key in keys])
                committed = time.time()
            (arrivals.clicks if size == 1 else arrivals.bulks).update(dict.fromkeys(keys, committed))
    return arrivals


def _fill(rows: int) -> None:
    with use(tenant_id="large"):
        for start in range(0, rows, 5_000):
            count = min(5_000, rows - start)
            enqueue_many(jobs.lease, [{"key": f"large-{start + n}", "seconds": _SECONDS} for n in range(count)])


def _set_due(here: Place, distance: str) -> None:
    """Wait until the small tenant has had its jobs done, and make those of the large one due so far from now."""
    wait(lambda: here.query(_ENDED)[0][0] == 0, 120)
    here.execute(
        "UPDATE jobs SET run_at = now() + CAST(:distance AS interval) WHERE id IN "
        "(SELECT id FROM jobs WHERE tenant_id = 'large' AND state = 'scheduled' FOR UPDATE SKIP LOCKED)",
        distance=distance,
    )
    if not distance.startswith("-"):
        wait(lambda: not here.query("SELECT count(*) FROM jobs WHERE state IN ('queued', 'running')")[0][0], 60)
    with psycopg.connect(here.database_url, autocommit=True) as owner:
        owner.execute("VACUUM ANALYZE jobs")
    time.sleep(0.5)
