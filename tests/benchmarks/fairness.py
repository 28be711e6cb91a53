"""How much a tenant with 100,000 waiting jobs delays the jobs of another.

The large tenant has 100,000 leased jobs waiting, each of which waits 20 ms for something, as for a quick third party.
The other tenant works as people do with this product: bulks ("buy labels for these orders") of 10 to 60 jobs of the
same kind every second or so, and single clicks in between. First it has the worker of 16 threads to itself, then it
shares it; the same arrivals in both. What is measured is the time from the commit to the start of each of its jobs.

The bar is on p95 over all its jobs, as they come. Single clicks by themselves are for information: alone they find an
idle thread and start in milliseconds, beside the large tenant every thread is busy, and they wait for the
next that is free and for the few jobs that were handed out before them.
"""

from __future__ import annotations

import random
import statistics
import time
from dataclasses import dataclass, field

from shared.context import use
from shared.db import unit_of_work
from shared.jobs import enqueue_many
from tests.benchmarks.bench import Place, Result, ms, percentile, place, wait, worker
from tests.sample import jobs

_THREADS = 16
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


def main(long: bool) -> Result:
    backlog, seconds = (100_000, 20.0) if long else (1_000, 1.5)
    with place(threads=_THREADS) as here:
        with worker(here):
            _arrive("warm", 1.0)
            _idle(here)
            alone = _arrive("alone", seconds)
            _idle(here)
            _fill(backlog)
            time.sleep(1.0 if long else 0.2)
            beside = _arrive("beside", seconds)
            _idle(here)
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
    for what, one, other in (("bulks", alone.bulks, beside.bulks), ("single clicks", alone.clicks, beside.clicks)):
        result.add(f"{what} alone / beside, p95", f"{_p95(waits(one))} / {_p95(waits(other))}")
    result.note = (
        f"{len(beside_all):,} jobs of the small tenant ({len(beside.clicks)} single clicks), "
        f"median wait {ms(statistics.median(beside_all))}; {left:,} jobs of the large one still waited at the end."
    )
    return result


def _both(waits: list[float]) -> str:
    return f"{ms(percentile(waits, 50))} / {_p95(waits)}"


def _p95(waits: list[float]) -> str:
    return ms(percentile(waits, 95)) if waits else "none"


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


def _idle(here: Place) -> None:
    wait(lambda: here.query(_ENDED)[0][0] == 0, 120)
