"""Real PostgreSQL and RabbitMQ for tests and benchmarks.

`postgres_server()` and `rabbitmq_server()` promise a server, wherever it comes from, in this order:

1. the URL in `BACKROOM_TEST_DATABASE_URL` or `BACKROOM_TEST_BROKER_URL`;
2. a local server on its default port with its default credentials;
3. installed programs, started as a private node of ours;
4. the same after `apt-get install`, when root on Debian.

When nothing helps they raise `ServerMissing`, whose message says what to do.

Runs side by side do not collide: each asks for databases and virtual hosts of its own. Whoever stops,
restarts or kills a server asks for a private one, because the local one may serve others:

    with postgres_server() as server, server.fresh_database("orders") as url: ...
    with rabbitmq_server(private=True) as server: server.kill(); server.start()
"""

from __future__ import annotations

import os
from typing import Literal, NoReturn, overload
from urllib.parse import urlsplit

from shared.testing.postgres import DATABASE_URL_VARIABLE, PostgresServer, PrivatePostgres
from shared.testing.postgres import LOCAL_URLS as LOCAL_DATABASE_URLS
from shared.testing.rabbitmq import BROKER_URL_VARIABLE, PrivateRabbit, RabbitServer
from shared.testing.rabbitmq import LOCAL_URL as LOCAL_BROKER_URL
from shared.testing.server import ServerMissing, answers

__all__ = [
    "PostgresServer",
    "PrivatePostgres",
    "PrivateRabbit",
    "RabbitServer",
    "ServerMissing",
    "postgres_server",
    "rabbitmq_server",
    "skip_or_fail",
]


@overload
def postgres_server(*, private: Literal[True]) -> PrivatePostgres: ...
@overload
def postgres_server(*, private: bool = False) -> PostgresServer: ...
def postgres_server(*, private: bool = False) -> PostgresServer:
    """A running PostgreSQL in which we may create databases and roles; close it after use.

    Raises ServerMissing when there is none to be had, or the given URL is of no use.
    """
    if not private:
        if given := os.environ.get(DATABASE_URL_VARIABLE):
            server = PostgresServer(given)
            if problem := server.problem():
                raise ServerMissing(f"The PostgreSQL of {DATABASE_URL_VARIABLE} is of no use here: {problem}")
            return server
        for url in LOCAL_DATABASE_URLS:
            if urlsplit(url).hostname is None or answers("127.0.0.1", 5432):
                server = PostgresServer(url)
                if server.problem() is None:
                    return server
    return PrivatePostgres().__enter__()


@overload
def rabbitmq_server(*, private: Literal[True]) -> PrivateRabbit: ...
@overload
def rabbitmq_server(*, private: bool = False) -> RabbitServer: ...
def rabbitmq_server(*, private: bool = False) -> RabbitServer:
    """A running RabbitMQ in which we may create virtual hosts; close it after use.

    Raises ServerMissing when there is none to be had, or the given URL is of no use.
    """
    if not private:
        if given := os.environ.get(BROKER_URL_VARIABLE):
            server = RabbitServer(given)
            if problem := server.problem():
                raise ServerMissing(f"The RabbitMQ of {BROKER_URL_VARIABLE} is of no use here: {problem}")
            return server
        if answers("127.0.0.1", 5672):
            server = RabbitServer(LOCAL_BROKER_URL)
            if server.problem() is None:
                return server
    return PrivateRabbit().__enter__()


def skip_or_fail(missing: ServerMissing) -> NoReturn:
    """For fixtures: skip the test on a laptop; in CI, where nobody looks at skips, fail it."""
    # Imported here, because benchmarks use servers without pytest.
    import pytest

    if os.environ.get("CI"):
        pytest.fail(str(missing), pytrace=False)
    pytest.skip(str(missing))
