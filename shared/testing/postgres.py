"""PostgreSQL for tests: found, or started as a private node. The door to it is `shared.testing.servers`."""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from shared.runtime.embedded.binaries import OLDEST_MAJOR
from shared.runtime.embedded.postgres import EmbeddedPostgres, PostgresNotFound
from shared.runtime.embedded.unprivileged import account_for
from shared.testing.server import ServerMissing, apt_install, remember_process, run_directory

DATABASE_URL_VARIABLE = "BACKROOM_TEST_DATABASE_URL"

DATABASE_PREFIX = "backroom_test"

#: First key of the advisory locks that show which run's databases are still in use.
LOCK_CLASS = 0x6261636B

LOCAL_URLS = (
    "postgresql://postgres@127.0.0.1:5432/postgres",
    "postgresql://postgres:postgres@127.0.0.1:5432/postgres",
    "postgresql:///postgres",
)


class PostgresServer:
    """A server in which we are a superuser. `url` is a libpq URL of its database `postgres`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._run = secrets.randbelow(2**31)
        self._claim: psycopg.Connection | None = None
        self._guard = threading.Lock()

    @property
    def url(self) -> str:
        """The libpq URL of the superuser."""
        return self._url

    @property
    def is_private(self) -> bool:
        """Whether nobody but this run uses the server."""
        return False

    def url_of(self, database: str) -> str:
        """The same server's URL with another database."""
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(path=f"/{database}"))

    @contextmanager
    def fresh_database(self, name: str = "test", template: str | None = None) -> Iterator[str]:
        """The URL of a new, empty database that no other run uses; dropped at the end, connections and all.

        With a template, the URL or name of another database, it is a copy of that one instead: cheaper than
        migrating anew. The template must have no connections.
        """
        self._claim_run()
        word = re.sub(r"[^a-z0-9]+", "_", name.lower())[:24]
        database = f"{DATABASE_PREFIX}_{self._run:08x}_{word}_{secrets.token_hex(4)}"
        create = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database))
        if template is not None:
            origin = urlsplit(template).path.lstrip("/") if "://" in template else template
            create = create + sql.SQL(" TEMPLATE {}").format(sql.Identifier(origin))
        self._execute(create)
        try:
            yield self.url_of(database)
        finally:
            self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))

    def problem(self) -> str | None:
        """Why the tests cannot use this server, or None when they can."""
        try:
            with psycopg.connect(self.url, connect_timeout=5) as connection:
                row = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
                if connection.info.server_version < OLDEST_MAJOR * 10_000:
                    return f"it is older than PostgreSQL {OLDEST_MAJOR}"
                if not row or not row[0]:
                    return "its user is no superuser, and the tests create databases and roles"
                return None
        except psycopg.Error as error:
            return str(error).strip()

    def close(self) -> None:
        """Give up the claim on this run's databases."""
        if self._claim is not None:
            self._claim.close()
            self._claim = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _execute(self, statement: sql.SQL | sql.Composed) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement)

    def _claim_run(self) -> None:
        """Mark this run as alive, and drop what dead runs left in a server that others use too."""
        if self.is_private:
            return
        with self._guard:
            if self._claim is not None:
                return
            claim = psycopg.connect(self.url, autocommit=True)
            claim.execute("SELECT pg_advisory_lock(%s, %s)", (LOCK_CLASS, self._run))
            self._claim = claim
            found = claim.execute(
                "SELECT datname FROM pg_database WHERE datname LIKE %s", (f"{DATABASE_PREFIX}\\_%",)
            ).fetchall()
            for (database,) in found:
                run = re.match(rf"{DATABASE_PREFIX}_([0-9a-f]{{8}})_", database)
                if run is None:
                    continue
                key = (LOCK_CLASS, int(run.group(1), 16))
                taken = claim.execute("SELECT pg_try_advisory_lock(%s, %s)", key).fetchone()
                if taken and taken[0] and key[1] != self._run:
                    drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
                    claim.execute(drop.format(sql.Identifier(database)))
                    claim.execute("SELECT pg_advisory_unlock(%s, %s)", key)


class PrivatePostgres(PostgresServer):
    """A PostgreSQL of this run's own, on a Unix socket, with an empty data directory that goes with it.

    `url` stays the same over `stop`, `kill`, `restart` and `start`. Settings are given as in postgresql.conf.
    """

    def __init__(self, settings: dict[str, str] | None = None) -> None:
        super().__init__("")
        self._settings = settings
        self._stack = ExitStack()
        self._server: EmbeddedPostgres | None = None

    @property
    def url(self) -> str:
        """The libpq URL of the superuser."""
        return self._running.url

    @property
    def is_private(self) -> bool:
        """Always True."""
        return True

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        return self._running.pid

    def start(self) -> None:
        """Start the server and return when it answers. Raises ServerMissing when there are no programs."""
        if self._server is None:
            directory = self._stack.enter_context(run_directory("pg", account_for(["postgres"])))
            self._server = EmbeddedPostgres(directory / "data", self._settings)
        try:
            self._server.start()
        except PostgresNotFound as missing:
            if not apt_install("postgresql"):
                raise ServerMissing(f"{missing} Or set {DATABASE_URL_VARIABLE}.") from missing
            self._server.start()
        remember_process(self._server.data_dir.parent, self._server.pid)

    def stop(self) -> None:
        """Stop the server in order; `start` finds the data again."""
        self._running.stop()

    def kill(self) -> None:
        """SIGKILL the server; `start` recovers from it."""
        self._running.kill()

    def restart(self) -> None:
        """Stop and start."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop the server and remove its data."""
        super().close()
        if self._server is not None:
            self._server.close()
            self._server = None
        self._stack.close()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    @property
    def _running(self) -> EmbeddedPostgres:
        if self._server is None:
            raise ServerMissing("This private PostgreSQL was not started.")
        return self._server
