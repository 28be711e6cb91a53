"""Everything that a run needs, as real processes: servers, proxies, the sandbox, and the programs under test."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psycopg
import requests

from shared.runtime.secrets import Secrets
from shared.runtime.settings import Settings
from shared.sandbox.client import SandboxClient
from shared.testing.postgres import PrivatePostgres
from shared.testing.rabbitmq import PrivateRabbit
from shared.testing.server import free_port, run_directory
from tests.chaos.processes import Program, Supervisor
from tests.chaos.proxies import Proxies

if TYPE_CHECKING:
    from tests.chaos.targets.base import Target

__all__ = ["SETTLE", "SUSPENDED", "TOTAL", "World"]

ROOT = Path(__file__).resolve().parents[2]

TOTAL = 2.0
"""Seconds that one call of the sandbox may take."""

SUSPENDED = 3.0
"""Seconds of silence after which a worker that still holds its lock is given up."""

SETTLE = 12.0
"""Seconds after which a purchase without an answer is looked up. Above the longest suspension and a call together:
the journal promises no more, in production no more than here (120 s, 15 s and 40 s)."""

RETRY_SCALE = 0.02
"""Of 10 s, 1 min and 10 min this makes 0.2, 1.2 and 12 s."""

_READY = 90.0


class World:
    """Context manager: all up on entry, all gone on exit; the logs stay in `directory` if one is given."""

    def __init__(
        self, target: Target, *, seed: int, faults: list[dict[str, Any]], directory: Path | None = None
    ) -> None:
        self.target = target
        self.seed = seed
        self._faults = faults
        self._stack = contextlib.ExitStack()
        self._directory = directory

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._stack.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, self._told_to_stop))
        try:
            self._up()
        except BaseException:
            self._stack.close()
            raise
        return self

    def _told_to_stop(self, number: int, frame: object) -> None:
        """Leave nothing behind; clients and faults that are under way are not waited for."""
        self._stack.close()
        os._exit(128 + number)

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _up(self) -> None:
        home = self._stack.enter_context(run_directory("chaos"))
        self.directory = self._directory or home
        self.directory.mkdir(parents=True, exist_ok=True)
        self.rabbit = self._stack.enter_context(PrivateRabbit())
        self.postgres = self._stack.enter_context(PrivatePostgres())
        self.database_url = self.postgres.url_of("chaos")
        self.proxies = Proxies({"broker": self.rabbit.url, "database": self.database_url}, ROOT)
        self._stack.callback(self.proxies.close)
        self.ledger_path = home / "ledger.jsonl"
        self.api_port, sandbox_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.api_port}"
        self.sandbox_url = f"http://127.0.0.1:{sandbox_port}"
        self.sandbox = SandboxClient(self.sandbox_url)
        self.data_dir = home / "data"
        self.secrets = Secrets.from_settings(Settings(data_dir=self.data_dir))
        self.target.migrate(self)
        # In a file, since a sandbox that was killed comes back with the rules that it was started with.
        rules = home / "faults.json"
        rules.write_text(json.dumps(self._faults))
        self.supervisor = Supervisor(self.directory, self._environment(), home / "processes")
        self._stack.callback(self.supervisor.stop)
        sandbox = ["-m", "shared.sandbox", "--port", str(sandbox_port), "--ledger", str(self.ledger_path)]
        options = ["--faults", str(rules), "--seed", str(self.seed), "--limits", "0"]
        self.supervisor.add(Program("sandbox", "sandbox", [sys.executable, *sandbox, *options]))
        for program in self.target.programs(self):
            self.supervisor.add(program)
        self._wait_until_ready()
        self.target.ready(self)

    def _environment(self) -> Mapping[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("BACKROOM_", "SHIPPING_"))}
        template = self.proxies.urls["database"] + "?application_name={service}"
        return {
            **kept,
            "PYTHONPATH": str(ROOT),
            "BACKROOM_DATABASE_URL": template,
            "BACKROOM_BROKER_URL": self.proxies.urls["broker"],
            "BACKROOM_DATA_DIR": str(self.data_dir),
            "BACKROOM_BLOB_URL": f"file://{self.data_dir}/blobs",
            "BACKROOM_PORT": str(self.api_port),
            "BACKROOM_RETRY_SCALE": str(RETRY_SCALE),
            "BACKROOM_SUSPENDED_SECONDS": str(SUSPENDED),
            "BACKROOM_SHUTDOWN_SECONDS": "10",
            "BACKROOM_WORKER_THREADS": "8",
            **self.target.environment(self),
        }

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _READY
        while True:
            with contextlib.suppress(requests.RequestException):
                self.sandbox.state()
                if requests.get(f"{self.url}/readyz", timeout=2).status_code < 400:
                    return
            if time.monotonic() > deadline:
                raise TimeoutError(f"the API did not become ready; its log:\n{self.log('api')[-3000:]}")
            time.sleep(0.1)

    def connect(self) -> psycopg.Connection[Any]:
        """Open a connection past the proxy, as the superuser, in autocommit."""
        return psycopg.connect(self.database_url, autocommit=True)

    def token(self, tenant: str) -> str:
        """Issue a token for an owner of this tenant."""
        assert self.secrets.signer is not None
        return self.secrets.signer.issue(tenant, "user:chaos", "owner", 24 * 3600)

    def log(self, name: str) -> str:
        """Return what a program has said."""
        path = self.directory / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def entries(self) -> list[dict[str, Any]]:
        """Read the ledger from its file: whatever happened to the sandbox, this is what was charged."""
        entries = []
        for line in self.ledger_path.read_bytes().splitlines():
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                if "entry" in record:
                    entries.append(record["entry"])
        return entries
