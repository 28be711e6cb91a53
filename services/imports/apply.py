"""A batch of rows into the tables, in the open transaction: staged by COPY, then a few statements for all rows.

    outcome = apply(session, "samples", staged, import_id=…, mode="create", room=…)

The staging table is temporary: row-level security lets nobody COPY into a walled table, and a temporary one writes no
log. From there rows come in their order into the kind's table, and a duplicate of anything (the tenant's data, an
earlier row of the file) is passed over: the unique keys decide, so that two imports at the same time cannot both win.
A record remembers the import and the row that made or last changed it; that is how a batch knows what it has done.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from psycopg import Connection as Psycopg
from sqlalchemy.orm import Session

from services.imports.tables import TABLES, Table
from shared.context import current
from shared.db import new_id

__all__ = ["Outcome", "Staged", "apply"]

_BLOCK: Final = 1 << 18
_SPECIAL: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


@dataclass(slots=True)
class Staged:
    """Good rows, column by column: `columns` are those of the kind's table, values as text; None is null."""

    rows: list[int]
    """Their numbers in the file, rising."""
    columns: dict[str, Sequence[str | None]]
    """Also the key columns (`title_key`). A column that is missing keeps its default, and what an update finds."""


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
    if not staged.rows:
        return outcome
    table = TABLES[kind]
    connection = _psycopg(session)
    names = ["row", "id", *staged.columns]
    ids = [new_id() for _ in staged.rows]
    _stage(connection, table, names, staged, ids)
    tenant = current().tenant_id
    parameters = {"tenant": tenant, "import": import_id}
    made = connection.execute(_insert(table, staged), parameters).fetchone()
    known = dict(zip(staged.rows, ids, strict=True))
    created = {row: known[row] for row in (made and made[0]) or ()}
    if room is not None and len(created) > room:
        outcome.no_room = list(created)[room:]
        surplus = [created.pop(row) for row in outcome.no_room]
        connection.execute(f"DELETE FROM {table.name} WHERE id = ANY(%s)", (surplus,))  # noqa: S608
    outcome.created = created
    passed_over = len(created) + len(outcome.no_room) < len(staged.rows)
    if mode == "update" and passed_over and (statement := _update(table, staged)):
        settled = {**parameters, "settled": [*created, *outcome.no_room]}
        outcome.updated = dict(connection.execute(statement, settled))
    return outcome


def _psycopg(session: Session) -> Psycopg[Any]:
    driver = session.connection().connection.driver_connection
    assert isinstance(driver, Psycopg)
    return driver


def _stage(connection: Psycopg[Any], table: Table, names: list[str], staged: Staged, ids: list[uuid.UUID]) -> None:
    staging = _staging(table)
    types = {**table.columns, **dict.fromkeys(table.key_columns, 'text COLLATE "C"')}
    columns = ", ".join(f"{name} {kind}" for name, kind in types.items())
    connection.execute(
        f"CREATE TEMPORARY TABLE IF NOT EXISTS {staging} (row integer, id uuid, {columns}) ON COMMIT DELETE ROWS"
    )
    connection.execute(f"DELETE FROM {staging}")  # noqa: S608
    cells = (map(str, staged.rows), map(str, ids), *map(_escaped, staged.columns.values()))
    lines = map("\t".join, zip(*cells, strict=True))
    with connection.cursor().copy(f"COPY {staging} ({', '.join(names)}) FROM STDIN") as copy:
        for block in _blocks(lines):
            copy.write(block)


def _staging(table: Table) -> str:
    return f"staging_{table.name}"


def _escaped(column: Sequence[str | None]) -> Iterable[str]:
    """Return the cells in COPY's text format; a column without anything special in it goes as it is."""
    try:
        joined = "".join(column)  # type: ignore[arg-type]
    except TypeError:
        return ("\\N" if cell is None else cell.translate(_SPECIAL) for cell in column)
    if "\\" in joined or "\t" in joined or "\n" in joined or "\r" in joined:
        return (cell.translate(_SPECIAL) for cell in column if cell is not None)
    return column  # type: ignore[return-value]


def _blocks(lines: Iterable[str]) -> Iterable[bytes]:
    gathered: list[str] = []
    size = 0
    for line in lines:
        gathered.append(line)
        size += len(line)
        if size >= _BLOCK:
            yield ("\n".join(gathered) + "\n").encode()
            gathered, size = [], 0
    if gathered:
        yield ("\n".join(gathered) + "\n").encode()


# Names of tables and columns are those of `TABLES`, never anybody's input.


def _value(table: Table, column: str) -> str:
    if column in table.nullable or column in table.key_columns:
        return f"staged.{column}"
    return f"coalesce(staged.{column}, {table.defaults.get(column, repr(''))})"


def _insert(table: Table, staged: Staged) -> str:
    columns = list(staged.columns)
    # One array is read in a fraction of the time of thousands of rows.
    return f"""
        WITH made AS (
            INSERT INTO {table.name} (id, tenant_id, import_id, import_row, {", ".join(columns)})
            SELECT id, %(tenant)s, %(import)s, row, {", ".join(_value(table, column) for column in columns)}
            FROM {_staging(table)} AS staged ORDER BY row
            ON CONFLICT DO NOTHING
            RETURNING import_row
        )
        SELECT array_agg(import_row ORDER BY import_row) FROM made
    """  # noqa: S608


def _update(table: Table, staged: Staged) -> str | None:
    keys = [key for key in table.key_columns if key in staged.columns]
    fixed = {*keys, *table.keys}
    changed = [column for column in staged.columns if column not in fixed]
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
