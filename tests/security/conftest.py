"""Each service as it is served, over a database in which the workspace `victim` has a row in every table.

The rows are made from the catalog, so that no table can be forgotten: every text is `MARKER` and every id `ID`. To
that end the constraints of the copy are dropped; nobody but the victim could ever see such a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import psycopg
import pytest
from flask import Flask
from psycopg import sql

from shared.jobs.broker import EmbeddedHub
from shared.runtime.app import App, build
from shared.runtime.service import Service, all_services
from shared.runtime.settings import Settings
from shared.testing.service import Templates, wait_until
from shared.web import Signer

MARKER: Final = "of-the-victim-alone"
ID: Final = UUID("01a214ba-e895-74b2-ae8a-5c58a6aeb37b")
VICTIM: Final = "victim"
OTHER: Final = "other"
STATES: Final = ("frozen", "suspended", "archived")
"""Each is the name of a workspace that is so."""

COLUMNS: Final = """
SELECT relname, attname, format_type(atttypid, NULL), attgenerated <> '' OR attidentity <> ''
FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') ORDER BY relname, attnum
"""
_CONSTRAINTS: Final = """
SELECT conrelid::regclass::text, conname FROM pg_constraint
WHERE connamespace = 'public'::regnamespace AND contype IN ('c', 'f')
"""
_VALUES: Final = {
    "text": MARKER,
    "character varying": MARKER,
    "uuid": ID,
    "jsonb": f'{{"marker": "{MARKER}"}}',
    "json": f'{{"marker": "{MARKER}"}}',
    "bytea": MARKER.encode(),
    "boolean": True,
    "date": "2026-01-01",
    "timestamp with time zone": "2026-01-01T00:00:00Z",
    "interval": "1 hour",
    "text[]": [MARKER],
    "uuid[]": [ID],
    "integer[]": [1],
}


@dataclass
class Served:
    """A service, its app, and who signs its tokens."""

    service: Service
    app: App
    web: Flask
    signer: Signer
    url: str

    def operations(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Yield method, path and declaration of everything in the document."""
        document = self.web.test_client().get("/openapi.json").json
        assert document is not None
        for path, methods in document["paths"].items():
            for method, declared in methods.items():
                yield method.upper(), path, declared

    def guarded(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Yield those that ask who calls."""
        return (one for one in self.operations() if one[2]["security"])


def tables(url: str) -> dict[str, list[tuple[str, str, bool]]]:
    """Return the columns of every table: name, type, and whether the database makes the value."""
    found: dict[str, list[tuple[str, str, bool]]] = {}
    with psycopg.connect(url) as owner:
        for table, *column in owner.execute(COLUMNS):
            found.setdefault(table, []).append(tuple(column))
    return found


def insert(table: str, columns: list[tuple[str, str, bool]], tenant_id: str) -> tuple[sql.Composed, list[Any]]:
    """Return the statement that makes a workspace's row in a table, and its values."""
    given = [(name, kind) for name, kind, made in columns if not made]
    values = [tenant_id if name == "tenant_id" else _VALUES.get(kind, 1) for name, kind in given]
    statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
        sql.Identifier(table),
        sql.SQL(", ").join(sql.Identifier(name) for name, _ in given),
        sql.SQL(", ").join(sql.SQL("%s::" + kind) for _, kind in given),
    )
    return statement, values


def _fill(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as owner:
        for table, constraint in owner.execute(_CONSTRAINTS).fetchall():
            owner.execute(f'ALTER TABLE {table} DROP CONSTRAINT IF EXISTS "{constraint}"'.encode())
        for table, columns in tables(url).items():
            if any(name == "tenant_id" for name, *_ in columns) and table != "standings":
                owner.execute(*insert(table, columns, VICTIM))
        owner.execute("INSERT INTO standings VALUES (%s, 'active', 1, now())", (VICTIM,))
        for state in STATES:
            owner.execute("INSERT INTO standings VALUES (%s, %s, 1, now())", (state, state))
        for kind in ("session", "api_key", "member"):
            owner.execute("INSERT INTO revocations VALUES ('revoked', %s, %s, now(), now() + '1 hour')", (kind, ID))


@pytest.fixture(scope="module", params=all_services(), ids=lambda service: service.name)
def served(
    request: pytest.FixtureRequest, _templates: Templates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    service: Service = request.param
    with _templates.fresh(service) as url:
        _fill(url)
        app = build(service, _settings(tmp_path_factory.mktemp(service.name)), hub=EmbeddedHub(), database_url=url)
        web = app.web()
        signer = app.secrets.signer
        assert signer is not None
        wait_until(web.extensions["backroom"].gate.ready, what="the gate to know what is refused")
        token = app.database.bind()
        yield Served(service, app, web, signer, url)
        app.database.unbind(token)
        web.extensions["backroom"].close()
        app.database.dispose()


def _settings(directory: Path) -> Settings:
    return Settings(data_dir=directory)
