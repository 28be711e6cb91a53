"""The gate: what a workspace's standing and a revoked credential forbid, asked before each operation.

Each process knows by heart what is refused: workspaces that are not in good standing, and revocations of which tokens
may still be about. Both are few, so that a request costs two look-ups in a dictionary and no round trip. They are
learned from the database at each hint, and once a second whatever hints got lost. Whoever has not looked for two
seconds, because he has just started or lost the database, trusts nothing that he knows: each request then asks the
tables of its own tenant.

    active, canceled    everything
    frozen              GET
    suspended           GET for the owner
    archived            nothing

An operation declared with `standing="any"` is also there while its workspace is frozen or suspended: signing in,
billing, exports. A public one has that by default, since it must find out by itself who asks; declared with
`standing="usual"`, nothing that it wrote for a workspace is committed which may not be.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import psycopg
from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.db import unit_of_work
from shared.db.database import Database, commit_checks, current_work
from shared.db.signals import REFUSALS
from shared.outbound.guard import allowed
from shared.telemetry.logs import get_logger
from shared.web.api import Operation
from shared.web.auth import Identity
from shared.web.problems import Problem, Unauthorized

__all__ = ["Gate", "WorkspaceArchived", "WorkspaceFrozen", "WorkspaceSuspended", "refusals_of"]

log = get_logger(__name__)

LOOK: Final = 1.0
"""Seconds between two looks, where no hint comes before."""

TRUSTED: Final = 2.0
"""Seconds for which a look is trusted."""

_ALL: Final = "SELECT * FROM backroom_refusals('-infinity')"
# A transaction may commit a while after it has written; now and then everything is read.
_NEW: Final = "SELECT * FROM backroom_refusals(statement_timestamp() - interval '10 seconds')"
_EVERYTHING: Final = 60.0

_OF_TENANT: Final = """
SELECT tenant_id, state, NULL, NULL, NULL FROM standings WHERE tenant_id = :tenant
UNION ALL
SELECT tenant_id, NULL, kind, credential_id, revoked_at FROM revocations WHERE tenant_id = :tenant
"""


class WorkspaceFrozen(Problem):
    """The workspace is frozen, since its subscription ended: everything can be read and exported, nothing changed.

    Its owner can reactivate it in billing.
    """

    slug, title, status = "workspace-frozen", "The workspace is frozen", 403


class WorkspaceSuspended(Problem):
    """The workspace is suspended, since its subscription ended long ago. Its owner alone can look at it and export it.

    The owner can reactivate it in billing; what waits then goes on.
    """

    slug, title, status = "workspace-suspended", "The workspace is suspended", 403


class WorkspaceArchived(Problem):
    """The workspace was archived, months after its subscription ended: it is closed. Ask support to restore it."""

    slug, title, status = "workspace-archived", "The workspace is archived", 403


_SAY: Final[dict[type[Problem], str]] = {
    WorkspaceFrozen: "This workspace is frozen: it can be read and exported. Its owner can reactivate it in billing.",
    WorkspaceSuspended: "This workspace is suspended. Its owner can sign in, export it, and reactivate it in billing.",
    WorkspaceArchived: "This workspace is archived. Ask support to restore it.",
}


def refusals_of(operation: Operation) -> list[type[Problem]]:
    """Return with what the operation may be refused because of its workspace's standing."""
    states = ("frozen", "suspended", "archived")
    found = [_refusal(state, operation, role) for state in states for role in ("owner", "manager")]
    return [] if operation.public and operation.standing == "any" else list(dict.fromkeys(filter(None, found)))


def _refusal(state: str, operation: Operation, role: str | None) -> type[Problem] | None:
    reads = operation.method == "GET"
    if state == "archived":
        return WorkspaceArchived
    if operation.standing == "any":
        return None
    if state == "suspended" and not (reads and role == "owner"):
        return WorkspaceSuspended
    return WorkspaceFrozen if state == "frozen" and not reads else None


@dataclass(slots=True)
class _Known:
    """What is held against one tenant."""

    state: str = "active"
    revoked: dict[tuple[str, str], datetime] = field(default_factory=dict)

    def learn(self, state: str | None, kind: str | None, credential: Any, revoked_at: datetime | None) -> None:
        if state is not None:
            self.state = state
        elif kind is not None and revoked_at is not None:
            self.revoked[kind, str(credential)] = revoked_at


class Gate:
    """The gate of one process. Its thread starts when the app does, or with the first request."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[str, _Known] = {}
        self._looked_at = float("-inf")
        self._everything_at = float("-inf")
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._learned = threading.Event()
        self._stopped = threading.Event()

    def admit(self, operation: Operation, identity: Identity) -> None:
        """Let a request pass. Raises Unauthorized for a revoked credential, and the problem of a workspace."""
        known = self._of(identity.tenant_id)
        if known is None:
            return
        if _is_revoked(known, identity):
            raise Unauthorized("These credentials were revoked. Sign in again.")
        self._check(known, operation, identity.role)

    @contextmanager
    def watching(self, operation: Operation) -> Iterator[None]:
        """Within it nothing is committed for a workspace that may not have this done; for public operations."""
        if operation.standing == "any":
            yield
            return

        def check(_: Session) -> None:
            work = current_work()
            known = self._of(work.tenant_id) if work is not None else None
            if known is not None:
                self._check(known, operation, None)

        token = commit_checks.set((*commit_checks.get(), check))
        try:
            yield
        finally:
            commit_checks.reset(token)

    def still_admits(self, identity: Identity) -> bool:
        """Whether what was begun for this caller, such as a stream, may go on, as far as is known by heart."""
        known = self._known.get(identity.tenant_id)
        if known is None:
            return True
        closed = known.state == "archived" or (known.state == "suspended" and identity.role != "owner")
        return not closed and not _is_revoked(known, identity)

    def ready(self) -> bool:
        """Whether it knows by heart what is refused; starts to learn it. A check of readiness."""
        self.start()
        self._learned.wait(1.0)
        return self._is_fresh()

    def start(self) -> None:
        """Start the thread that learns; once is enough."""
        with self._lock:
            if self._thread is None and not self._stopped.is_set():
                self._thread = threading.Thread(target=self._run, name="refusals", daemon=True)
                with allowed("the process has one thread that learns what to refuse; it starts with the first request"):
                    self._thread.start()

    def stop(self) -> None:
        """End the thread. Requests that still come ask the tables."""
        self._stopped.set()

    def _of(self, tenant_id: str) -> _Known | None:
        """Return what is held against a tenant; None for nothing."""
        if self._is_fresh():
            return self._known.get(tenant_id)
        if self._thread is None:
            self.start()
        known = _Known()
        with unit_of_work(tenant_id=tenant_id) as session:
            for _, *fact in session.execute(text(_OF_TENANT), {"tenant": tenant_id}):
                known.learn(*fact)
        return known

    def _is_fresh(self) -> bool:
        return time.monotonic() - self._looked_at < TRUSTED

    @staticmethod
    def _check(known: _Known, operation: Operation, role: str | None) -> None:
        refusal = _refusal(known.state, operation, role)
        if refusal is not None:
            raise refusal(_SAY[refusal])

    def _run(self) -> None:
        away = False
        while not self._stopped.is_set():
            try:
                # Under the app's role, which sees other tenants through one window only.
                with self._database.connect(application_name="backroom refusals") as connection:
                    connection.execute("SET statement_timeout = '2s'")
                    connection.execute(f"LISTEN {REFUSALS}".encode())
                    away = False
                    while not self._stopped.is_set():
                        self._look(connection)
                        any(True for _ in connection.notifies(timeout=LOOK, stop_after=1))
            except psycopg.Error as error:
                if not away:
                    log.warning("refusals_not_heard", reason=str(error)[:200])
                away = True
                self._stopped.wait(0.5)

    def _look(self, connection: psycopg.Connection[Any]) -> None:
        now = time.monotonic()
        everything = not self._is_fresh() or now - self._everything_at > _EVERYTHING
        found: dict[str, _Known] = {}
        for tenant_id, *fact in connection.execute(_ALL if everything else _NEW):
            before = _Known() if everything else self._known.get(tenant_id, _Known())
            found.setdefault(tenant_id, _Known(before.state, dict(before.revoked))).learn(*fact)
        known = found if everything else {**self._known, **found}
        good = ("active", "canceled")
        # Exchanged as a whole: whoever asks meanwhile sees what was, or what is.
        self._known = {tenant: one for tenant, one in known.items() if one.state not in good or one.revoked}
        self._looked_at = now
        self._learned.set()
        if everything:
            self._everything_at = now


def _is_revoked(known: _Known, identity: Identity) -> bool:
    if not known.revoked:
        return False
    if ("session", identity.session_id) in known.revoked:
        return True
    kind, _, name = identity.principal.partition(":")
    if kind == "key":
        return ("api_key", name) in known.revoked
    # Of a member, what was issued before; within the same second as well, which is all that a token says.
    revoked_at = known.revoked.get(("member", name)) if kind == "user" else None
    return revoked_at is not None and (identity.issued_at or 0) <= revoked_at.timestamp()
