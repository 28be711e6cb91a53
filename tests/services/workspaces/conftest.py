"""Fixtures for tests of workspaces."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from services.workspaces.service import service
from services.workspaces.settings import settings
from shared.db.migrate import upgrade
from shared.testing.servers import PostgresServer
from shared.testing.service import ServiceUnderTest
from tests.services.workspaces.desk import Desk
from tests.services.workspaces.shop import Shop, paddle


@pytest.fixture
def workspaces(service_app: Callable[..., ServiceUnderTest]) -> ServiceUnderTest:
    """Workspaces over a fresh database."""
    return service_app(service)


@pytest.fixture(scope="module")
def _shared(postgres: PostgresServer) -> Iterator[Desk]:
    """One database and one app for the tests of a module; each test finds it empty."""
    settings.cache_clear()
    with postgres.fresh_database("workspaces") as url:
        upgrade(url, service.migrations())
        under_test = ServiceUnderTest(service, url)
        signer = under_test.app.secrets.signer
        assert signer is not None
        web = under_test.app.web()
        yield Desk(under_test, web, signer)
        web.extensions["backroom"].close()
        under_test.close()


@pytest.fixture
def desk(_shared: Desk) -> Iterator[Desk]:
    """Somebody before the door: requests through the app, jobs in the thread of the test."""
    with _shared.service.current():
        _shared.open()
        yield _shared
    settings.cache_clear()


@pytest.fixture
def shop(workspaces: ServiceUnderTest) -> Iterator[Shop]:
    """The workspace `acme`, and Paddle's stand-in."""
    with paddle() as sandbox:
        world = Shop(workspaces, sandbox)
        world.open()
        yield world
        world.web.extensions["backroom"].close()
