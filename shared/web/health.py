"""Probes that tell the truth: `/livez` is the process alone, `/readyz` whether it can serve a request now.

Readiness asks the database and its migrations, not the broker: jobs go into the database, and an API whose
broker is away accepts work as before. With `?verbose` both list their checks for people, as Kubernetes does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import flask
from sqlalchemy import text

from shared.db import Database
from shared.telemetry.logs import get_logger

__all__ = ["Check", "Health"]

log = get_logger(__name__)

Check = Callable[[], bool | None]
"""Returns True or None when all is well, False or raises when not."""


class Health:
    """What the probes answer. `checks` are further checks of readiness, by name."""

    def __init__(
        self,
        database: Database,
        *,
        migrations: Check | None = None,
        checks: Mapping[str, Check] | None = None,
    ) -> None:
        self._database = database
        self._migrations = migrations
        self._migrated = migrations is None
        self._checks = dict(checks or {})
        self._draining = threading.Event()

    def drain(self) -> None:
        """Not ready from now on: the process is about to stop."""
        self._draining.set()

    def live(self) -> flask.Response:
        """Answer `/livez`."""
        return _answer([("process", True)])

    def ready(self) -> flask.Response:
        """Answer `/readyz`."""
        results = [("not draining", not self._draining.is_set())]
        checks: dict[str, Check] = {"database": self._ping, "migrations": self._are_migrated, **self._checks}
        for name, check in checks.items():
            try:
                results.append((name, check() is not False))
            except Exception as error:
                log.warning("readiness_check_failed", check=name, reason=str(error))
                results.append((name, False))
        return _answer(results)

    def _ping(self) -> None:
        with self._database.app.connect() as connection:
            connection.execute(text("SELECT 1"))

    def _are_migrated(self) -> bool:
        # What this code knows does not change, and nobody migrates downwards under a running process.
        if not self._migrated and self._migrations is not None:
            self._migrated = self._migrations() is not False
        return self._migrated


def _answer(results: list[tuple[str, bool]]) -> flask.Response:
    good = all(passed for _, passed in results)
    if "verbose" in flask.request.args or not good:
        lines = [f"[{'+' if passed else '-'}]{name} {'ok' if passed else 'failed'}" for name, passed in results]
        body = "\n".join([*lines, "ready" if good else "not ready", ""])
    else:
        body = "ok\n"
    return flask.Response(body, 200 if good else 503, content_type="text/plain; charset=utf-8")
