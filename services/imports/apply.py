"""A batch of rows into the tables, in the open transaction: staged by COPY, then a few statements for all rows.

    outcome = apply(session, "samples", staged, import_id=…, mode="create", room=…)

The staging table is temporary: row-level security lets nobody COPY into a walled table, and a temporary one writes no
log. From there rows come in their order into the kind's table, and a duplicate of anything (the tenant's data, an
earlier row of the file) is passed over: the unique keys decide, so that two imports at the same time cannot both win.
A record remembers the import and the row that made or last changed it; that is how a batch knows what it has done.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

from psycopg import Connection as Psycopg
from sqlalchemy.orm import Session

from services.imports.reading.layout import Staged
from services.imports.tables import TABLES, Table
from shared.context import current

__all__ = ["Outcome", "apply"]


@dataclass(slots=True)
class Outcome:
    """What became of the staged rows, by row number; what is in none of them was passed over as a duplicate."""

    created: dict[int, uuid.UUID] = field(default_factory=dict)
    updated: dict[int, uuid.UUID] = field(default_factory=dict)
    no_room: list[int] = field(default_factory=list)
    """Rows that would have been created, had the plan allowed it."""


def apply(
    session: Session, kind: str, staged: Staged, *, import_id: uuid.UUID, mode: str, room: int | None = None
) -> Outcome:
    """Bring the rows into the kind's table; at most `room` new ones. Mode `update` also brings what exists up to date.

    An update changes what the file has columns for, but never the fields by which a record is known. Where a row
    fits two records, the strongest key decides. Within a file the first row wins in both modes.
    """
    outcome = Outcome()
    if not staged.numbers:
        return outcome
    table = TABLES[kind]
    connection = _psycopg(session)
    _stage(connection, table, staged)
    tenant = current().tenant_id
    parameters = {"tenant": tenant, "import": import_id}
    # Ids in their binary form: as text, they would take as long to read as all else.
    made = connection.execute(_insert(table, staged), parameters, binary=True).fetchone()
    created: dict[int, uuid.UUID] = dict(zip(*made, strict=True)) if made and made[0] else {}
    if room is not None and len(created) > room:
        outcome.no_room = list(created)[room:]
        surplus = [created.pop(row) for row in outcome.no_room]
        connection.execute(f"DELETE FROM {table.name} WHERE id = ANY(%s)", (surplus,))  # noqa: S608
    outcome.created = created
    passed_over = len(created) + len(outcome.no_room) < len(staged.numbers)
    if mode == "update" and passed_over and (statement := _update(table, staged)):
        settled = {**parameters, "settled": [*created, *outcome.no_room]}
        outcome.updated = dict(connection.execute(statement, settled))
    return outcome


def _psycopg(session: Session) -> Psycopg[Any]:
    driver = session.connection().connection.driver_connection
    assert isinstance(driver, Psycopg)
    return driver


def _stage(connection: Psycopg[Any], table: Table, staged: Staged) -> None:
    staging = _staging(table)
    types = {**table.columns, **dict.fromkeys(table.key_columns, 'text COLLATE "C"')}
    columns = ", ".join(f"{name} {kind}" for name, kind in types.items())
    connection.execute(
        f"CREATE TEMPORARY TABLE IF NOT EXISTS {staging} (row integer, id uuid, {columns}) ON COMMIT DELETE ROWS"
    )
    connection.execute(f"DELETE FROM {staging}")  # noqa: S608
    names = ", ".join(("row", "id", *staged.names))
    with connection.cursor().copy(f"COPY {staging} ({names}) FROM STDIN") as copy:
        copy.write(staged.data)


def _staging(table: Table) -> str:
    return f"staging_{table.name}"


# Names of tables and columns are those of `TABLES`, never anybody's input.


def _value(table: Table, column: str) -> str:
    if column in table.nullable or column in table.key_columns:
        return f"staged.{column}"
    return f"coalesce(staged.{column}, {table.defaults.get(column, repr(''))})"


def _insert(table: Table, staged: Staged) -> str:
    columns = staged.names
    # One array is read in a fraction of the time of thousands of rows.
    return f"""
        WITH made AS (
            INSERT INTO {table.name} (id, tenant_id, import_id, import_row, {", ".join(columns)})
            SELECT id, %(tenant)s, %(import)s, row, {", ".join(_value(table, column) for column in columns)}
            FROM {_staging(table)} AS staged ORDER BY row
            ON CONFLICT DO NOTHING
            RETURNING import_row, id
        )
        SELECT array_agg(import_row ORDER BY import_row), array_agg(id ORDER BY import_row) FROM made
    """  # noqa: S608


def _update(table: Table, staged: Staged) -> str | None:
    keys = [key for key in table.key_columns if key in staged.names]
    fixed = {*keys, *table.keys}
    changed = [column for column in staged.names if column not in fixed]
    if not changed:
        return None
    # One look-up per key, each by its own index; the strongest key that finds a record wins.
    found = " UNION ALL ".join(_record_with(table, key, strength) for strength, key in enumerate(keys))
    settings = ", ".join(f"{column} = {_value(table, column)}" for column in changed)
    return f"""
        WITH matched AS (
            SELECT DISTINCT ON (match.id) match.id AS record_id, staged.*
            FROM {_staging(table)} AS staged,
            LATERAL (SELECT id FROM ({found}) AS found ORDER BY strength LIMIT 1) AS match
            WHERE NOT staged.row = ANY(%(settled)s::integer[])
            ORDER BY match.id, staged.row
        )
        UPDATE {table.name} AS record
        SET {settings}, import_id = %(import)s, import_row = staged.row, version = record.version + 1,
            updated_at = now()
        FROM matched AS staged
        WHERE record.id = staged.record_id
        RETURNING staged.row, record.id
    """  # noqa: S608


def _record_with(table: Table, key: str, strength: int) -> str:
    return f"""
        SELECT record.id, {strength} AS strength FROM {table.name} AS record
        WHERE record.tenant_id = %(tenant)s AND record.{key} = staged.{key}
          AND record.import_id IS DISTINCT FROM %(import)s
    """  # noqa: S608
