"""The wall between workspaces holds when the code forgets its own filter: for every table, read and written."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any, Final

import psycopg
import pytest
from psycopg import errors, sql
from sqlalchemy import select
from sqlalchemy.orm import DeclarativeBase

from shared.context import use
from shared.db import unit_of_work
from shared.db.database import APP_ROLE
from shared.jobs.models import Base as LibraryBase
from tests.security.conftest import OTHER, VICTIM, Served, insert, tables

OF_NOBODY: Final = {
    "alembic_version": "how far the database was migrated",
    "queues": "which queues are paused",
    "schedules": "how far schedules have come",
    "workers": "which processes run",
    "circuits": "whether a provider is down; `*` stands for all workspaces, and only the system writes",
    "rate_limits": "how much a provider takes; likewise",
    "signing_keys": "public keys, and sealed private ones, of no workspace; requests may read them alone",
}
"""Tables without a wall, and what they hold instead of anybody's data."""

WINDOWS: Final = {
    "backroom_refusals": "which workspaces and credentials are refused, and nothing else of them",
    "tenant_of_subscription": "to which workspace a webhook of Paddle belongs, and nothing else of it",
}
"""Functions that look over the wall."""

_OPEN: Final = """
SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
AND NOT relrowsecurity ORDER BY 1
"""
_DEFINERS: Final = "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosecdef ORDER BY 1"
_ROLE: Final = "SELECT rolsuper, rolbypassrls, rolcreaterole FROM pg_roles WHERE rolname = %s"


def walled(served: Served) -> Iterator[tuple[str, list[tuple[str, str, bool]]]]:
    return ((name, columns) for name, columns in tables(served.url).items() if name not in OF_NOBODY)


def test_every_table_has_the_wall_or_a_reason_for_none(served: Served) -> None:
    with psycopg.connect(served.url) as owner:
        assert {name for (name,) in owner.execute(_OPEN)} <= set(OF_NOBODY)
        assert {name for (name,) in owner.execute(_DEFINERS)} <= set(WINDOWS)
        assert owner.execute(_ROLE, (APP_ROLE,)).fetchone() == (False, False, False)
        owned = owner.execute("SELECT count(*) FROM pg_class WHERE relowner = %s::regrole", (APP_ROLE,)).fetchone()
    assert owned == (0,), "an owner is not held by the wall"
    assert all(any(name == "tenant_id" for name, *_ in columns) for _, columns in walled(served))


@pytest.mark.parametrize("tenant_id", [OTHER, "", None])
def test_no_table_shows_another_workspaces_rows(served: Served, tenant_id: str | None) -> None:
    """Read and written without any filter, in another workspace, in one without a name, and in none at all."""
    for table, columns in walled(served):
        assert attempt(served, tenant_id, sql.SQL("SELECT * FROM {}"), table) == 0, table
        assert attempt(served, tenant_id, sql.SQL("UPDATE {} SET tenant_id = tenant_id"), table) == 0, table
        assert attempt(served, tenant_id, sql.SQL("DELETE FROM {}"), table) == 0, table
        statement, values = insert(table, columns, VICTIM)
        assert attempt(served, tenant_id, statement, table, values) == 0, f"{table}: a row was planted"


def test_the_victim_itself_sees_its_rows(served: Served) -> None:
    """Else the test above would hold for tables that nobody can read."""
    unseen = [table for table, _ in walled(served) if attempt(served, VICTIM, sql.SQL("SELECT * FROM {}"), table) == 0]
    assert unseen == []


def test_no_model_shows_another_workspaces_rows(served: Served) -> None:
    found = 0
    with use(tenant_id=OTHER, service=served.service.name), unit_of_work(database=served.app.database) as session:
        for model in models(served):
            if model.__tablename__ not in OF_NOBODY:
                assert session.scalars(select(model)).all() == [], model
                found += 1
    assert found > 2


def attempt(served: Served, tenant_id: str | None, statement: Any, table: str, values: Any = None) -> int:
    """Return how many rows a statement reaches under the role of requests, undone at once; 0 where it may not."""
    with served.app.database.connect(autocommit=False) as connection:
        if tenant_id is not None:
            connection.execute("SELECT set_config('backroom.tenant', %s, false)", (tenant_id,))
        try:
            composed = statement if isinstance(statement, sql.Composed) else statement.format(sql.Identifier(table))
            return connection.execute(composed, values).rowcount
        except errors.InsufficientPrivilege:
            return 0
        finally:
            connection.rollback()


def models(served: Served) -> Iterator[Any]:
    """Yield the mapped classes of a service and of the library."""
    package = importlib.import_module(served.service.package)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if module.name.rpartition(".")[2] == "models":
            for base in bases(importlib.import_module(module.name)):
                yield from (mapper.class_ for mapper in base.registry.mappers)
    yield from (mapper.class_ for mapper in LibraryBase.registry.mappers)


def bases(module: ModuleType) -> list[type[DeclarativeBase]]:
    found = vars(module).values()
    return [one for one in found if isinstance(one, type) and DeclarativeBase in one.__bases__]
