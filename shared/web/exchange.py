"""One request from the server's side: its id, its clock, and the one line that is logged about it."""

from __future__ import annotations

import re
import time
from typing import Any, Final

import flask

from shared.db import new_id
from shared.telemetry import metrics
from shared.telemetry.logs import get_logger, is_probe
from shared.web.auth import Identity

__all__ = ["Exchange", "exchange"]

log = get_logger(__name__)

ENVIRON_KEY: Final = "backroom.exchange"
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{8,64}")


class Exchange:
    """Facts of the request being served which its answer, its metrics and its log line need."""

    __slots__ = ("identity", "method", "path", "problem", "request_id", "route", "started", "status")

    def __init__(self, environ: dict[str, Any]) -> None:
        given = environ.get("HTTP_X_REQUEST_ID", "")
        self.request_id = given if _REQUEST_ID.fullmatch(given) else str(new_id())
        self.method: str = environ["REQUEST_METHOD"]
        self.path: str = environ.get("PATH_INFO", "")
        self.started = time.perf_counter()
        self.route: str | None = None
        """The template of the route; None when nothing matched, so that strangers make no metrics."""
        self.status = 500
        self.identity: Identity | None = None
        self.problem: str | None = None

    def finish(self) -> None:
        """Count and log the request: once, when its answer's head is known."""
        seconds = time.perf_counter() - self.started
        metrics.http_request(self.method, self.route, self.status, seconds)
        if is_probe(self.path) and self.status < 400:
            return
        facts: dict[str, Any] = {
            "method": self.method,
            "route": self.route or "unmatched",
            "status": self.status,
            "outcome": "ok" if self.status < 400 else "refused" if self.status < 500 else "failed",
            "duration_seconds": round(seconds, 4),
        }
        if self.identity is not None:
            facts |= {"tenant_id": self.identity.tenant_id, "principal": self.identity.principal}
        if self.problem is not None:
            facts["problem"] = self.problem
        log.info("http_request", **facts)


def exchange() -> Exchange:
    """The exchange of the request being served."""
    return flask.request.environ[ENVIRON_KEY]
