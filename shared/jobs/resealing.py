"""Rotating the keys that seal secrets at rest: what an older key sealed is sealed with the newest one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Column, MetaData, Table, select, update

from shared.db import unit_of_work
from shared.outbound import vault

__all__ = ["reseal", "sealed_columns"]

_BATCH = 200


def sealed_columns(tables: MetaData) -> Iterator[Column[Any]]:
    """Return the columns that were declared with `shared.db.sealed`."""
    return (column for table in tables.sorted_tables for column in table.columns if "sealed" in column.info)


def reseal(column: Column[Any]) -> int:
    """Seal a batch of a column anew; return how many, 0 when there is nothing more. As the tenant SYSTEM.

    Raises VaultError for what no key of ours opens.
    """
    table = column.table
    assert isinstance(table, Table)
    key = list(table.primary_key)
    with unit_of_work(system=True) as session:
        rows = session.execute(
            select(table.c.tenant_id, column, *key).where(~column.startswith(vault.newest())).limit(_BATCH)
        ).all()
        for tenant_id, old, *values in rows:
            purpose = column.info["sealed"]
            new = vault.seal(tenant_id, purpose, vault.open_(tenant_id, purpose, old))
            same_row = [part == value for part, value in zip(key, values, strict=True)]
            # A secret that somebody is just replacing is left to them.
            session.execute(update(table).where(*same_row, column == old).values({column: new}))
    return len(rows)
