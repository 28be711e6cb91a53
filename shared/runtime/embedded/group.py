"""All services in one process: what `backroom up` and `backroom demo` run.

PostgreSQL of our own unless one is given, an in-process broker unless RabbitMQ is given, the sandbox as
third parties. The code is the one that runs on Kubernetes, but for the transport; and since jobs are
rows, a kill -9 of the whole loses nothing: the next start goes on.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import dramatiq
from flask import Flask

from shared.db.migrate import upgrade
from shared.jobs.broker import EmbeddedHub
from shared.runtime.app import App, build
from shared.runtime.embedded.postgres import EmbeddedPostgres, start_postgres
from shared.runtime.secrets import Secrets
from shared.runtime.service import Service, all_services, find_service
from shared.runtime.settings import Settings
from shared.sandbox import Sandbox
from shared.telemetry import get_logger
from shared.web.keys import JWKS_PATH
from shared.web.serve import Server, serve

__all__ = ["Group", "Member"]

log = get_logger(__name__)

_PATIENCE = 15.0
"""Seconds for the first key to be made; nobody has a token before."""


@dataclass
class Member:
    """A service that runs in the group."""

    app: App
    url: str
    web: Flask
    server: Server
    worker: dramatiq.Worker
    threads: list[threading.Thread] = field(default_factory=list)


class Group:
    """Context manager: everything up on entry, everything down on exit."""

    def __init__(
        self,
        settings: Settings,
        *,
        services: list[Service] | None = None,
        sandbox: Mapping[str, Any] | None = None,
    ) -> None:
        self.settings = settings
        self.services = services if services is not None else [find_service(name) for name in settings.services]
        self.services = self.services or all_services()
        self.secrets = self._secrets()
        self.members: dict[str, Member] = {}
        self.hub = EmbeddedHub()
        self.sandbox: Sandbox | None = None
        self.postgres: EmbeddedPostgres | None = None
        self._sandbox_options = dict(sandbox or {})
        self._stop = threading.Event()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        try:
            self.settings.data_dir.mkdir(parents=True, exist_ok=True)
            if self.settings.database_url is None:
                self._start_postgres()
            self._start_sandbox()
            for number, service in enumerate(self.services):
                self.members[service.name] = self._start(service, number)
            self._read_keys()
        except BaseException:
            self._down()
            raise
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._down()

    def token(self, tenant_id: str, principal: str, role: str, ttl: float = 8 * 3600) -> str:
        """Issue a token for this group's APIs; raises RuntimeError where real keys are configured."""
        if self.secrets.signer is None:
            raise RuntimeError("tokens are issued elsewhere: BACKROOM_JWKS is set")
        return self.secrets.signer.issue(tenant_id, principal, role, ttl)

    def _secrets(self) -> Secrets:
        """The keys of the data directory, and those of a service of the group that issues tokens itself."""
        secrets = Secrets.from_settings(self.settings)
        if self.settings.jwks is not None:
            return secrets
        issuers = [
            self._url(number) + JWKS_PATH for number, service in enumerate(self.services) if service.keys() is not None
        ]
        return replace(secrets, jwks=(*secrets.jwks, *issuers))

    def _read_keys(self) -> None:
        """Have every service know the keys of who issues tokens, who was not up before and may be making the first."""
        deadline = time.monotonic() + _PATIENCE
        for member in self.members.values():
            keys = member.web.extensions["backroom"].keys
            while not keys.refresh() and time.monotonic() < deadline:
                time.sleep(0.1)

    def _url(self, number: int) -> str:
        return f"http://{self.settings.host}:{self.settings.port + number}"

    def _start_postgres(self) -> None:
        self.postgres = self._stack.enter_context(start_postgres(Path(self.settings.data_dir) / "postgres"))
        url = self.postgres.url
        base, _, query = url.partition("?")
        prefix = base.rsplit("/", 1)[0]
        template = f"{prefix}/backroom_{{service}}" + (f"?{query}" if query else "")
        self.settings = self.settings.model_copy(update={"database_url": template})

    def _start_sandbox(self) -> None:
        options = {"port": self.settings.sandbox_port, "ledger": self.settings.data_dir / "sandbox-ledger.jsonl"}
        sandbox = Sandbox.start(**{**options, **self._sandbox_options})
        self.sandbox = sandbox
        self._stack.callback(sandbox.stop)
        # A third party that nobody configured is played by the sandbox.
        for service in self.services:
            kind = service.settings_class()
            for name in kind.model_fields if kind is not None else ():
                url = sandbox.url if name.endswith("_base_url") else sandbox.smtp_url if name == "smtp_url" else None
                if url is not None and kind is not None:
                    self._play(f"{kind.model_config.get('env_prefix', '')}{name}".upper(), url)

    def _play(self, variable: str, url: str) -> None:
        if variable not in os.environ:
            os.environ[variable] = url
            self._stack.callback(os.environ.pop, variable, None)

    def _start(self, service: Service, number: int) -> Member:
        upgrade(self.settings.migration_database(service.name), service.migrations())
        app = build(service, self.settings, hub=self.hub, secrets=self.secrets)
        worker = app.worker()
        worker.start()
        threads = [
            threading.Thread(target=app.relay().run, args=(self._stop,), name=f"{service.name}-relay", daemon=True),
            threading.Thread(
                target=app.scheduler().run, args=(self._stop,), name=f"{service.name}-scheduler", daemon=True
            ),
        ]
        for thread in threads:
            thread.start()
        web = app.web()
        server = serve(web, self.settings.host, self.settings.port + number, threads=self.settings.web_threads)
        return Member(app, self._url(number), web, server, worker, threads)

    def _down(self) -> None:
        for member in self.members.values():
            member.server.stop()
        for member in self.members.values():
            member.worker.stop(timeout=int(self.settings.shutdown_seconds * 1000))
        self._stop.set()
        for member in self.members.values():
            for thread in member.threads:
                thread.join(5)
            member.app.database.dispose()
        self.members.clear()
        self._stack.close()
