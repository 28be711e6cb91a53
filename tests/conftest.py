"""Fixtures that every test may use. A missing server is a skip on a laptop and a failure in CI."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import settings

from shared.runtime.service import Service
from shared.testing.servers import (
    PostgresServer,
    RabbitServer,
    ServerMissing,
    postgres_server,
    rabbitmq_server,
    skip_or_fail,
)
from shared.testing.service import ServiceUnderTest, Templates

# A machine that is busy is no reason to fail.
settings.register_profile("backroom", deadline=None, print_blob=True)
settings.load_profile("backroom")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL to create databases in; shared with others, so never stop it."""
    try:
        server = postgres_server()
    except ServerMissing as missing:
        skip_or_fail(missing)
    with server:
        yield server


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitServer]:
    """A RabbitMQ to create virtual hosts in; shared with others, so never stop it."""
    try:
        server = rabbitmq_server()
    except ServerMissing as missing:
        skip_or_fail(missing)
    with server:
        yield server


@pytest.fixture(scope="session")
def _templates(postgres: PostgresServer) -> Iterator[Templates]:
    templates = Templates(postgres)
    yield templates
    templates.close()


@pytest.fixture
def service_app(request: pytest.FixtureRequest, _templates: Templates) -> Iterator[Callable[..., ServiceUnderTest]]:
    """Make a service under test over a fresh database: `service_app(service, transport="embedded", **settings)`.

    With `transport="rabbitmq"` it has a virtual host of its own. All of it goes when the test ends.
    """
    with ExitStack() as stack:

        def make(service: Service, transport: str = "embedded", **settings: Any) -> ServiceUnderTest:
            broker_url = None
            if transport == "rabbitmq":
                rabbitmq: RabbitServer = request.getfixturevalue("rabbitmq")
                broker_url = stack.enter_context(rabbitmq.fresh_vhost(service.name))
            database_url = stack.enter_context(_templates.fresh(service))
            return stack.enter_context(ServiceUnderTest(service, database_url, broker_url=broker_url, **settings))

        yield make


@pytest.fixture
def dialed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every address that is connected to; each is refused, so that nothing leaves this machine."""
    addresses: list[Any] = []

    def connect(_: socket.socket, address: Any) -> None:
        addresses.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket.socket, "connect", connect)
    return addresses
