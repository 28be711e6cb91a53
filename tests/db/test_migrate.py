"""Migrations: a database says whether it is what the code needs."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from shared.db.migrate import create_database, is_current, upgrade
from shared.testing.servers import PostgresServer
from tests.sample.service import service


@pytest.fixture
def url(postgres: PostgresServer) -> Iterator[str]:
    with postgres.fresh_database("migrate") as url:
        yield url


def test_an_empty_database_is_not_current_and_a_migrated_one_is(url: str) -> None:
    """The service's line depends on the library's, and alembic then notes the service's head alone."""
    assert not is_current(url, service.migrations())
    upgrade(url, service.migrations())
    assert is_current(url, service.migrations())


def test_a_database_without_the_services_own_revisions_is_not_current(url: str) -> None:
    upgrade(url, [])
    assert is_current(url, [])
    assert not is_current(url, service.migrations())


def test_an_older_version_stays_ready_beside_a_newer_one_that_has_migrated(url: str) -> None:
    """Invariant: version N and N+1 run side by side. What N does not know is newer, and N goes on."""
    upgrade(url, service.migrations())
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'sample_9999' WHERE version_num LIKE 'sample%'")
    assert is_current(url, service.migrations())


def test_a_database_of_before_the_librarys_second_revision_is_brought_up(url: str) -> None:
    """There the service's line stands for the library's, which alembic no longer notes; the library's goes on alone."""
    upgrade(url, service.migrations(), revision="sample@head")
    assert _noted(url) == {"sample_0001"}, "as every database was before the second revision"
    assert not is_current(url, service.migrations())
    upgrade(url, service.migrations())
    assert is_current(url, service.migrations())
    assert _noted(url) == {"sample_0001", "backroom_0002"}
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM standings").fetchone() == (0,)


def _noted(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        return {row[0] for row in connection.execute("SELECT version_num FROM alembic_version")}


def test_an_owner_who_may_make_no_roles_can_migrate_where_the_roles_are(url: str, postgres: PostgresServer) -> None:
    upgrade(url, [])  # makes the two roles, if nobody has
    owner = f"owner_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {owner} LOGIN".encode())
        connection.execute(f"ALTER DATABASE {connection.info.dbname} OWNER TO {owner}".encode())
    parts = urlsplit(url)
    as_owner = urlunsplit(parts._replace(netloc=f"{owner}@{parts.netloc.rpartition('@')[2]}"))
    try:
        create_database(as_owner)
    finally:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"REASSIGN OWNED BY {owner} TO CURRENT_USER".encode())
            connection.execute(f"DROP ROLE {owner}".encode())
