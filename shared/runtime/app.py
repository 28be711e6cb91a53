"""Building a service: from its definition and the settings to what runs. The one composition root.

The broker comes first, then the actors are bound to it; and what is wired wrong is found here, before
anything is ready: a schedule that never fires, an actor on a queue that nobody declared.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import dramatiq
from dramatiq.middleware import Middleware, MiddlewareError
from flask import Flask
from sqlalchemy import text

from shared import blobs
from shared.db import signals
from shared.db.database import Database
from shared.db.migrate import is_current
from shared.events.contracts import contracts
from shared.events.contracts.contract import known
from shared.events.dead_letters import dead_letters
from shared.jobs.actor import Actor
from shared.jobs.broker import EmbeddedBroker, EmbeddedHub, JobBroker, RabbitBroker
from shared.jobs.circuits import watch_circuits
from shared.jobs.conclusions import Conclusions
from shared.jobs.handlers import receive
from shared.jobs.liveness import Liveness
from shared.jobs.parts import Parts, register
from shared.jobs.publisher import EmbeddedTransport, RabbitTransport, Transport
from shared.jobs.relay import QueueSettings, Relay
from shared.jobs.runner import Runner
from shared.jobs.schedules import Scheduler
from shared.jobs.turns import Turns
from shared.jobs.wire import EVENTS_ACTOR, EVENTS_QUEUE, Delivery
from shared.outbound import vault
from shared.outbound.guard import install_guard
from shared.runtime import together
from shared.runtime.secrets import Secrets
from shared.runtime.service import Service
from shared.runtime.settings import Settings
from shared.telemetry import get_logger
from shared.web import WebSettings, create_app
from shared.web.keys import Keys, KeySource

__all__ = ["App", "WiringError", "build"]

log = get_logger(__name__)

_RELEASE = """
UPDATE jobs SET state = 'scheduled', runs = runs - 1, dispatch = dispatch + 1, waiting_for = 'shutdown',
                run_at = clock_timestamp(), updated_at = clock_timestamp()
WHERE worker_id = :worker AND state = 'running'
"""


class WiringError(Exception):
    """The service is put together wrong; the message lists what, and how to mend it."""


def build(
    service: Service,
    settings: Settings,
    *,
    hub: EmbeddedHub | None = None,
    database_url: str | None = None,
    secrets: Secrets | None = None,
) -> App:
    """Build a service. Without a broker in the settings it consumes from `hub`, in this process.

    Raises WiringError for what can never work.
    """
    install_guard()
    database = Database(database_url or settings.database(service.name), pool_size=settings.worker_threads + 4)
    broker: JobBroker
    transport: Transport
    if settings.broker_url is not None:
        broker = RabbitBroker(service.name, settings.broker_url)
        transport = RabbitTransport(broker)
    else:
        embedded = broker = EmbeddedBroker(service.name, hub or EmbeddedHub())
        transport = EmbeddedTransport(service.name, embedded.hub)
    actors = {declared.actor_name: declared for declared in service.actors()}
    queues = _queues(service, actors)
    _check(service, actors, queues)
    secrets = secrets or Secrets.from_settings(settings)
    vault.configure([base64.b64encode(key).decode() for key in secrets.encryption_keys])
    blobs.configure(settings.blob_url or (settings.data_dir.absolute() / "blobs").as_uri())
    return App(
        service=service,
        settings=settings,
        database=database,
        broker=broker,
        transport=transport,
        actors=actors,
        handlers=service.handlers(),
        queues=queues,
        secrets=secrets,
    )


def _queues(service: Service, actors: Mapping[str, Actor[Any, Any]]) -> list[QueueSettings]:
    declared = {queue.name: queue for queue in service.queues}
    for name in ("default", "handlers"):
        declared.setdefault(name, QueueSettings(name))
    return list(declared.values())


def _check(service: Service, actors: Mapping[str, Actor[Any, Any]], queues: list[QueueSettings]) -> None:
    names = {queue.name for queue in queues}
    problems = [
        f"{actor.actor_name}: its queue {actor.queue_name!r} is not among those of services/{service.name}/service.py"
        for actor in actors.values()
        if actor.queue_name not in names
    ]
    if len(service.actors()) != len(actors):
        problems.append("two actors have the same name")
    promised = known() | contracts()
    problems += [
        f"{actor.actor_name}: it handles {actor.job.event_type!r}, which nobody promised to publish"
        for actor in actors.values()
        # What others tell, of whom we know nothing, nobody can have promised here.
        if (actor.job.event_type or "").startswith("backroom.") and actor.job.event_type not in promised
    ]
    problems += [
        f"{actor.actor_name}: it has a schedule, so it can take no argument that has no default"
        for actor in actors.values()
        if actor.job.periodic is not None and not actor.can_run_bare()
    ]
    if problems:
        raise WiringError("\n".join(problems))


@dataclass
class App:
    """A built service; its parts are started by the command line, the embedded group, or a test."""

    service: Service
    settings: Settings
    database: Database
    broker: JobBroker
    transport: Transport
    actors: dict[str, Actor[Any, Any]]
    handlers: dict[str, list[Actor[Any, Any]]]
    queues: list[QueueSettings]
    secrets: Secrets

    def __post_init__(self) -> None:
        self.forks: list[Callable[[], int]] = []
        """What the worker command runs beside the workers, each in a process of its own."""
        self.on_boot: list[Callable[[], None]] = []
        """What a worker process does when it has registered itself."""
        self.webs: list[Flask] = []
        """The Flask apps that were made; each has threads and connections until it is closed."""
        self.version = self.settings.version or _version()
        failures = self.service.failures()
        register(
            self.service.name,
            Parts(
                self.actors,
                self.service.tables(),
                self.service.destroy_credentials(),
                lambda: dead_letters(self.broker).counts(),
            ),
        )
        self.conclusions = Conclusions(
            self.service.name, self.database, failures, retry_scale=self.settings.retry_scale
        )
        for declared in self.actors.values():
            declared.bind(self.broker)
        for queue in self.queues:
            self.broker.declare_queue(queue.name)
        self.broker.declare_actor(_Receiver(self))  # type: ignore[arg-type]
        self.liveness = Liveness(
            self.database,
            threads=self.settings.worker_threads,
            queues=[queue.name for queue in self.queues],
            actors=list(self.actors),
            version=self.version,
        )
        self.runner = self.broker.runner = Runner(
            self.service.name,
            self.database,
            self.liveness,
            failures=failures,
            retry_scale=self.settings.retry_scale,
        )
        self.broker.add_middleware(_Lifecycle(self))
        watch_circuits(self.service.name, self.queues, scale=self.settings.retry_scale)

    def relay(self) -> Relay:
        """Return the relay of this service, to be run in a thread or process."""
        return Relay(
            self.service.name,
            self.database,
            self.transport,
            self.conclusions,
            self.actors,
            self.queues,
            event_types=list(self.handlers),
            suspended=self.settings.suspended_seconds,
        )

    def scheduler(self) -> Scheduler:
        """Return the scheduler of this service, to be run in a thread or process."""
        return Scheduler(self.service.name, self.database, list(self.actors.values()))

    def worker(self) -> dramatiq.Worker:
        """Return a Dramatiq worker for this process; not started."""
        return dramatiq.Worker(self.broker, worker_threads=self.settings.worker_threads, worker_timeout=200)

    def web(self, *, jwks: dict[str, Any] | None = None) -> Flask:
        """Return the Flask app: the service's operations, those of its jobs, and of exports."""
        from shared.web import export_api, jobs_api

        app = create_app(
            [
                *self.service.apis(),
                jobs_api.api(
                    self.service.name,
                    self.service.failures(),
                    actors=self.actors,
                    queues=self.queues,
                    waiting=self.service.waiting(),
                ),
                export_api.api,
            ],
            self.database,
            WebSettings(
                cursor_secret=self.secrets.cursor_key,
                jwks=Keys(jwks) if jwks else Keys(*self.secrets.jwks, *self._own_keys()),
                threads=self.settings.web_threads,
                title=self.service.title,
            ),
            migrations=self.migrated,
        )
        here = app.extensions["backroom"]
        signals.start(here.database)
        here.gate.start()
        self.webs.append(app)
        return app

    def _own_keys(self) -> tuple[KeySource, ...]:
        """What reads the keys of a service that issues tokens itself: it need not ask itself over HTTP."""
        read = self.service.keys()
        if read is None:
            return ()

        def from_the_database() -> dict[str, Any]:
            token = self.database.bind()
            try:
                return read()
            finally:
                self.database.unbind(token)

        return (from_the_database,)

    def migrated(self) -> bool:
        """Whether the database stands at the heads that this code knows."""
        return is_current(self.database.url, self.service.migrations())


class _Receiver:
    """The actor behind the queue of events: writes a job per handler."""

    def __init__(self, app: App) -> None:
        self.actor_name = EVENTS_ACTOR
        self.queue_name = EVENTS_QUEUE
        self.priority = 0
        self.options: dict[str, Any] = {}
        self._app = app

    def __call__(self, delivery: Delivery) -> None:
        token = self._app.database.bind()
        try:
            self._app.runner.guarded(delivery, lambda: receive(self._app.handlers, delivery))
        except Exception as error:
            log.exception("an event could not be received and goes to the dead letters", event_id=delivery.event["id"])
            delivery.died = error
        finally:
            self._app.database.unbind(token)


class _Lifecycle(Middleware):
    """Ties the life of Dramatiq's worker to the liveness of ours."""

    def __init__(self, app: App) -> None:
        self._app = app

    @property
    def forks(self) -> list[Callable[[], int]]:
        return self._app.forks

    def before_worker_boot(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        # A message more at hand per thread, and no more: what waits in a worker is in nobody's line.
        worker.queue_prefetch = 2 * worker.worker_threads
        worker.work_queue = Turns()  # type: ignore[assignment]
        self._app.liveness.set_threads(worker.worker_threads)
        signals.start(self._app.database)
        try:
            self._app.liveness.start()
        except RuntimeError as error:
            raise MiddlewareError(str(error)) from error
        for hook in self._app.on_boot:
            hook()
        together.watch(self._app.runner.stopping.is_set)

    def before_worker_shutdown(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        self._app.liveness.drain()
        self._app.runner.stopping.set()

    def after_worker_shutdown(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        # What is still running had its time; a deploy is no failure of the job, so it burns no attempt.
        try:
            with self._app.database.system.begin() as connection:
                connection.execute(text(_RELEASE), {"worker": self._app.liveness.worker_id})
        except Exception:
            log.exception("what still ran could not be handed back; recovery will")
        self._app.liveness.stop()


def _version() -> str:
    try:
        return version("backroom")
    except PackageNotFoundError:
        return "0"
