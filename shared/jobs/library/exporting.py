"""A workspace's data as files: every table of the service, a row per line of JSON, compressed.

    exports/<tenant>/<service>/orders.jsonl.gz …, and manifest.json with how many rows each has, and its SHA-256

Rows stream from the database into the store as its tenant, under row-level security, so that memory stays flat
whatever there is and nothing of anybody else can be among it. Left out are the library's own tables, and columns
that hold secrets. Each table is as it was when it was read.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

import psycopg
from psycopg import sql
from sqlalchemy import text

from shared import blobs
from shared.context import current
from shared.db import unit_of_work
from shared.jobs.actor import Priority, actor
from shared.jobs.current import current_job

__all__ = ["OWN_TABLES", "Exported", "export_tables", "export_workspace", "folder"]

OWN_TABLES: Final = (
    "circuits",
    "effects",
    "idempotency_keys",
    "job_attempts",
    "jobs",
    "outbox",
    "rate_limits",
    "reconciliations",
    "revocations",
    "standings",
    "webhook_events",
)
"""Tables of the library with rows of tenants: how work was done, which is nobody's data."""

SECRET: Final = ("_sealed", "_hash")
"""How the names of columns end that hold what lets somebody in."""

# Of the catalog and not of the information schema, which would hide a table that the tenant's role may not read.
_TABLES: Final = """
SELECT relname, array_agg(attname ORDER BY attnum)
FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
  AND relname <> ALL(CAST(:own AS text[]))
GROUP BY relname HAVING bool_or(attname = 'tenant_id') ORDER BY relname
"""

# No character of JSON text is a control character: as CSV with two of them it comes as it is, a row per line.
_COPY: Final = """
COPY (SELECT to_jsonb(one) FROM (SELECT {} FROM {} WHERE tenant_id = {}) AS one) TO STDOUT
(FORMAT csv, DELIMITER {}, QUOTE {})
"""


@dataclass(frozen=True, slots=True)
class Exported:
    """A table that was exported. `sha256` is of the compressed file, `left_out` are columns with secrets."""

    table: str
    key: str
    rows: int
    bytes: int
    sha256: str
    left_out: list[str]


@actor(queue_name="default", priority=Priority.HIGH, unique=(), subject="Export of the workspace's data",
       standing="any", time_limit=1500)  # fmt: skip
def export_workspace() -> dict[str, Any]:
    """Export all data of the workspace in this service; the newest export replaces the one before."""
    return export_tables(folder("exports"))


def folder(kind: str) -> str:
    """Return where files of the current tenant and service lie, in the store."""
    context = current()
    assert context.tenant_id is not None, "a job has a tenant"
    return f"{kind}/{blobs.tenant_part(context.tenant_id)}/{context.service}"


def export_tables(prefix: str) -> dict[str, Any]:
    """Export every table of the current tenant below this key, write the manifest last, and return it.

    To be called from a leased job. A later run of it goes on with the first table that is not done.
    """
    job = current_job()
    done: dict[str, dict[str, Any]] = dict(job.checkpoint.get("exported", {}))
    with unit_of_work() as session:
        tables = [(name, columns) for name, columns in session.execute(text(_TABLES), {"own": list(OWN_TABLES)})]
    for name, columns in tables:
        if name not in done:
            done[name] = asdict(_export(prefix, name, columns))
            checkpoint = {**job.checkpoint, "exported": done}
            job.progress(len(done), len(tables), unit="tables", checkpoint=checkpoint)
            job.breathe()
    manifest = {
        "tenant_id": current().tenant_id,
        "service": current().service,
        "exported_at": datetime.now(UTC).isoformat(),
        "tables": [done[name] for name in sorted(done)],
    }
    blobs.store().put(f"{prefix}/manifest.json", [json.dumps(manifest, indent=2).encode()])
    return manifest


def _export(prefix: str, table: str, columns: list[str]) -> Exported:
    shown = [name for name in columns if not name.endswith(SECRET)]
    key = f"{prefix}/{table}.jsonl.gz"
    statement = sql.SQL(_COPY).format(
        sql.SQL(", ").join(map(sql.Identifier, shown)),
        sql.Identifier(table),
        sql.Literal(current().tenant_id),
        sql.Literal("\x02"),
        sql.Literal("\x01"),
    )
    counted = _Counted()
    with unit_of_work() as session:
        connection = session.connection().connection.dbapi_connection
        assert isinstance(connection, psycopg.Connection)
        with connection.cursor() as cursor, cursor.copy(statement) as rows:
            size = blobs.store().put(key, counted.compressed(bytes(block) for block in rows))
    return Exported(table, key, counted.rows, size, counted.sha256.hexdigest(), sorted(set(columns) - set(shown)))


class _Counted:
    """Compresses lines on their way, and knows afterwards how many there were and what came of them."""

    def __init__(self) -> None:
        self.rows = 0
        self.sha256 = hashlib.sha256()

    def compressed(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        # In the format of gzip, without a time: the same rows make the same file.
        packer = zlib.compressobj(wbits=31)
        for line in lines:
            self.rows += line.count(b"\n")
            if packed := packer.compress(line):
                self.sha256.update(packed)
                yield packed
        packed = packer.flush()
        self.sha256.update(packed)
        yield packed
