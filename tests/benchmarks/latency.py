"""From the commit of a job to its start, against plain Dramatiq from sending to starting, at 50 jobs a second.

The clock starts just before the commit that makes the job exist, or just before `send`, which waits for RabbitMQ's
confirm; it stops at the first instruction of the run. So both include making the job durable. Arrivals are a Poisson
process. Both workers are up all the time, with 8 threads each, and the kinds take turns of a few seconds.
"""

from __future__ import annotations

import importlib
import os
import random
import time
from collections.abc import Callable

from shared.db import unit_of_work
from tests.benchmarks.bench import Place, Result, ms, percentile, place, plain_worker, wait, worker
from tests.sample import jobs

_RATE = 50.0
_THREADS = 8
_STARTED = "SELECT arguments->>'key', extract(epoch FROM started_at)::float8 FROM jobs WHERE state = 'succeeded'"
_STAMPED = "SELECT key, extract(epoch FROM at)::float8 FROM done WHERE key LIKE 'plain%'"


def main(long: bool) -> Result:
    turns, seconds = (6, 6.0) if long else (1, 1.0)
    sent: dict[str, dict[str, float]] = {"plain": {}, "transactional": {}, "leased": {}}
    with place(threads=_THREADS) as here:
        os.environ.update({k: v for k, v in here.environment.items() if k.startswith("PLAIN_")})
        plain = importlib.import_module("tests.benchmarks.plain")

        def send_plain(key: str) -> float:
            before = time.time()
            plain.stamp.send(key)
            return before

        sends: dict[str, Callable[[str], float]] = {
            "plain": send_plain,
            "transactional": lambda key: _send(jobs.write, key),
            "leased": lambda key: _send(jobs.lease, key),
        }
        with worker(here), plain_worker(here, _THREADS):
            for name, send in sends.items():
                for number in range(20):  # connections are made, statements prepared
                    send(f"warm-{name}-{number}")
            _idle(here, 60)
            for turn in range(turns):
                for name, send in sends.items():
                    sent[name].update(_arrive(send, f"{name}-{turn}", seconds))
            _idle(here, 60 + sum(map(len, sent.values())))
        started: dict[str, float] = dict(here.query(_STARTED) + here.query(_STAMPED))  # type: ignore[arg-type]
    result = Result("Latency from commit to start")
    for name in sent:
        waits = [started[key] - before for key, before in sent[name].items()]
        what = {"plain": "plain Dramatiq actor, send to start"}.get(name, f"{name} job, commit to start")
        result.add(f"{what}, p50 / p99", f"{ms(percentile(waits, 50))} / {ms(percentile(waits, 99))}")
    return result


def _send(actor: object, key: str) -> float:
    with unit_of_work():
        actor.send(key=key)  # type: ignore[attr-defined]
        return time.time()


def _arrive(send: Callable[[str], float], prefix: str, seconds: float) -> dict[str, float]:
    random_ = random.Random(prefix)
    sent: dict[str, float] = {}
    due = time.monotonic()
    end = due + seconds
    while (due := due + random_.expovariate(_RATE)) < end:
        time.sleep(max(0.0, due - time.monotonic()))
        key = f"{prefix}-{len(sent)}"
        sent[key] = send(key)
    return sent


def _idle(here: Place, count: int) -> None:
    """Wait until each of so many jobs has had its effect. Raises RuntimeError that says what is missing or doubled."""
    try:
        wait(lambda: here.query("SELECT count(*) FROM done")[0][0] == count, 60)
    except TimeoutError:
        found = here.query("SELECT split_part(key, '-', 1), count(*), count(DISTINCT key) FROM done GROUP BY 1")
        states = here.query("SELECT actor, state, waiting_for, count(*) FROM jobs GROUP BY 1, 2, 3")
        raise RuntimeError(f"{count} effects were due; effects: {found}; jobs: {states}") from None
