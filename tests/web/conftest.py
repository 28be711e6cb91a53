"""The sample service over a real database, in process and over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask import Flask
from sqlalchemy import create_engine, text

from shared.db import Database
from shared.db.migrate import upgrade
from shared.testing.servers import PostgresServer
from shared.web import Signer, WebSettings, create_app
from shared.web.testing import Client

from . import sample

SECRET = b"a secret of the tests"


@pytest.fixture(scope="session")
def signer() -> Signer:
    return Signer()


@pytest.fixture(scope="session")
def database(postgres: PostgresServer) -> Iterator[Database]:
    with postgres.fresh_database("web") as url:
        upgrade(url, [])
        engine = create_engine(Database(url).sqlalchemy_url(), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(sample.SCHEMA))
        engine.dispose()
        database = Database(url)
        yield database
        database.dispose()


@pytest.fixture(scope="session")
def settings(signer: Signer) -> WebSettings:
    return WebSettings(cursor_secret=SECRET, jwks=signer.jwks(), threads=8)


@pytest.fixture(scope="session")
def app(database: Database, settings: WebSettings) -> Iterator[Flask]:
    app = create_app([sample.api, sample.unruly], database, settings)
    yield app
    app.extensions["backroom"].close()


@pytest.fixture
def client(app: Flask, signer: Signer) -> Client:
    """A client in the role of an owner of the tenant acme."""
    return Client(app, signer)


@pytest.fixture(autouse=True)
def _empty(database: Database) -> None:
    with database.system.begin() as connection:
        connection.execute(text("DELETE FROM things"))
        connection.execute(text("DELETE FROM idempotency_keys"))
