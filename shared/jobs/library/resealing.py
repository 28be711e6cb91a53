"""Rotating the keys that seal secrets at rest: what an older key sealed is sealed with the newest one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Column, MetaData, Table, select, update

from shared.db import unit_of_work
from shared.jobs.actor import Priority, actor
from shared.jobs.current import current_job
from shared.jobs.parts import parts
from shared.jobs.schedules import cron
from shared.outbound import vault

__all__ = ["reseal_secrets", "sealed_columns"]

_BATCH = 200


@actor(
    queue_name="default",
    priority=Priority.BULK,
    unique=(),
    subject="Seal secrets with the newest key",
    periodic=cron("15 5 * * *"),
)
def reseal_secrets() -> dict[str, int]:
    """Seal anew what was sealed with an older key. When it finds nothing more, that key can be removed."""
    job = current_job()
    total = 0
    for column in sealed_columns(parts().tables):
        while count := _reseal(column):
            total += count
            job.progress(total, None, unit="secrets")
            job.breathe()
    return {"secrets": total}


def sealed_columns(tables: MetaData) -> Iterator[Column[Any]]:
    """Return the columns that were declared with `shared.db.sealed`."""
    return (column for table in tables.sorted_tables for column in table.columns if "sealed" in column.info)


def _reseal(column: Column[Any]) -> int:
    """Seal a batch of a column anew; return how many, 0 when there is nothing more. As the tenant SYSTEM.

    Raises VaultError for what no key of ours opens.
    """
    table = column.table
    assert isinstance(table, Table)
    key = list(table.primary_key)
    with unit_of_work(system=True) as session:
        rows = session.execute(
            # What was destroyed with its workspace is empty.
            select(table.c.tenant_id, column, *key)
            .where(column != "", ~column.startswith(vault.newest()))
            .limit(_BATCH)
        ).all()
        for tenant_id, old, *values in rows:
            purpose = column.info["sealed"]
            new = vault.seal(tenant_id, purpose, vault.open_(tenant_id, purpose, old))
            same_row = [part == value for part, value in zip(key, values, strict=True)]
            # A secret that somebody is just replacing is left to them.
            session.execute(update(table).where(*same_row, column == old).values({column: new}))
    return len(rows)
