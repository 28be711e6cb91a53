"""Migrations: a database says whether it is what the code needs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shared.db.migrate import is_current, upgrade
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
