"""How many durable jobs a second, against a plain Dramatiq actor that does the same single effect.

The effect is one row inserted and committed. The backlog is there before the worker starts, and the rate is that
between the first and the last effect, by the database's clock; there are enough of them for warming up not to count.
One worker process of 16 threads each; ours has its relay beside it. The three kinds take turns; the ratio is the median
of those of each turn.

*Transactional* jobs do their effect in our own database only: claim, effect and completion are one commit, and up to
25 of them share it. *Leased* jobs may call third parties: their claim is committed before they run, so that a crash
is noticed, counted and taken over, and their completion is fenced. Plain Dramatiq keeps no record of any of this:
a leased job is four writes to its row and one row for its run, where a plain one is a message.
"""

from __future__ import annotations

import importlib
import os
import statistics

from shared.jobs import enqueue_many
from tests.benchmarks.bench import Place, Result, place, plain_worker, wait, worker
from tests.sample import jobs

_RATE = "SELECT count(*), extract(epoch FROM max(at) - min(at))::float8 FROM done"


def main(long: bool) -> Result:
    count, turns = (6_000, 5) if long else (250, 1)
    rates: dict[str, list[float]] = {"plain": [], "transactional": [], "leased": []}
    with place(threads=16) as here:
        for _ in range(turns):
            rates["plain"].append(_plain(here, count))
            rates["transactional"].append(_ours(here, jobs.write, count))
            rates["leased"].append(_ours(here, jobs.lease, count))
    result = Result("Throughput of jobs")
    result.add("plain Dramatiq actor", f"{statistics.median(rates['plain']):,.0f} jobs/s")
    for name, bar in (("transactional", 1.5), ("leased", 0.5)):
        ratio = statistics.median(ours / plain for ours, plain in zip(rates[name], rates["plain"], strict=True))
        rate = statistics.median(rates[name])
        result.add(
            f"{name} jobs, against plain", f"{ratio:.2f}x ({rate:,.0f} jobs/s)", f"at least {bar}x", ratio >= bar
        )
    return result


def _plain(here: Place, count: int) -> float:
    os.environ.update({k: v for k, v in here.environment.items() if k.startswith("PLAIN_")})
    plain = importlib.import_module("tests.benchmarks.plain")
    for number in range(count):
        plain.write.send(f"k{number}")
    with plain_worker(here):
        return _rate(here, count)


def _ours(here: Place, actor: object, count: int) -> float:
    for start in range(0, count, 1000):
        keys = range(start, min(start + 1000, count))
        enqueue_many(actor, [{"key": f"k{number}"} for number in keys])  # type: ignore[arg-type]
    with worker(here):
        return _rate(here, count)


def _rate(here: Place, count: int) -> float:
    wait(lambda: here.query("SELECT count(*) FROM done")[0][0] == count)
    done, seconds = here.query(_RATE)[0]
    here.execute("DELETE FROM done")
    return done / seconds  # type: ignore[operator]
