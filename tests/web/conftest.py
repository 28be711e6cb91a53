"""The sample service over a real database, in process and over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask import Flask
from sqlalchemy import create_engine, text

from shared.db import Database, signals
from shared.db.migrate import upgrade
from shared.jobs import FailureText
from shared.jobs.broker import EmbeddedBroker, EmbeddedHub
from shared.jobs.relay import QueueSettings
from shared.testing.servers import PostgresServer
from shared.web import Api, Signer, WebSettings, create_app, jobs_api
from shared.web.serve import Server, serve
from shared.web.testing import Client

from . import sample
from .jobs import Jobs

FAILURES = {
    "scratched": FailureText(
        what="{name} got a scratch.", meaning="It is not shiny.", doing="Nothing more.", action="Polish it again."
    )
}
SECRET = b"a secret of the tests"


@pytest.fixture(scope="session")
def signer() -> Signer:
    return Signer()


@pytest.fixture(scope="session")
def _migrated(postgres: PostgresServer) -> Iterator[str]:
    with postgres.fresh_database("web") as url:
        upgrade(url, [])
        engine = create_engine(Database(url).sqlalchemy_url(), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(sample.SCHEMA))
        engine.dispose()
        yield url


# What has connections goes with its module: a server has a hundred for all tests that run side by side.
@pytest.fixture(scope="module")
def database(_migrated: str) -> Iterator[Database]:
    database = Database(_migrated)
    yield database
    database.dispose()


@pytest.fixture(scope="session")
def settings(signer: Signer) -> WebSettings:
    return WebSettings(cursor_secret=SECRET, jwks=signer.jwks(), threads=8, max_streams=4, max_waiters=2)


@pytest.fixture(scope="session")
def jobs_of_sample() -> Api:
    sample.polish.bind(EmbeddedBroker("sample", EmbeddedHub()))
    return jobs_api.api("sample", FAILURES, actors={"polish": sample.polish}, queues=[QueueSettings("polish")])


def _build(database: Database, settings: WebSettings, jobs: Api) -> Flask:
    app = create_app([sample.api, sample.unruly, jobs], database, settings)
    signals.start(app.extensions["backroom"].database)
    return app


@pytest.fixture(scope="module")
def app(database: Database, settings: WebSettings, jobs_of_sample: Api) -> Iterator[Flask]:
    app = _build(database, settings, jobs_of_sample)
    yield app
    app.extensions["backroom"].close()


@pytest.fixture
def server(database: Database, settings: WebSettings, jobs_of_sample: Api) -> Iterator[Server]:
    """The sample over real HTTP; an app of its own, since stopping the server ends the app."""
    app = _build(database, settings, jobs_of_sample)
    with serve(app, threads=8) as server:
        yield server
    app.extensions["backroom"].close()
    assert app.extensions["backroom"].hub.streams == 0, "every stream gives its place back"


@pytest.fixture
def client(app: Flask, signer: Signer) -> Client:
    """A client in the role of an owner of the tenant acme."""
    return Client(app, signer)


@pytest.fixture
def jobs(database: Database) -> Jobs:
    return Jobs(database)


@pytest.fixture(autouse=True)
def _empty(database: Database) -> None:
    with database.system.begin() as connection:
        connection.execute(text("DELETE FROM things"))
        connection.execute(text("DELETE FROM idempotency_keys"))
        connection.execute(text("DELETE FROM jobs"))
        connection.execute(text("DELETE FROM job_attempts"))
