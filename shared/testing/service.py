"""A service under test: its real code over a real database, with the broker and processes that the test wants.

    def test_label_is_bought(service_app):
        shipping = service_app(service)                       # a fresh database, the embedded broker
        job = shipping.run_job(purchase_label, label_id=label.id)
        assert job.state == "succeeded"

Nothing runs by itself. There are three ways to have jobs run, from the fastest to the truest:

- `run_job`, `run` and `drain` without anything started: jobs run in the test's own thread, through the
  real claim and completion, without any broker; `drain` does not wait for what is due later.
- `start()`: the relay and a Dramatiq worker run in this process, over the embedded hub or RabbitMQ.
- `worker_process()`: a worker of its own, relay included, as in production; needs RabbitMQ.

Then `wait_until` waits for a condition, and `drain` until every job has ended. Facts are read with
`job`, `jobs`, `attempts`, `published` and `query`, over all tenants.
"""

from __future__ import annotations

import contextvars
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import dramatiq
import psycopg
from sqlalchemy import Row, text

from shared.context import use
from shared.db import unit_of_work
from shared.db.migrate import upgrade
from shared.jobs import operations
from shared.jobs.actor import Actor, Dispatch
from shared.jobs.broker import EmbeddedHub
from shared.runtime.app import App, build
from shared.runtime.service import Service
from shared.runtime.settings import Settings
from shared.testing.postgres import PostgresServer

__all__ = ["NotInTime", "ServiceUnderTest", "Templates", "WorkerProcess", "wait_until"]

T = TypeVar("T")

DEADLINE = 30.0
"""Seconds that a wait may take before it fails; far more than it needs, since machines are busy."""

_LIVE = "state IN ('scheduled', 'queued', 'running')"

_HAND_OUT = """
UPDATE jobs SET state = 'queued', dispatch = dispatch + 1, queued_at = clock_timestamp(), waiting_for = NULL
WHERE id = :id AND state = 'scheduled' RETURNING dispatch
"""


class NotInTime(AssertionError):
    """What a test waited for did not come before its deadline."""


def wait_until(condition: Callable[[], T], deadline: float = DEADLINE, what: str = "") -> T:
    """Return what the condition returns as soon as that is true; raises NotInTime after `deadline` seconds."""
    end = time.monotonic() + deadline
    pause = 0.005
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise NotInTime(f"waited {deadline:.0f} seconds in vain{f' for {what}' if what else ''}; last: {found!r}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


class Templates:
    """Databases that were migrated once, one per service, to be copied for each test; close it at the end."""

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        self._stack = ExitStack()
        self._urls: dict[str, str] = {}

    @contextmanager
    def fresh(self, service: Service) -> Iterator[str]:
        """The URL of a new migrated database of the service; dropped at the end."""
        template = self._urls.get(service.package)
        if template is None:
            template = self._stack.enter_context(self.server.fresh_database(f"{service.name}_template"))
            upgrade(template, service.migrations())
            self._urls[service.package] = template
        with self.server.fresh_database(service.name, template=template) as url:
            yield url

    def close(self) -> None:
        self._stack.close()


@dataclass
class WorkerProcess:
    """A worker command that runs: Dramatiq's master, with worker processes and the relay as its children."""

    master: subprocess.Popen[bytes]
    service: ServiceUnderTest
    _known: list[int] = field(default_factory=list)

    def kill(self) -> None:
        """SIGKILL the whole command at once: master, workers and relay."""
        for pid in [self.master.pid, *_descendants(self.master.pid)]:
            _signal(pid, signal.SIGKILL)
        self.master.wait(30)

    def stop(self) -> None:
        """Ask it to stop as a deploy does, and wait until it has."""
        if self.master.poll() is None:
            self.master.terminate()
            try:
                self.master.wait(60)
            except subprocess.TimeoutExpired:
                self.kill()

    @property
    def workers(self) -> list[int]:
        """The process ids of its live workers, as registered in the database."""
        mine = set(_descendants(self.master.pid))
        return [pid for (pid,) in self.service.query("SELECT pid FROM workers") if pid in mine]

    def signal_worker(self, pid: int, number: int) -> None:
        """Send a signal to one of its worker processes."""
        if pid not in _descendants(self.master.pid):
            raise LookupError(f"process {pid} is none of this worker command")
        _signal(pid, number)

    def signal_workers(self, number: int) -> list[int]:
        """Send a signal to its worker processes alone; returns their ids."""
        # A worker that was suspended for long is no longer registered, and may still have to be woken.
        self._known = sorted({*self._known, *self.workers})
        for pid in self._known:
            _signal(pid, number)
        return self._known


class ServiceUnderTest:
    """One service over a fresh database; use it as a context manager, or through the fixture `service_app`.

    Within it, the current tenant is `tenant_id` and the current database is the service's.
    """

    def __init__(
        self,
        service: Service,
        database_url: str,
        *,
        broker_url: str | None = None,
        tenant_id: str = "acme",
        hub: EmbeddedHub | None = None,
        **settings: Any,
    ) -> None:
        self.service = service
        self.database_url = database_url
        self.broker_url = broker_url
        self.tenant_id = tenant_id
        self._stack = ExitStack()
        self._stop = threading.Event()
        self._settings = settings
        # Every URL in settings names the service; a fresh database's name does without.
        url = database_url + ("&" if "?" in database_url else "?") + "application_name={service}"
        data_dir = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="backroom-test-")))
        values = {"retry_scale": 1.0, "worker_threads": 4, "data_dir": data_dir, **settings}
        self.settings = Settings(database_url=url, broker_url=broker_url, **values)
        self.app: App = build(service, self.settings, hub=hub)
        self.database = self.app.database
        self.worker: dramatiq.Worker | None = None
        self._threads: list[threading.Thread] = []
        self._processes = 0

    # -- life ------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._stack.enter_context(self.current())
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the service's database and the tenant the current ones; for one that is shared by several tests."""
        for actor in self.app.actors.values():
            # Whoever built the same service last has its actors.
            actor.broker = self.app.broker
        token = self.database.bind()
        try:
            with use(tenant_id=self.tenant_id, service=self.service.name):
                yield
        finally:
            self.database.unbind(token)

    def clear(self) -> None:
        """Empty every table, so that one database serves many tests; for a service of which nothing is started."""
        tables = self.query(
            "SELECT string_agg(quote_ident(relname), ', ') FROM pg_class WHERE relnamespace = 'public'::regnamespace "
            "AND relkind = 'r' AND relname NOT IN ('alembic_version', 'workers')"
        )[0][0]
        with psycopg.connect(self.database_url, autocommit=True) as owner:
            owner.execute(f"TRUNCATE {tables}".encode())

    def close(self) -> None:
        """Stop what was started, and let go of the database."""
        self.stop()
        for web in self.app.webs:
            web.extensions["backroom"].close()
        self.app.liveness.stop()
        self.database.dispose()
        self._stack.close()

    def start(self) -> None:
        """Run the relay and a worker in this process."""
        self.start_worker()
        self.start_relay()

    def start_relay(self) -> None:
        """Run the relay in a thread."""
        self._thread(self.app.relay().run, "relay")

    def start_scheduler(self) -> None:
        """Run the scheduler in a thread."""
        self._thread(self.app.scheduler().run, "scheduler")

    def start_worker(self) -> None:
        """Run a Dramatiq worker in this process."""
        self.worker = self.app.worker()
        self.worker.start()

    def _thread(self, run: Callable[[threading.Event], None], name: str) -> None:
        thread = threading.Thread(target=run, args=(self._stop,), name=f"{self.service.name}-{name}", daemon=True)
        thread.start()
        self._threads.append(thread)

    def stop(self) -> None:
        """Stop worker, relay and scheduler, as a deploy does."""
        if self.worker is not None:
            self.worker.stop(timeout=10_000)
            self.worker = None
        self._stop.set()
        for thread in self._threads:
            thread.join(10)
        self._threads.clear()
        self._stop = threading.Event()

    @contextmanager
    def worker_process(self, *, ready: bool = True, **settings: Any) -> Iterator[WorkerProcess]:
        """A worker command of this service in processes of its own, as in production; stopped at the end.

        It is ready when the block begins, unless that is not asked for. Settings are those of `BACKROOM_…` in
        lower case.
        """
        if self.broker_url is None:
            raise RuntimeError("a worker of its own needs RabbitMQ: service_app(service, transport='rabbitmq')")
        before = self._registered()
        master = subprocess.Popen(
            [sys.executable, "-m", "shared.runtime.cli", "worker", self.service.package],
            env=self.environment(**settings),
            # A group of its own, so that Ctrl-C in the terminal of the tests does not reach it first.
            start_new_session=True,
        )
        running = WorkerProcess(master, self)
        self._processes += 1
        try:
            if ready:
                wait_until(
                    lambda: (self._registered() > before and running.workers) or master.poll() is not None,
                    90,
                    "the worker process to register itself",
                )
                if master.poll() is not None:
                    raise RuntimeError(f"the worker process ended at once, with {master.returncode}")
            yield running
        finally:
            _signal_all(running, signal.SIGCONT)
            running.stop()
            self._processes -= 1

    def _registered(self) -> int:
        return int(self.query("SELECT count(*) FROM workers")[0][0])

    def environment(self, **settings: Any) -> dict[str, str]:
        """Return the environment for a process of this service, with settings on top."""
        values = {
            "database_url": self.settings.database_url,
            "broker_url": self.settings.broker_url,
            "data_dir": self.settings.data_dir,
            "retry_scale": self.settings.retry_scale,
            "worker_threads": self.settings.worker_threads,
            "log_level": "ERROR",
            **self._settings,
            **settings,
        }
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("BACKROOM_")}
        return {
            **inherited,
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            **{f"BACKROOM_{name.upper()}": str(value) for name, value in values.items() if value is not None},
        }

    # -- running jobs ----------------------------------------------------------------------------------

    def send(self, actor: Actor[Any, Any], *, tenant_id: str | None = None, **arguments: Any) -> uuid.UUID:
        """Send a job in a unit of work of its own; return its id."""
        with use(tenant_id=tenant_id or self.tenant_id):
            return uuid.UUID(actor.send(**arguments).message_id)

    def run_job(self, actor: Actor[Any, Any], *, tenant_id: str | None = None, **arguments: Any) -> Row[Any]:
        """Send a job and run it once, here and now; return its row."""
        return self.run(self.send(actor, tenant_id=tenant_id, **arguments))

    def run(self, *job_ids: uuid.UUID, redelivered: bool = False) -> Row[Any]:
        """Run jobs of one actor once, as one message, in this thread, due or not; return the row of the first.

        They pass through the real claim and completion, but through no broker.
        """
        dispatches = []
        for job_id in job_ids:
            number = self.hand_out(job_id)
            if number is None:
                raise AssertionError(f"job {job_id} is {self.job(job_id).state}, not scheduled")
            dispatches.append((job_id, number))
        self.deliver(Dispatch(dispatches, redelivered))
        return self.job(job_ids[0])

    def hand_out(self, job_id: uuid.UUID) -> int | None:
        """Mark a scheduled job as handed out, as the relay does; return its dispatch number."""
        rows = self.query(_HAND_OUT, id=job_id)
        return rows[0][0] if rows else None

    def deliver(self, dispatch: Dispatch) -> None:
        """Do what a worker does with the message of this dispatch, in this thread."""
        if not self.app.liveness.worker_id:
            self.app.liveness.start()
        actor = self.app.actors[self.job(dispatch.jobs[0][0]).actor]
        # A worker's thread knows neither the test's unit of work nor its tenant.
        contextvars.Context().run(self.app.runner.run, actor, dispatch)
        if dispatch.requeue and not dispatch.redelivered:
            self.deliver(Dispatch(dispatch.jobs, redelivered=True))

    def drain(self, deadline: float = 60.0, *, queues: Sequence[str] | None = None) -> None:
        """Return when no job is live any more; raises NotInTime.

        With a worker running this waits; else it runs all jobs in this thread, those due later at once.
        """
        where = _LIVE + (" AND queue = ANY(:queues)" if queues is not None else "")
        if self.worker is not None or self._processes:
            statement = f"SELECT count(*) FROM jobs WHERE {where}"  # noqa: S608
            wait_until(lambda: self.query(statement, queues=queues)[0][0] == 0, deadline, "all jobs to end")
            return
        end = time.monotonic() + deadline
        statement = f"SELECT id FROM jobs WHERE {where} AND state = 'scheduled' ORDER BY run_at, id"  # noqa: S608
        while found := self.query(statement, queues=queues):
            for (job_id,) in found:
                if self.job(job_id).state == "scheduled":
                    self.run(job_id)
            if time.monotonic() > end:
                raise NotInTime(f"jobs kept coming for {deadline:.0f} seconds")

    def wait_until(self, condition: Callable[[], T], deadline: float = DEADLINE, what: str = "") -> T:
        """Return what the condition returns as soon as that is true; raises NotInTime."""
        return wait_until(condition, deadline, what)

    def wait_for(self, job_id: uuid.UUID, *states: str, deadline: float = DEADLINE) -> Row[Any]:
        """Wait until a job is in one of these states, by default in a final one; return its row."""
        wanted = states or ("succeeded", "failed", "cancelled")

        def there() -> Row[Any] | None:
            job = self.job(job_id)
            return job if job.state in wanted else None

        found = wait_until(there, deadline, f"job {job_id} to be {' or '.join(wanted)}")
        assert found is not None
        return found

    def outside(self, call: Callable[[], T], *, tenant_id: str | None = None) -> T:
        """Call in a thread of its own and in no unit of work or job, as another process would; return what it does."""
        results: list[T] = []
        errors: list[BaseException] = []

        def run() -> None:
            try:
                with self.current(), use(tenant_id=tenant_id or self.tenant_id):
                    results.append(call())
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(DEADLINE * 2)
        if errors:
            raise errors[0]
        return results[0]

    def retry(self, job_id: uuid.UUID) -> None:
        """Retry a failed or cancelled job by hand, as a person of its tenant would."""
        self._operate(operations.retry, job_id)

    def cancel(self, job_id: uuid.UUID) -> None:
        """Cancel a job, as a person of its tenant would."""
        self._operate(operations.cancel, job_id)

    def _operate(self, operation: Callable[..., object], job_id: uuid.UUID) -> None:
        def operate() -> None:
            with unit_of_work() as session:
                operation(session, job_id, actors=self.app.actors)

        self.outside(operate, tenant_id=self.job(job_id).tenant_id)

    def why(self, job_id: uuid.UUID) -> operations.Why:
        """Ask why a job is where it is, as its tenant would."""
        job = self.job(job_id)
        queue = next(queue for queue in self.app.queues if queue.name == job.queue)
        with use(tenant_id=job.tenant_id), unit_of_work() as session:
            return operations.why(
                session, job_id, provider=queue.provider, per_tenant=queue.per_tenant, actors=self.app.actors
            )

    def advance(self, seconds: float) -> None:
        """Let time pass for what waits: whatever is due within so many seconds is due now."""
        self.execute(
            "UPDATE jobs SET run_at = run_at - make_interval(secs => :seconds) WHERE state = 'scheduled'",
            seconds=seconds,
        )
        self.execute("UPDATE circuits SET retry_at = retry_at - make_interval(secs => :seconds)", seconds=seconds)
        self.execute(
            "UPDATE rate_limits SET blocked_until = blocked_until - make_interval(secs => :seconds)", seconds=seconds
        )

    def concurrently(self, count: int, call: Callable[[int], T]) -> list[T]:
        """Call in so many threads at once, each in the context of the test; return what they returned, in order.

        Raises what the first of them raised.
        """
        barrier = threading.Barrier(count)
        results: list[Any] = [None] * count
        errors: list[BaseException] = []

        def run(number: int) -> None:
            barrier.wait()
            try:
                results[number] = call(number)
            except BaseException as error:
                errors.append(error)

        threads = [
            threading.Thread(target=contextvars.copy_context().run, args=(run, number), daemon=True)
            for number in range(count)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE * 2)
        if errors:
            raise errors[0]
        return results

    # -- facts -----------------------------------------------------------------------------------------

    def job(self, job_id: uuid.UUID | str) -> Row[Any]:
        """Return the row of a job, of whatever tenant; its columns are attributes."""
        found = self.query("SELECT * FROM jobs WHERE id = :id", id=job_id)
        if not found:
            raise LookupError(f"there is no job {job_id}")
        return found[0]

    def jobs(self, **equal: Any) -> list[Row[Any]]:
        """Return the rows of all jobs with these values, oldest first: `jobs(actor="write", state="failed")`."""
        where = " AND ".join(f"{name} = :{name}" for name in equal) or "true"
        return self.query(f"SELECT * FROM jobs WHERE {where} ORDER BY id", **equal)  # noqa: S608

    def attempts(self, job_id: uuid.UUID | str) -> list[Row[Any]]:
        """Return the rows of a job's attempts, in order."""
        return self.query("SELECT * FROM job_attempts WHERE job_id = :id ORDER BY number", id=job_id)

    def published(self, type: str | None = None) -> list[Row[Any]]:
        """Return the events in the outbox, published or about to be, in order; all or those of one type."""
        return self.query("SELECT * FROM outbox WHERE type = coalesce(:type, type) ORDER BY id", type=type)

    def query(self, statement: str, **parameters: Any) -> list[Row[Any]]:
        """Run a statement over all tenants, and commit; return its rows."""
        with self.database.system.begin() as connection:
            return list(connection.execute(text(statement), parameters).all())

    def execute(self, statement: str, **parameters: Any) -> int:
        """Run a statement over all tenants, and commit; return how many rows it touched."""
        with self.database.system.begin() as connection:
            return int(connection.execute(text(statement), parameters).rowcount)


def _descendants(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    found = [int(child) for child in children]
    return [*found, *(grandchild for child in found for grandchild in _descendants(child))]


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _signal_all(running: WorkerProcess, number: int) -> None:
    for pid in _descendants(running.master.pid):
        _signal(pid, number)
