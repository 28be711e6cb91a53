"""How exactly retries keep their time: with 100,000 rows that are due later, and a broker that restarts in between.

All jobs fail, and fail again, up to the end of their retry schedule. RabbitMQ is stopped and started while the
first retries wait for their time; it is back before that comes, for nobody can start what nobody can announce.
Due and start of each run are read from the job's own row, both by the clock of the database.
"""

from __future__ import annotations

import statistics
from contextlib import ExitStack
from datetime import datetime
from typing import Any

from shared.testing.servers import postgres_server, rabbitmq_server
from shared.testing.service import ServiceUnderTest, Templates
from tests.benchmarks.bench import Result
from tests.sample import jobs
from tests.sample.service import service

BAR = 1.0

_LATER = """
INSERT INTO jobs (id, tenant_id, queue, actor, priority, arguments, state, run_at, origin)
SELECT gen_random_uuid(), 'tenant ' || number % 50, 'leases', 'climb', 2, '{"key": "later"}', 'scheduled',
       now() + interval '1 day' + number * interval '1 second', 'program'
FROM generate_series(1, :count) AS number
"""


def main(long: bool) -> Result:
    """100,000 rows and 600 retries, or 5,000 and 90 in the short form."""
    with ExitStack() as stack:
        postgres = stack.enter_context(postgres_server())
        templates = Templates(postgres)
        stack.callback(templates.close)
        database_url = stack.enter_context(templates.fresh(service))
        figures = measure(database_url, rows=100_000 if long else 5_000, count=200 if long else 30)
    result = Result("The clock of retries")
    result.add("rows that are due later", f"{figures['rows']:,}")
    result.add("retries", f"{figures['retries']}, a restart of RabbitMQ before the first")
    result.add("retries too early", f"{figures['early']}", "0", figures["early"] == 0)
    result.add("late, p50", f"{figures['p50'] * 1000:.0f} ms")
    holds = figures["p99"] <= BAR
    result.add("late, p99", f"{figures['p99'] * 1000:.0f} ms", f"at most {BAR:.0f} s", holds)
    return result


def measure(database_url: str, *, rows: int, count: int) -> dict[str, Any]:
    """Let `count` jobs climb the whole ladder; return how many retries were early, and `p50` and `p99` of lateness."""
    with (
        rabbitmq_server(private=True) as rabbitmq,
        ServiceUnderTest(service, database_url, broker_url=rabbitmq.url, worker_threads=8) as sample,
    ):
        sample.execute(_LATER, count=rows)
        sample.execute("ANALYZE jobs")
        sample.start()
        ids = [sample.send(jobs.climb, key=f"k{number}", tenant_id=f"tenant {number % 5}") for number in range(count)]
        first = "SELECT count(*) FROM jobs WHERE runs = 1 AND state = 'scheduled'"
        sample.wait_until(lambda: sample.query(first)[0][0] == count, 60, "all first runs to fail")
        rabbitmq.stop()
        rabbitmq.start()
        waiting = "SELECT count(*) FROM jobs WHERE runs = 1 AND run_at > clock_timestamp()"
        waited = sample.query(waiting)[0][0]
        for job_id in ids:
            sample.wait_for(job_id, "failed", deadline=120)
        late, early = [], 0
        for (key,) in sample.query("SELECT key FROM done"):
            _, attempt, due, started = key.split("|")
            if attempt == "1":
                continue
            by = (datetime.fromisoformat(started) - datetime.fromisoformat(due)).total_seconds()
            early += by < 0
            late.append(by)
    late.sort()
    return {
        "rows": rows,
        "retries": len(late),
        "waited": waited,
        "early": early,
        "p50": statistics.median(late),
        "p99": late[min(len(late) - 1, int(len(late) * 0.99))],
        "max": late[-1],
    }


if __name__ == "__main__":
    for row in main(long=True).rows:
        print(row)
