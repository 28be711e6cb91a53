"""What benchmarks share: a fresh place to run in, processes, figures, results."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import text

from shared.context import use
from shared.db.migrate import upgrade
from shared.runtime.app import App, build
from shared.runtime.service import Service
from shared.runtime.settings import Settings
from shared.testing.servers import postgres_server, rabbitmq_server
from tests.sample.service import service as sample

__all__ = ["Place", "Result", "Row", "ms", "percentile", "place", "plain_worker", "process", "wait", "worker"]

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
    """What a benchmark found; `note` is what a reader has to know about this very run."""

    title: str
    rows: list[Row] = field(default_factory=list)
    note: str = ""

    def add(self, what: str, figure: str, bar: str = "", holds: bool | None = None) -> None:
        self.rows.append(Row(what, figure, bar, holds))


@dataclass
class Place:
    """A fresh database of one service and a fresh virtual host, both real."""

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
def place(service: Service = sample, threads: int = 16, **settings: object) -> Iterator[Place]:
    """Make a place to run a service in, within tenant `acme`; all of it goes at the end."""
    with (
        postgres_server() as postgres,
        rabbitmq_server() as rabbit,
        postgres.fresh_database("bench") as database_url,
        rabbit.fresh_vhost("bench") as broker_url,
        tempfile.TemporaryDirectory(prefix="backroom-bench-") as data_dir,
    ):
        upgrade(database_url, service.migrations())
        # Every URL of settings names the service; the fresh database's name does without.
        template = database_url + ("&" if "?" in database_url else "?") + "application_name={service}"
        values = {
            "database_url": template,
            "broker_url": broker_url,
            "data_dir": data_dir,
            "worker_threads": threads,
            "shutdown_seconds": 5,
            "log_level": "ERROR",
            **settings,
        }
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("BACKROOM_")}
        environment = {
            **inherited,
            **{f"BACKROOM_{name.upper()}": str(value) for name, value in values.items()},
            "PLAIN_DATABASE_URL": database_url,
            "PLAIN_BROKER_URL": broker_url,
            "PYTHONPATH": str(ROOT),
        }
        app = build(service, Settings(**values))  # type: ignore[arg-type]
        token = app.database.bind()
        try:
            with use(tenant_id="acme"):
                yield Place(app, environment, database_url, broker_url)
        finally:
            app.database.unbind(token)
            app.database.dispose()


@contextlib.contextmanager
def process(arguments: Sequence[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a module of this Python for as long as the block lasts; then it is killed, and all that it started."""
    running = subprocess.Popen(
        [sys.executable, "-m", *arguments], env=environment, cwd=ROOT, start_new_session=True, stdout=sys.stderr
    )
    try:
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()


def worker(here: Place) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    """A worker of the place's service with its relay, as it runs for real."""
    return process(["shared.runtime.cli", "worker", here.app.service.package], here.environment)


def plain_worker(here: Place, threads: int = 16) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    """A worker of the plain actors, under Dramatiq's own command."""
    return process(
        ["dramatiq", "--skip-logging", "--processes", "1", "--threads", str(threads), "tests.benchmarks.plain:broker"],
        here.environment,
    )


def wait(condition: Callable[[], object], timeout: float = 300, pause: float = 0.1) -> None:
    """Wait until a condition holds; raises TimeoutError."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("what the benchmark waited for did not come")
        time.sleep(pause)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that at least so many percent of the values do not exceed."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def ms(seconds: float) -> str:
    """Return a time for a table."""
    return f"{seconds * 1000:,.1f} ms"
