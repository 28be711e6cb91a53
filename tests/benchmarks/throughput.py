"""How many durable jobs a second, against a plain Dramatiq actor that does the same single effect.

The backlog is there before the worker starts; the rate is that between the first and the last effect, by
the database's clock. One worker process of 16 threads each; ours has its relay beside it.
"""

from __future__ import annotations

import importlib
import os

from shared.jobs import enqueue_many
from tests.benchmarks.bench import Place, Result, place, process, wait, worker
from tests.sample import jobs

_RATE = "SELECT count(*), extract(epoch FROM max(at) - min(at))::float8 FROM done"


def main(long: bool) -> Result:
    count = 10_000 if long else 3_000
    result = Result("Throughput of jobs")
    with place(threads=16) as here:
        plain = _plain(here, count)
        transactional = _ours(here, jobs.write, count)
        leased = _ours(here, jobs.lease, count)
    result.add("plain Dramatiq actor, jobs/s", f"{plain:,.0f}")
    for name, rate, bar in (("transactional", transactional, 1.5), ("leased", leased, 0.5)):
        ratio = rate / plain
        result.add(f"{name} jobs, against plain", f"{ratio:.2f}x ({rate:,.0f}/s)", f"at least {bar}x", ratio >= bar)
    return result


def _plain(here: Place, count: int) -> float:
    os.environ.update({k: v for k, v in here.environment.items() if k.startswith("PLAIN_")})
    plain = importlib.import_module("tests.benchmarks.plain")
    for number in range(count):
        plain.write.send(f"k{number}")
    arguments = ["dramatiq", "--skip-logging", "--processes", "1", "--threads", "16", "tests.benchmarks.plain:broker"]
    with process(arguments, here.environment):
        return _rate(here, count)


def _ours(here: Place, actor: object, count: int) -> float:
    for start in range(0, count, 1000):
        enqueue_many(actor, [{"key": f"k{number}"} for number in range(start, start + 1000)])  # type: ignore[arg-type]
    with worker(here):
        return _rate(here, count)


def _rate(here: Place, count: int) -> float:
    wait(lambda: here.query("SELECT count(*) FROM done")[0][0] == count)
    done, seconds = here.query(_RATE)[0]
    here.execute("DELETE FROM done")
    return done / seconds  # type: ignore[operator]


if __name__ == "__main__":
    for row in main(long=True).rows:
        print(row)
