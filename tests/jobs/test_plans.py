"""What finds jobs by their ids goes by the primary key, whatever PostgreSQL believes about the queue.

A plan may be made while nothing waits, and is kept for as long as its connection: the relay's, for weeks. By a partial
index it would look for each id among all that waits by then.
"""

from __future__ import annotations

import re
import uuid
from typing import Any

import psycopg

from shared.jobs import claims, conclusions, current, pick, record, runner
from shared.testing.service import ServiceUnderTest

ID = uuid.uuid4()
MANY = [ID] * 25
CONCLUSION = {
    "id": ID, "dispatch": 1, "worker": 1, "state": "failed", "outcome": "failed", "waiting_for": None, "run_at": None,
    "burns": True, "failed": True, "keep_failure": False, "failure": None, "result": None, "started_at": None,
    "final": True,
}  # fmt: skip
STATEMENTS: dict[str, tuple[str, Any]] = {
    "hand out": (pick._HAND_OUT, (MANY,)),
    "lock": (claims._LOCK, (MANY,)),
    "claim": (claims._CLAIM, {"worker": 1, "ids": MANY, "dispatches": [1] * 25}),
    "done, one": (record._DONE_ONE, (ID, 1, None, None, "done", None, None, None, 1, 1)),
    "done, many": (record._DONE_MANY, (MANY, [1] * 25, *[[None] * 25] * 2, ["done"] * 25, *[[None] * 25] * 3, 1, 1)),
    "conclude": (record._CONCLUDE, CONCLUSION),
    "still ours": (record._OURS, (ID, 1, 1)),
    "progress": (current._PROGRESS, ("{}", None, ID, 1, 1)),
    "so far": (conclusions._SO_FAR, (ID, 1)),
    "hand back": (runner._HAND_BACK, (ID, 1)),
}


def test_jobs_are_found_by_their_ids(sample: ServiceUnderTest) -> None:
    # Given a table of many jobs, none of which waits
    sample.execute(
        "INSERT INTO jobs (id, tenant_id, queue, actor, origin, priority, arguments, state, run_at, finished_at) "
        "SELECT gen_random_uuid(), 'acme', 'work', 'write', 'job', 5, '{}', 'succeeded', now(), now() "
        "FROM generate_series(1, 20000)"
    )
    with psycopg.connect(sample.database_url, autocommit=True) as connection:
        connection.execute("ANALYZE jobs")
        for name, (statement, parameters) in STATEMENTS.items():
            # When a statement is planned
            plan = connection.execute(f"EXPLAIN {statement}".encode(), parameters).fetchall()

            # Then it looks nowhere but in the index of ids
            text = "\n".join(line for (line,) in plan)
            assert "jobs_pkey" in text, f"{name}: {text}"
            assert not re.search(r"ix_jobs_|uq_jobs_|Seq Scan on jobs", text), f"{name}: {text}"
