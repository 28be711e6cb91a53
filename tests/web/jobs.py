"""Rows of jobs as workers would write them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import text

from shared.db import Database, new_id
from shared.db.signals import CHANGES, JOBS

_INSERT = """
INSERT INTO jobs (id, tenant_id, queue, actor, priority, arguments, subject, state, run_at, runs, origin, progress,
                  result, failure, principal, parent_id, waiting_for, finished_at, unique_key)
VALUES (:id, :tenant_id, :queue, :actor, 2, '{"secret": 1}', :subject, :state, :run_at, :runs, 'request', :progress,
        :result, :failure, :principal, :parent_id, :waiting_for, :finished_at, :unique_key)
"""


class Jobs:
    """Writes and changes jobs as workers would."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, **values: Any) -> str:
        state = values.get("state", "scheduled")
        row = {
            "id": new_id(),
            "tenant_id": "acme",
            "queue": "polish",
            "actor": "polish",
            "subject": "Polish Cup",
            "state": state,
            "run_at": datetime.now(UTC),
            "runs": 0,
            "principal": "user:ada",
            "parent_id": None,
            "waiting_for": None,
            "finished_at": datetime.now(UTC) if state in ("succeeded", "failed", "cancelled") else None,
            "unique_key": None,
            "progress": None,
            "result": None,
            "failure": None,
            **values,
        }
        for name in ("progress", "result", "failure"):
            row[name] = None if row[name] is None else json.dumps(row[name])
        with self._database.system.begin() as connection:
            connection.execute(text(_INSERT), row)
        return str(row["id"])

    def change(self, job_id: str, *, tell: bool = True, **values: Any) -> None:
        if values.get("state") in ("succeeded", "failed", "cancelled"):
            values["finished_at"] = datetime.now(UTC)
        sets = ", ".join(f"{name} = :{name}" for name in values)
        row = {name: json.dumps(value) if isinstance(value, dict) else value for name, value in values.items()}
        with self._database.system.begin() as connection:
            connection.execute(
                text(f"UPDATE jobs SET {sets}, updated_at = clock_timestamp() WHERE id = :id"), {**row, "id": job_id}
            )
            if tell:
                payload = json.dumps([JOBS, [["acme", job_id]]])
                connection.execute(
                    text("SELECT pg_notify(:channel, :payload)"), {"channel": CHANGES, "payload": payload}
                )
