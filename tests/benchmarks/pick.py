"""What one pick of the relay costs with a million rows waiting.

One pick is all that a round of the relay asks of the table of jobs: which lines exist, what is in flight, the front
of each line, and handing out a window of 32 jobs. Between picks, outside of the measured time, what was handed out is
completed, so that the next one has a full window to fill. The time until the next due job, which an idle relay asks
for, is measured by itself.

The plans of all these statements are looked at, too: with a million rows none may read the whole table.
"""

from __future__ import annotations

import json
import statistics
import time
from typing import Any

import psycopg

from shared.db.database import SYSTEM_ROLE
from shared.jobs import pick
from tests.benchmarks.bench import Place, Result, ms, place

_FILL = """
INSERT INTO jobs (id, tenant_id, queue, actor, priority, arguments, state, run_at, origin)
SELECT gen_random_uuid(), 'tenant-' || lpad((number %% %(tenants)s)::text, 4, '0'), 'leases', 'lease', 50,
       '{"key": "k"}', 'scheduled',
       now() + CASE WHEN number <= %(due)s THEN interval '-1 hour' ELSE interval '1 day' END + number * interval '1 ms',
       'program'
FROM generate_series(1, %(rows)s) AS number
"""

_COMPLETE = """
UPDATE jobs SET state = 'succeeded', outcome = 'done', finished_at = clock_timestamp()
WHERE state = 'queued'
"""

_WEIGHTS = {"lease": pick.WEIGHT}
_LIMITS = pick.QueueLimits(32 * pick.WEIGHT)


def main(long: bool) -> Result:
    few, many, picks = (1_000, 1_000_000, 25) if long else (200, 5_000, 3)
    result = Result("Picking what to hand out")
    scans: set[str] = set()
    with place() as here:
        for tenants in (min(1_000, few), 1):
            scans |= _compare(here, few, many, tenants, picks, result)
    result.add(
        f"statements that read the whole table, {many:,} rows",
        ", ".join(sorted(scans)) or "none",
        "none",
        not scans,
    )
    return result


def _compare(here: Place, few: int, many: int, tenants: int, picks: int, result: Result) -> set[str]:
    """Add the figures for so many tenants to the result; return the names of statements that read the whole table."""
    scans: set[str] = set()
    base: tuple[float, float] | None = None
    for rows, due in ((few, few), (many, many), (many, few)):
        found = _picks(here, rows, due, tenants, picks)
        if due == many:
            scans |= _scans(here)
        what = f"{rows:,} rows of {tenants:,} tenant{'s' if tenants > 1 else ''}, {due:,} of them due"
        for name, median, before in zip(("one pick", "next due job"), found, base or found, strict=True):
            result.add(f"{name}, {what}", f"{ms(median)}{f', {median / before:.1f}x' if base else ''}")
        base = base or found
    return scans


def _picks(here: Place, rows: int, due: int, tenants: int, picks: int) -> tuple[float, float]:
    """Return the median times of a pick, and of looking for the next due job."""
    with psycopg.connect(here.database_url, autocommit=True) as owner:
        owner.execute("TRUNCATE jobs CASCADE")
        owner.execute(_FILL, {"rows": rows, "due": due, "tenants": tenants})
        owner.execute("VACUUM ANALYZE jobs")
    times: tuple[list[float], list[float]] = ([], [])
    with here.app.database.connect(role=SYSTEM_ROLE, prepare_threshold=2) as connection:
        connection.execute("SET synchronous_commit = off")
        for number in range(min(picks + 3, due // 32)):
            began = time.perf_counter()
            existing = pick.lines(connection)
            flying = pick.in_flight(connection)
            picked = pick.pick_queue(
                connection, "leases", existing["leases"], _LIMITS, pick.Gates(), flying.get("leases", {}), _WEIGHTS
            )
            ended = time.perf_counter()
            pick.next_due(connection, existing)
            if number >= 3:  # the first ones read pages and prepare statements
                times[0].append(ended - began)
                times[1].append(time.perf_counter() - ended)
            assert len(picked) == 32, "a pick did not fill its window"
            connection.execute(_COMPLETE)
    return statistics.median(times[0]), statistics.median(times[1])


def _scans(here: Place) -> set[str]:
    """Return the names of the statements whose plans read the whole table of jobs."""
    statements = {
        "lines": (pick._LINES, {}),
        "in flight": (pick._IN_FLIGHT, {}),
        "front": (
            pick._FRONT,
            {"queue": "leases", "priorities": [50], "tenants": ["tenant-0000"], "actors": ["lease"], "most": 2},
        ),
        "front of a suspended workspace": (
            pick._FRONT_OF_HELD,
            {"queue": "leases", "priorities": [50], "tenants": ["tenant-0000"], "actors": ["other"], "most": 2},
        ),
        "next due": (pick._NEXT_DUE, {"queues": ["leases"], "priorities": [50], "tenants": ["tenant-0000"]}),
        "handing out": (pick._HAND_OUT.replace("%s", "%(ids)s"), {"ids": []}),
    }
    with psycopg.connect(here.database_url, autocommit=True, options=f"-c role={SYSTEM_ROLE}") as connection:
        found = set()
        for name, (statement, parameters) in statements.items():
            row = connection.execute(f"EXPLAIN (FORMAT JSON) {statement}".encode(), parameters or None).fetchone()
            assert row is not None
            plan = json.loads(row[0]) if isinstance(row[0], str) else row[0]
            if _reads_all(plan[0]["Plan"]):
                found.add(name)
        return found


def _reads_all(node: dict[str, Any]) -> bool:
    if node["Node Type"] == "Seq Scan" and node.get("Relation Name") == "jobs":
        return True
    return any(_reads_all(child) for child in node.get("Plans", []))
