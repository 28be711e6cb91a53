"""Fixtures that every test may use. A missing server is a skip on a laptop and a failure in CI."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shared.testing.servers import (
    PostgresServer,
    RabbitServer,
    ServerMissing,
    postgres_server,
    rabbitmq_server,
    skip_or_fail,
)


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
