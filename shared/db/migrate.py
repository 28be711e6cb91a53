"""Migrations of a service's database, by alembic.

Every database carries two lines of revisions: the library's (`shared/db/migrations/versions`) and the
service's own (`services/<name>/migrations`). `upgrade` brings both to their heads, one process at a
time, with short lock and statement timeouts so that a migration never queues up the whole service
behind a lock that it cannot get.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import to_tuple
from sqlalchemy import create_engine, make_url, pool, text

from shared.db.database import APP_ROLE, SYSTEM_ROLE

__all__ = ["config", "create_database", "enable_tenancy", "is_current", "upgrade"]

_LIBRARY = Path(__file__).parent / "migrations"
_ADVISORY_LOCK = 0x6261636B  # "back": one migration of a database at a time


def config(locations: list[Path]) -> Config:
    """Return alembic's configuration for the library's revisions and those in `locations`."""
    configuration = Config()
    configuration.set_main_option("script_location", str(_LIBRARY))
    configuration.set_main_option("path_separator", "newline")
    versions = [_LIBRARY / "versions", *locations]
    configuration.set_main_option("version_locations", "\n".join(str(path) for path in versions))
    return configuration


def upgrade(url: str, locations: list[Path], *, revision: str = "heads") -> None:
    """Bring the database at `url` to `revision`, making it and the two roles first where they are missing.

    `url` must log in as the owner of the tables (or as a role that may make them).
    """
    create_database(url)
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), poolclass=pool.NullPool)
    configuration = config(locations)
    with engine.connect() as lock:
        lock = lock.execution_options(isolation_level="AUTOCOMMIT")
        lock.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _ADVISORY_LOCK})
        with engine.connect() as connection:
            connection.execute(text("SET lock_timeout = '4s'"))
            connection.execute(text("SET statement_timeout = '60s'"))
            connection.commit()
            configuration.attributes["connection"] = connection
            command.upgrade(configuration, revision)
            connection.commit()
    engine.dispose()


def is_current(url: str, locations: list[Path]) -> bool:
    """Return whether the database stands at every head that this code knows, or further.

    A revision that this code does not know is of a newer version, which migrates before its code runs: the
    older version goes on beside it, since migrations expand first and contract last.
    """
    script = ScriptDirectory.from_config(config(locations))
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), poolclass=pool.NullPool)
    try:
        with engine.connect() as connection:
            heads = MigrationContext.configure(connection).get_current_heads()
    finally:
        engine.dispose()
    known = {revision.revision for revision in script.walk_revisions()}
    return bool(set(heads) - known) or _needed(script) <= set(heads)


def _needed(script: ScriptDirectory) -> set[str]:
    """Return the heads that alembic notes in a database that is up to date.

    It notes none on which another revision depends: the service's first revision stands for the library's.
    """
    implied = {
        found.revision
        for revision in script.walk_revisions()
        for name in to_tuple(revision.dependencies, default=())
        for found in script.get_revisions(name)
        if found is not None
    }
    return set(script.get_heads()) - implied


def create_database(url: str) -> None:
    """Make the database that `url` names, if it is not there, and the two roles of the wall."""
    parsed = make_url(url)
    name = parsed.database
    assert name, "the database URL names no database"
    maintenance = parsed.set(drivername="postgresql", database="postgres")
    with psycopg.connect(maintenance.render_as_string(hide_password=False), autocommit=True) as connection:
        for role in (APP_ROLE, SYSTEM_ROLE):
            # Looked up first: where both are there, the owner of a database need not be allowed to make roles.
            if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone() is None:
                _unless_exists(connection, f"CREATE ROLE {role} NOLOGIN")
        exists = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone()
        if exists is None:
            quoted = '"' + name.replace('"', '""') + '"'
            _unless_exists(connection, f"CREATE DATABASE {quoted} TEMPLATE template0 ENCODING 'UTF8'")


def _unless_exists(connection: psycopg.Connection[object], statement: str) -> None:
    # Another process of the same deployment may be faster.
    exists = (psycopg.errors.DuplicateObject, psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation)
    with contextlib.suppress(*exists):
        connection.execute(statement.encode())


def enable_tenancy(table: str, *, app: str = "SELECT, INSERT, UPDATE, DELETE") -> str:
    """Return the statements that wall a table with a `tenant_id` column off by tenant, for a migration.

    The app's role sees and writes rows of its tenant only; the system's role sees all of them.
    """
    tenant = "tenant_id = current_setting('backroom.tenant', true)"
    return f"""
        ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
        CREATE POLICY tenant ON {table} TO {APP_ROLE} USING ({tenant}) WITH CHECK ({tenant});
        CREATE POLICY system ON {table} TO {SYSTEM_ROLE} USING (true) WITH CHECK (true);
        GRANT {app} ON {table} TO {APP_ROLE};
        GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {SYSTEM_ROLE};
    """
