"""How long a job stands still when its worker is killed with SIGKILL: until it runs elsewhere.

Two worker commands run, relay included. A job begins on one of them, its worker process is killed, and the
time from just before the kill to the start of the next run is taken. Dramatiq's command ends when one of its
processes dies, so half of the time the leading relay goes down with it, and the other has to take over.
"""

from __future__ import annotations

import signal
import statistics
import time
import uuid
from contextlib import ExitStack
from typing import Any

import psycopg

from shared.testing.servers import postgres_server, rabbitmq_server
from shared.testing.service import ServiceUnderTest, Templates, WorkerProcess
from tests.benchmarks.bench import Result
from tests.sample import jobs
from tests.sample.service import service

BAR = 2.0


def main(long: bool) -> Result:
    """100 kills, or 5 in the short form."""
    with ExitStack() as stack:
        postgres = stack.enter_context(postgres_server())
        rabbitmq = stack.enter_context(rabbitmq_server())
        templates = Templates(postgres)
        stack.callback(templates.close)
        broker_url = stack.enter_context(rabbitmq.fresh_vhost("recovery"))
        database_url = stack.enter_context(templates.fresh(service))
        sample = stack.enter_context(ServiceUnderTest(service, database_url, broker_url=broker_url))
        figures = measure(sample, 100 if long else 5)
    result = Result("Recovery from a killed worker")
    result.add("kills", f"{figures['kills']}")
    result.add("from kill to running elsewhere, p50", f"{figures['p50']:.2f} s")
    holds = figures["p99"] < BAR
    result.add("from kill to running elsewhere, p99", f"{figures['p99']:.2f} s", f"below {BAR:.0f} s", holds)
    result.add("effects lost or doubled", f"{figures['wrong']}", "0", figures["wrong"] == 0)
    return result


def measure(sample: ServiceUnderTest, kills: int) -> dict[str, Any]:
    """Kill so many workers; return `p50` and `p99` in seconds, and how many effects are not there exactly once."""
    taken: list[float] = []
    with ExitStack() as running:
        fleet: list[WorkerProcess] = []

        def hire() -> None:
            fleet.append(running.enter_context(sample.worker_process(worker_threads=4)))

        hire()
        hire()
        for number in range(kills):
            sample.wait_until(lambda: _stands_by(sample), what="a second relay to stand by")
            job_id = sample.send(jobs.hold, key=f"k{number}")
            first = sample.wait_for(job_id, "running")
            victim = _pid(sample, first.worker_id)
            crew = next(process for process in fleet if victim in process.workers)
            killed_at = time.time()
            crew.signal_worker(victim, signal.SIGKILL)

            def elsewhere(job_id: uuid.UUID = job_id, dispatch: int = first.dispatch) -> Any:
                job = sample.job(job_id)
                return job if job.state == "running" and job.dispatch > dispatch else None

            second = sample.wait_until(elsewhere, 60, "the job to run elsewhere")
            taken.append(second.started_at.timestamp() - killed_at)
            fleet.remove(crew)
            crew.stop()
            _let_go(sample, f"k{number}")
            sample.wait_for(job_id, "succeeded")
            if number + 1 < kills:
                hire()
    counts = sample.query("SELECT count(*) FROM done WHERE key LIKE 'k%' GROUP BY key")
    wrong = abs(kills - len(counts)) + sum(count != 1 for (count,) in counts)
    taken.sort()
    p99 = taken[min(len(taken) - 1, int(len(taken) * 0.99))]
    return {"kills": kills, "p50": statistics.median(taken), "p99": p99, "max": taken[-1], "wrong": wrong}


def _stands_by(sample: ServiceUnderTest) -> bool:
    """Whether a relay waits for its turn to lead; as the owner, who sees what others' connections do."""
    with psycopg.connect(sample.database_url) as owner:
        row = owner.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND query LIKE 'SELECT pg_try_advisory_lock%' AND pid <> pg_backend_pid()"
        ).fetchone()
    return bool(row and row[0])


def _pid(sample: ServiceUnderTest, worker_id: int) -> int:
    return int(sample.query("SELECT pid FROM workers WHERE id = :id", id=worker_id)[0][0])


def _let_go(sample: ServiceUnderTest, key: str) -> None:
    sample.execute("INSERT INTO done (tenant_id, key) VALUES ('acme', :key)", key=f"let go:{key}")


if __name__ == "__main__":
    for row in main(long=True).rows:
        print(row)
