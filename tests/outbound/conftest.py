"""A database with the library's tables, and a web server that misbehaves as told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shared.context import use
from shared.db.database import Database
from shared.db.migrate import upgrade
from shared.testing.servers import PostgresServer
from tests.outbound.raw_server import Server


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="module")
def database(postgres: PostgresServer) -> Iterator[Database]:
    with postgres.fresh_database("outbound") as url:
        upgrade(url, [])
        database = Database(url)
        yield database
        database.dispose()


@pytest.fixture
def tenant(database: Database, request: pytest.FixtureRequest) -> Iterator[str]:
    """The database bound, and a tenant of this test's own entered."""
    token = database.bind()
    name = f"t-{abs(hash(request.node.nodeid)):x}"
    with use(tenant_id=name):
        yield name
    database.unbind(token)
