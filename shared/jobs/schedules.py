"""What recurs: periodiq's cron expressions, made into jobs that run once per due time.

    @actor(periodic=cron("0 3 * * *"), catch_up="once")
    def clean_up() -> None: ...

A tick is a job whose once key is the schedule's name and due time, so two schedulers make one job. How
far a schedule has come is a row; ticks that were missed while nobody was up are made good by its
policy: `skip` (none), `once` (the latest), `all`. All times are UTC.

periodiq's own loop is not used: it dies when the broker is away at a tick, runs on local time (which
skips and doubles hours), and its middleware drops ticks that are late. Its expressions are, with the
days of the week mended: Sunday as 0, `sun` or `@weekly` would never fire.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import pendulum
import periodiq
import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from shared.context import SYSTEM, use
from shared.db.database import Database, unit_of_work
from shared.events import publish
from shared.events.contracts.jobs import ScheduleMissed, of_service
from shared.jobs.actor import Actor
from shared.jobs.enqueue import NewJob, enqueue
from shared.telemetry import get_logger

__all__ = ["NeverFires", "Scheduler", "cron", "due_times", "next_due_time"]

_HORIZON = timedelta(days=366 * 9)  # 29 February of a leap century gap comes within eight years
_LATE = timedelta(minutes=2)
"""A tick that is made good sooner was late, not missed."""

_MOST_MISSED = 1000

log = get_logger(__name__)


class NeverFires(ValueError):
    """The cron expression names a moment that never comes."""


def cron(expression: str) -> periodiq.CronSpec:
    """Return a cron expression, of five fields or `@daily` and its like, in UTC.

    Raises NeverFires for one that no date fulfils (30 February) and ValueError for one that makes no sense.
    """
    try:
        fields = periodiq.CronSpec._named_spec.get(expression.strip(), expression).split()
        if len(fields) != 5:
            raise ValueError("it needs five fields: minute, hour, day of month, month, day of week")
        spec = periodiq.CronSpec.parse(" ".join(fields))
        if not all((spec.minute, spec.hour, spec.dom, spec.month, spec.dow)):
            raise ValueError("a field is empty")
        _check_ranges(fields)
    except (ValueError, IndexError, KeyError) as error:
        raise ValueError(f"cron expression {expression!r}: {error}") from error
    days = {day % 7 for day in spec.dow}
    # periodiq compares Sunday as 7 in one place and as 0 in another: give it both.
    spec.setup(None, None, None, None, sorted(days | ({7} if 0 in days else set())))
    spec.is_dow_restricted = len(days) < 7
    spec.parsed_from = expression
    if next_due_time(spec, datetime(2024, 1, 1, tzinfo=UTC)) is None:
        raise NeverFires(f"cron expression {expression!r} never fires")
    return spec


_LIMITS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


def _check_ranges(fields: Sequence[str]) -> None:
    for field, (lowest, highest) in zip(fields, _LIMITS, strict=True):
        for number in re.findall(r"(?<!/)\b\d+", field):
            if not lowest <= int(number) <= highest:
                raise ValueError(f"{number} is not between {lowest} and {highest}")


def next_due_time(spec: periodiq.CronSpec, after: datetime) -> datetime | None:
    """Return the first due time after a moment, None if there is none within nine years."""
    moment = after.astimezone(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
    horizon = after + _HORIZON
    while moment < horizon:
        if not _day_fits(spec, moment):
            moment = (moment + timedelta(days=1)).replace(hour=0, minute=0)
        elif moment.hour not in spec.hour:
            moment = (moment + timedelta(hours=1)).replace(minute=0)
        elif not spec.validate(pendulum.instance(moment)):
            moment += timedelta(minutes=1)
        else:
            return moment
    return None


def _day_fits(spec: periodiq.CronSpec, moment: datetime) -> bool:
    probe = moment.replace(hour=spec.hour[0], minute=spec.minute[0])
    return spec.validate(pendulum.instance(probe))


def due_times(spec: periodiq.CronSpec, after: datetime, until: datetime, catch_up: str) -> list[datetime]:
    """Return the due times after `after` up to `until` that are to be made into jobs, by the policy.

    The one that is due within the last minute always counts; earlier ones were missed.
    """
    if catch_up == "all":
        return list(islice(_times(spec, after, until), _MOST_MISSED))
    latest = _latest(spec, after, until)
    if latest is None or (catch_up == "skip" and until - latest >= timedelta(minutes=1)):
        return []
    return [latest]


def _times(spec: periodiq.CronSpec, after: datetime, until: datetime) -> Iterator[datetime]:
    moment = next_due_time(spec, after)
    while moment is not None and moment <= until:
        yield moment
        moment = next_due_time(spec, moment)


def _latest(spec: periodiq.CronSpec, after: datetime, until: datetime) -> datetime | None:
    """Return the last due time; looks back ever further, so that a year of missed minutes costs no year's walk."""
    for back in (timedelta(hours=1), timedelta(days=1), timedelta(days=31), until - after):
        latest = deque(_times(spec, max(after, until - back), until), maxlen=1)
        if latest:
            return latest[0]
    return None


_SCHEDULE = """
INSERT INTO schedules (name, cron, catch_up, last_due_at) VALUES (%s, %s, %s, %s)
ON CONFLICT (name) DO UPDATE SET cron = excluded.cron, catch_up = excluded.catch_up
RETURNING last_due_at
"""

_ADVANCE = "UPDATE schedules SET last_due_at = %s, last_job_id = coalesce(%s, last_job_id) WHERE name = %s"

_FORGET = "DELETE FROM schedules WHERE name <> ALL(%s)"

_SUCCEEDED = """
UPDATE schedules SET last_success_at = jobs.finished_at FROM jobs
WHERE jobs.id = schedules.last_job_id AND jobs.state = 'succeeded'
  AND schedules.last_success_at IS DISTINCT FROM jobs.finished_at
"""


class Scheduler:
    """Makes the due times of one service's schedules into jobs."""

    def __init__(self, service: str, database: Database, actors: Sequence[Actor[Any, Any]]) -> None:
        self.service = service
        self.database = database
        self.actors = {actor.actor_name: actor for actor in actors if actor.job.periodic is not None}
        self.beat = lambda: None
        """Called in each round, for a liveness probe."""

    def run(self, stop: threading.Event) -> None:
        """Tick until `stop` is set; an outage of the database delays ticks and loses none."""
        token = self.database.bind()
        try:
            pause = 0.0
            while not stop.wait(pause):
                self.beat()
                try:
                    self.tick(datetime.now(UTC))
                    now = datetime.now(UTC)
                    pause = 60.05 - now.second - now.microsecond / 1e6
                except (DBAPIError, psycopg.Error) as error:
                    log.warning("the scheduler lost the database and tries again", error=str(error)[:200])
                    pause = 1.0
                except Exception:
                    log.exception("the scheduler failed unexpectedly and tries again")
                    pause = 1.0
        finally:
            self.database.unbind(token)

    def tick(self, now: datetime) -> int:
        """Make everything that is due by now into jobs; return how many."""
        made = 0
        with use(service=self.service, tenant_id=SYSTEM, principal=f"service:{self.service}"):
            with unit_of_work(system=True, database=self.database) as session:
                session.connection().exec_driver_sql(_FORGET, (list(self.actors),))
                session.connection().exec_driver_sql(_SUCCEEDED)
            failed: Exception | None = None
            for name, actor in self.actors.items():
                # One transaction each: a schedule that fails must not hold up the others.
                try:
                    with unit_of_work(system=True, database=self.database) as session:
                        made += self._make_due(session.connection(), name, actor, now)
                except Exception as error:
                    log.warning("a schedule could not be made into jobs", schedule=name, error=str(error)[:200])
                    failed = failed or error
            if failed is not None:
                raise failed
        return made

    def _make_due(self, connection: Connection, name: str, actor: Actor[Any, Any], now: datetime) -> int:
        spec = actor.job.periodic
        assert spec is not None
        # A schedule seen for the first time begins now. The row's lock keeps a second scheduler waiting.
        begun = now.replace(second=0, microsecond=0) - timedelta(minutes=1)
        last = connection.exec_driver_sql(_SCHEDULE, (name, str(spec), actor.job.catch_up, begun)).scalar_one()
        times = due_times(spec, last, now, actor.job.catch_up)
        job_id = None
        made = 0
        for due in times:
            job, new = enqueue(
                NewJob(
                    actor=actor,
                    arguments={},
                    run_at=due,
                    once_key=f"schedule:{due.isoformat()}",
                    origin="schedule",
                )
            )
            job_id = job.id
            made += new
        # With `skip`, what was missed is passed over; the row must not make it due again.
        latest = times[-1] if times else _latest(spec, last, now)
        if latest is not None and latest > last:
            connection.exec_driver_sql(_ADVANCE, (latest, job_id, name))
            self._tell_of_gap(name, actor, last, now)
        return made

    def _tell_of_gap(self, name: str, actor: Actor[Any, Any], last: datetime, now: datetime) -> None:
        """Publish one event for the due times that passed while no scheduler ran."""
        assert actor.job.periodic is not None
        passed = list(islice(_times(actor.job.periodic, last, now - _LATE), _MOST_MISSED))
        if passed:
            log.warning("a schedule was missed", schedule=name, missed=len(passed), since=passed[0].isoformat())
            missed = of_service(ScheduleMissed, self.service)
            event = missed(schedule=name, missed=len(passed), since=passed[0], caught_up=actor.job.catch_up)
            publish(None, event, subject=name)
