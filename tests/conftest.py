"""Fixtures that every test may use. A missing server is a skip on a laptop and a failure in CI."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NoReturn

import pytest

from shared.testing.servers import (
    PostgresServer,
    RabbitServer,
    ServerMissing,
    postgres_server,
    rabbitmq_server,
)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL to create databases in; shared with others, so never stop it."""
    try:
        server = postgres_server()
    except ServerMissing as missing:
        give_up(missing)
    with server:
        yield server


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitServer]:
    """A RabbitMQ to create virtual hosts in; shared with others, so never stop it."""
    try:
        server = rabbitmq_server()
    except ServerMissing as missing:
        give_up(missing)
    with server:
        yield server


def give_up(missing: ServerMissing) -> NoReturn:
    """Skip the test on a laptop; in CI, where nobody looks at skips, fail it."""
    if os.environ.get("CI"):
        pytest.fail(str(missing), pytrace=False)
    pytest.skip(str(missing))
