"""What benchmarks share: a fresh place to run in, worker processes, results."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import text

from shared.context import use
from shared.db.migrate import upgrade
from shared.runtime.app import App, build
from shared.runtime.settings import Settings
from shared.testing.servers import postgres_server, rabbitmq_server
from tests.sample.service import service

__all__ = ["Place", "Result", "Row", "place", "process", "wait"]

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Row:
    """One measured figure. `bar` says what it has to reach, `holds` whether it does; None: for information."""

    what: str
    figure: str
    bar: str = ""
    holds: bool | None = None


@dataclass
class Result:
    title: str
    rows: list[Row] = field(default_factory=list)
    note: str = ""

    def add(self, what: str, figure: str, bar: str = "", holds: bool | None = None) -> None:
        self.rows.append(Row(what, figure, bar, holds))


@dataclass
class Place:
    """A fresh database of the sample service and a fresh virtual host, both real."""

    app: App
    environment: dict[str, str]
    database_url: str
    broker_url: str

    def query(self, statement: str, **parameters: object) -> list[tuple[object, ...]]:
        with self.app.database.system.connect() as connection:
            return [tuple(row) for row in connection.execute(text(statement), parameters)]

    def execute(self, statement: str, **parameters: object) -> None:
        with self.app.database.system.begin() as connection:
            connection.execute(text(statement), parameters)


@contextlib.contextmanager
def place(threads: int = 16, **settings: object) -> Iterator[Place]:
    """Make a place to run the sample service in; all of it goes at the end."""
    with (
        postgres_server() as postgres,
        rabbitmq_server() as rabbit,
        postgres.fresh_database("bench") as database_url,
        rabbit.fresh_vhost("bench") as broker_url,
    ):
        upgrade(database_url, service.migrations())
        data_dir = Path(os.environ.get("TMPDIR", "/tmp")) / f"backroom-bench-{os.getpid()}"
        # Every URL of settings names the service; the fresh database's name does without.
        template = database_url + ("&" if "?" in database_url else "?") + "application_name={service}"
        environment = {
            **os.environ,
            "BACKROOM_DATABASE_URL": template,
            "BACKROOM_BROKER_URL": broker_url,
            "BACKROOM_DATA_DIR": str(data_dir),
            "BACKROOM_WORKER_THREADS": str(threads),
            "BACKROOM_LOG_LEVEL": "ERROR",
            "PLAIN_DATABASE_URL": database_url,
            "PLAIN_BROKER_URL": broker_url,
            "PYTHONPATH": str(ROOT),
            **{f"BACKROOM_{name.upper()}": str(value) for name, value in settings.items()},
        }
        os.environ.update({key: value for key, value in environment.items() if key.startswith("BACKROOM_")})
        app = build(service, Settings())
        token = app.database.bind()
        try:
            with use(tenant_id="acme"):
                yield Place(app, environment, database_url, broker_url)
        finally:
            app.database.unbind(token)
            app.database.dispose()


@contextlib.contextmanager
def process(arguments: Sequence[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program of this Python for as long as the block lasts."""
    running = subprocess.Popen([sys.executable, "-m", *arguments], env=environment, cwd=ROOT)
    try:
        yield running
    finally:
        running.terminate()
        try:
            running.wait(20)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def worker(here: Place) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    """A worker of the sample service with its relay, as it runs for real."""
    return process(["shared.runtime.cli", "worker", service.package], here.environment)


def wait(condition: Callable[[], bool], timeout: float = 300, pause: float = 0.1) -> None:
    """Wait until a condition holds; raises TimeoutError."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("what the benchmark waited for did not come")
        time.sleep(pause)
