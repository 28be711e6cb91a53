"""The database of a service and its units of work.

Two roles reach it. `backroom_app` is bound to one tenant by row-level security: requests and the
bodies of jobs run under it. `backroom_system` sees all tenants: the relay, claims and sweeps run under
it, and only code whose tenant is `SYSTEM` may ask for it. A process that serves requests logs in as a
member of the first role alone, so nothing that it runs can reach over the wall.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, Self

import psycopg
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from shared.context import SYSTEM, current

__all__ = ["APP_ROLE", "SYSTEM_ROLE", "Database", "Work", "current_database", "unit_of_work"]

APP_ROLE = "backroom_app"
SYSTEM_ROLE = "backroom_system"

log = logging.getLogger(__name__)

_current: ContextVar[Database | None] = ContextVar("backroom_database", default=None)
_only: Database | None = None
_work: ContextVar[Work | None] = ContextVar("backroom_unit_of_work", default=None)

commit_checks: ContextVar[tuple[Callable[[Session], None], ...]] = ContextVar("backroom_commit_checks", default=())
"""Called before the commit of every unit of work opened in this context; what they raise rolls it back.

The fence of a leased job and the Rule's limits on requests are such checks.
"""

# A peer that vanished without a word (a pulled cable, a paused host) is noticed in seconds, not hours.
_KEEPALIVE = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "connect_timeout": 5,
}

# The same for the server, which would keep the locks of a vanished process for hours.
_SERVERS_KEEPALIVE = (
    "-c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3 -c tcp_user_timeout=10000"
)


class Database:
    """One service's database.

    `url` is a libpq URL (`postgresql://user@host/name`). Engines are made on first use and are safe to
    share between threads; after a fork, call `dispose()` in the child.
    """

    def __init__(self, url: str, *, pool_size: int = 16, statement_timeout: float | None = None) -> None:
        self.url = url
        self._pool_size = pool_size
        self._statement_timeout = statement_timeout
        self._engines: dict[str, Engine] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Database({make_url(self.url).render_as_string(hide_password=True)})"

    def sqlalchemy_url(self) -> URL:
        """Return the URL with the driver that we use named."""
        return make_url(self.url).set(drivername="postgresql+psycopg")

    @property
    def app(self) -> Engine:
        """The engine under the role that row-level security binds to a tenant."""
        return self._engine(APP_ROLE)

    @property
    def system(self) -> Engine:
        """The engine under the role that sees all tenants."""
        return self._engine(SYSTEM_ROLE)

    def _engine(self, role: str) -> Engine:
        # Asked for by every unit of work of every thread; only the first of them has to make it.
        if (made := self._engines.get(role)) is not None:
            return made
        with self._lock:
            engine = self._engines.get(role)
            if engine is None:
                engine = self._engines[role] = create_engine(
                    self.sqlalchemy_url(),
                    pool_size=self._pool_size,
                    max_overflow=self._pool_size,
                    pool_timeout=10,
                    pool_recycle=1800,
                    connect_args={**_KEEPALIVE, "options": self._options(role), "prepare_threshold": 3},
                )
                # The first error on a dead connection drops the whole pool: a restart of the server costs
                # each process one failure, not one for every pooled connection.
                event.listen(engine, "handle_error", _invalidate_on_disconnect)
            return engine

    def _options(self, role: str) -> str:
        options = f"-c role={role} -c TimeZone=UTC -c lock_timeout=10s -c idle_in_transaction_session_timeout=60s"
        if self._statement_timeout is not None:
            options += f" -c statement_timeout={int(self._statement_timeout * 1000)}"
        return options

    def connect(self, *, role: str = APP_ROLE, autocommit: bool = True, **parameters: Any) -> psycopg.Connection[Any]:
        """Open a connection of its own, outside of the pool.

        For what must live as long as its owner: advisory locks, LISTEN and NOTIFY.
        Raises psycopg.OperationalError when the server cannot be reached.
        """
        return psycopg.connect(
            make_url(self.url).set(drivername="postgresql").render_as_string(hide_password=False),
            autocommit=autocommit,
            **{
                **_KEEPALIVE,
                "options": f"-c role={role} -c TimeZone=UTC {_SERVERS_KEEPALIVE}",
                **parameters,
            },
        )

    def bind(self) -> Token[Database | None]:
        """Make this the database of the current context; returns the token that undoes it."""
        return _current.set(self)

    def unbind(self, token: Token[Database | None]) -> None:
        _current.reset(token)

    def use_as_default(self) -> None:
        """Make this the database of every context of this process that has bound no other."""
        global _only
        _only = self

    def dispose(self, *, close: bool = True) -> None:
        """Close the pools; with `close=False` only forget them, as a forked child must."""
        with self._lock:
            for engine in self._engines.values():
                engine.dispose(close=close)
            self._engines.clear()


def _invalidate_on_disconnect(context: Any) -> None:
    if isinstance(context.original_exception, psycopg.OperationalError):
        original = context.original_exception
        if original.sqlstate is None or original.sqlstate in ("57P01", "57P02", "57P03"):
            context.is_disconnect = True


def current_database() -> Database:
    """Return the database of the service on whose behalf we run.

    Raises RuntimeError when none is bound.
    """
    database = _current.get() or _only
    if database is None:
        raise RuntimeError("no database is bound: build the service first (shared.runtime.build)")
    return database


class Work:
    """An open unit of work: one session, one transaction, and what is to happen after its commit."""

    __slots__ = (
        "after_commit",
        "before_commit",
        "database",
        "rows_written",
        "session",
        "system",
        "tenant_id",
    )

    def __init__(self, database: Database, session: Session, tenant_id: str, *, system: bool) -> None:
        self.database = database
        self.session = session
        self.tenant_id = tenant_id
        self.system = system
        self.rows_written = 0
        self.before_commit: list[Callable[[Session], None]] = []
        self.after_commit: list[Callable[[], None]] = []


class unit_of_work:
    """Context manager: one transaction in the current tenant; yields its `Session`.

    Leaving it well commits, leaving it by an exception rolls back. Inside another unit of work of the
    same database it joins that one. `tenant_id` names another tenant than the context's; `system=True`
    sees all tenants and is refused unless the context's tenant is `SYSTEM`.

    Raises RuntimeError without a tenant, or when a joined unit of work is of another tenant.
    """

    __slots__ = ("_database", "_joined", "_system", "_tenant_id", "_token", "_work")

    def __init__(self, *, tenant_id: str | None = None, system: bool = False, database: Database | None = None) -> None:
        self._tenant_id = tenant_id
        self._system = system
        self._database = database
        self._token: Token[Work | None] | None = None
        self._joined = False
        self._work: Work | None = None

    def __enter__(self) -> Session:
        database = self._database or current_database()
        tenant_id = self._tenant_id or current().tenant_id
        if tenant_id is None:
            raise RuntimeError("no tenant: a unit of work runs inside one, enter it with use(tenant_id=…)")
        outer = _work.get()
        if outer is not None and outer.database is database:
            if outer.tenant_id != tenant_id:
                raise RuntimeError(
                    f"a unit of work of tenant {tenant_id!r} cannot join one of tenant {outer.tenant_id!r}"
                )
            self._joined = True
            self._work = outer
            return outer.session
        if self._system and tenant_id != SYSTEM:
            raise RuntimeError("only work of the tenant SYSTEM may see all tenants")
        system = self._system or tenant_id == SYSTEM
        session = Session(database.system if system else database.app, expire_on_commit=False)
        self._work = Work(database, session, tenant_id, system=system)
        self._work.before_commit.extend(commit_checks.get())
        if not system:
            # Before the unit of work counts as open: if the database is away, nothing may join what never began.
            try:
                _bind_to_tenant(session.connection(), tenant_id)
            except BaseException:
                session.close()
                raise
        self._token = _work.set(self._work)
        return session

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._joined:
            return
        work, token = self._work, self._token
        assert work is not None
        assert token is not None
        try:
            try:
                if exception_type is None:
                    for check in work.before_commit:
                        check(work.session)
                    work.session.commit()
                else:
                    work.session.rollback()
            finally:
                work.session.close()
        finally:
            _work.reset(token)
            self._token = None
        if exception_type is None:
            for callback in work.after_commit:
                callback()


class adopt:
    """Context manager for the runner of jobs: make an open `Work` the current unit of work.

    Code inside that opens a unit of work joins it; committing stays with the adopter.
    """

    __slots__ = ("_token", "_work")

    def __init__(self, work: Work) -> None:
        self._work = work
        self._token: Token[Work | None] | None = None

    def __enter__(self) -> Self:
        self._token = _work.set(self._work)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._token is not None
        _work.reset(self._token)


def current_work() -> Work | None:
    """Return the open unit of work, or None outside of any."""
    return _work.get()


def _bind_to_tenant(connection: Connection, tenant_id: str) -> None:
    """Bind a connection of the app's engine to a tenant, if the last unit of work that had it was of another one.

    Done outside of the transaction, so that no rollback undoes it, and remembered with the connection. Every
    unit of work comes through here: none ever works under the tenant of the one before.
    """
    if connection.info.get("tenant_id") != tenant_id:
        connection.info.pop("tenant_id", None)
        raw = connection.connection.dbapi_connection
        assert isinstance(raw, psycopg.Connection)
        statement = "SELECT set_config('backroom.tenant', %s, false)"
        try:
            raw.autocommit = True
            raw.execute(statement, (tenant_id,))
            raw.autocommit = False
        except psycopg.Error as error:
            connection.invalidate(error)
            raise OperationalError(statement, (tenant_id,), error, connection_invalidated=True) from error
        connection.info["tenant_id"] = tenant_id


def enter_tenant(connection: Connection, tenant_id: str) -> None:
    """Bind the transaction of this connection to one tenant, under the role that the wall holds."""
    connection.exec_driver_sql(
        "SELECT set_config('role', %s, true), set_config('backroom.tenant', %s, true)", (APP_ROLE, tenant_id)
    )


def leave_tenant(connection: Connection) -> None:
    """Return the transaction of a system connection to the role that sees all tenants."""
    connection.exec_driver_sql("SELECT set_config('role', %s, true)", (SYSTEM_ROLE,))
