"""What recurs: once per due time, late rather than never; and what stock periodiq makes of the same."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import dramatiq
import pendulum
import periodiq
import pytest
from dramatiq.brokers.stub import StubBroker
from dramatiq.errors import ConnectionClosed
from dramatiq.middleware import SkipMessage
from sqlalchemy.exc import OperationalError

from shared.jobs import cron
from shared.jobs.actor import Actor, Options
from shared.jobs.schedules import NeverFires, Scheduler, due_times, next_due_time
from shared.testing.service import ServiceUnderTest
from tests.sample import jobs

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
SUNDAY = datetime(2026, 3, 8, 0, 0, tzinfo=UTC)


def scheduled(expression: str, catch_up: str = "once", name: str = "swept", unique: Any = None) -> Actor[Any, Any]:
    """Make an actor with a schedule that no service has."""
    options = Options(transactional=True, periodic=cron(expression), catch_up=catch_up, unique=unique)
    return Actor(lambda: jobs.record(name), actor_name=name, queue_name="default", priority=2, options=options)


@pytest.fixture
def scheduler(sample: ServiceUnderTest) -> Any:
    """Make a scheduler of these actors, and let the sample service know them."""

    def make(*actors: Actor[Any, Any]) -> Scheduler:
        for declared in actors:
            sample.app.actors[declared.actor_name] = declared
        return Scheduler("sample", sample.database, actors)

    known = dict(sample.app.actors)
    yield make
    sample.app.actors.clear()
    sample.app.actors.update(known)


def made(sample: ServiceUnderTest, name: str = "swept") -> list[datetime]:
    """Return the due times for which there is a job."""
    return [job.run_at for job in sample.jobs(actor=name)]


# -- periodiq's five traps ------------------------------------------------------------------------------


@pytest.mark.parametrize("expression", ["0 0 * * 0", "0 0 * * sun", "@weekly", "0 0 * * 7", "0 0 * * 6-7"])
def test_trap_sunday(expression: str) -> None:
    """Stock periodiq never fires on a Sunday written as 0, `sun` or `@weekly`; ours does, however it is written."""
    if "7" not in expression:
        assert not periodiq.CronSpec.parse(expression).validate(pendulum.instance(SUNDAY))

    assert cron(expression).validate(pendulum.instance(SUNDAY))
    assert next_due_time(cron(expression), SUNDAY - timedelta(minutes=1)) == SUNDAY


def test_trap_late_tick(sample: ServiceUnderTest, scheduler: Any) -> None:
    """Stock periodiq silently skips what comes 31 seconds late; ours runs it, ten minutes late or ten days."""
    broker = StubBroker(middleware=[])
    stock = dramatiq.Actor(
        lambda: None, broker=broker, actor_name="s", queue_name="q", priority=0, options={"periodic": cron("* * * * *")}
    )
    late = str(pendulum.now() - timedelta(seconds=31))
    with pytest.raises(SkipMessage):
        periodiq.PeriodiqMiddleware().before_process_message(broker, stock.message_with_options(scheduled_at=late))

    ours = scheduler(scheduled("0 3 * * *"))
    ours.tick(NOON)
    assert made(sample) == []
    ours.tick(NOON + timedelta(days=10))
    (job,) = sample.jobs(actor="swept")
    assert job.run_at == datetime(2026, 3, 12, 3, 0, tzinfo=UTC)
    assert sample.run(job.id).state == "succeeded"


def test_trap_two_schedulers(sample: ServiceUnderTest, scheduler: Any) -> None:
    """Two stock schedulers send every tick twice; of ours any number makes one job per due time."""
    sent: list[object] = []

    class Stock:
        actor_name = "swept"

        def send_with_options(self, **options: object) -> None:
            sent.append(options)

    for _ in range(2):
        periodiq.Scheduler([]).send_actors([Stock()], NOON)
    assert len(sent) == 2

    ours = [scheduler(scheduled("* * * * *")) for _ in range(4)]
    sample.concurrently(4, lambda number: ours[number].tick(NOON))
    assert made(sample) == [NOON]


def test_trap_outage_at_a_tick(sample: ServiceUnderTest, scheduler: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that is away at a tick ends stock periodiq; ours outlives any outage and any mistake, and goes on."""

    class Stock:
        actor_name = "swept"

        def send_with_options(self, **options: object) -> None:
            raise ConnectionClosed("the broker is away")

    stock = periodiq.Scheduler([])
    monkeypatch.setattr(stock, "schedule", lambda: stock.send_actors([Stock()], NOON))
    stock.alarm_q.put(True)
    with pytest.raises(ConnectionClosed):
        stock.loop()

    ours = scheduler(scheduled("* * * * *"))
    ticks: list[int] = []
    stop = threading.Event()

    def tick(now: datetime) -> int:
        ticks.append(1)
        if len(ticks) == 1:
            raise OperationalError("SELECT 1", {}, Exception("the database is away"))
        if len(ticks) == 2:
            raise RuntimeError("a mistake")
        stop.set()
        return 0

    monkeypatch.setattr(ours, "tick", tick)
    sample.concurrently(1, lambda _: ours.run(stop))
    assert len(ticks) == 3


def test_trap_local_time() -> None:
    """Stock periodiq, on local time, has no 02:30 in spring and two in autumn; ours has one on every day."""
    spec = periodiq.CronSpec.parse("30 2 * * *")

    def stock(year: int, month: int, day: int) -> int:
        midnight = pendulum.datetime(year, month, day, tz="Europe/Paris")
        minutes = (midnight.add(minutes=minute) for minute in range(26 * 60))
        return sum(spec.validate(moment) for moment in minutes if moment.day == day)

    assert [stock(2026, 3, 29), stock(2026, 10, 25)] == [0, 2]

    for month, day in ((3, 29), (10, 25)):
        midnight = datetime(2026, month, day, tzinfo=UTC)
        due = due_times(cron("30 2 * * *"), midnight, midnight + timedelta(hours=24), "all")
        assert due == [midnight.replace(hour=2, minute=30)]


# -- what is missed, and what never comes ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("catch_up", "expected"),
    [("skip", []), ("once", [NOON + timedelta(hours=3)]), ("all", [NOON + timedelta(hours=n) for n in (1, 2, 3)])],
)
def test_catch_up(sample: ServiceUnderTest, scheduler: Any, catch_up: str, expected: list[datetime]) -> None:
    """Ticks missed while no scheduler ran are passed over, made good once, or all made good."""
    ours = scheduler(scheduled("0 * * * *", catch_up))
    ours.tick(NOON)

    ours.tick(NOON + timedelta(hours=3, minutes=20))
    ours.tick(NOON + timedelta(hours=3, minutes=21))

    assert made(sample) == [NOON, *expected]


def test_a_gap_is_told_once(sample: ServiceUnderTest, scheduler: Any) -> None:
    """Whoever watches learns that ticks were missed, how many, and what became of them; a tick in time is no news."""
    ours = scheduler(scheduled("0 * * * *"))
    ours.tick(NOON)
    ours.tick(NOON + timedelta(hours=1, seconds=30))
    assert sample.published("backroom.sample.schedule.missed.v1") == []

    ours.tick(NOON + timedelta(hours=4, minutes=20))
    ours.tick(NOON + timedelta(hours=4, minutes=21))

    (told,) = sample.published("backroom.sample.schedule.missed.v1")
    assert (told.data["missed"], told.data["caught_up"]) == (3, "once")
    assert datetime.fromisoformat(told.data["since"]) == NOON + timedelta(hours=2)


def test_skip_still_makes_the_tick_that_is_due(sample: ServiceUnderTest, scheduler: Any) -> None:
    """What is due in this very minute was not missed."""
    ours = scheduler(scheduled("0 * * * *", "skip"))
    ours.tick(NOON)
    ours.tick(NOON + timedelta(hours=3, seconds=1))

    assert made(sample) == [NOON, NOON + timedelta(hours=3)]


@pytest.mark.parametrize(("catch_up", "count"), [("skip", 1), ("once", 1), ("all", 1000)])
def test_a_week_of_missed_minutes(catch_up: str, count: int) -> None:
    """Ten thousand missed ticks are one to make good, and the latest one, at once; or a thousand in each round."""
    until = NOON + timedelta(days=7)

    due = due_times(cron("* * * * *"), NOON, until, catch_up)

    assert len(due) == count
    if count == 1:
        assert due == [until]


def test_the_latest_of_rare_times_is_found() -> None:
    """Looking back ever further finds the last due time of any schedule."""
    assert due_times(cron("0 0 29 2 *"), datetime(2024, 1, 1, tzinfo=UTC), NOON, "once") == [
        datetime(2024, 2, 29, tzinfo=UTC)
    ]
    assert due_times(cron("0 0 1 1 *"), datetime(2020, 1, 1, tzinfo=UTC), NOON, "once") == [
        datetime(2026, 1, 1, tzinfo=UTC)
    ]


def test_a_new_schedule_begins_now(sample: ServiceUnderTest, scheduler: Any) -> None:
    """A schedule that was never seen before has missed nothing."""
    scheduler(scheduled("0 * * * *", "all")).tick(NOON + timedelta(minutes=30))

    assert made(sample) == []


def test_a_schedule_that_fails_does_not_hold_up_the_others(
    sample: ServiceUnderTest, scheduler: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given one schedule that cannot be made into a job, the others are, and the scheduler tries again soon."""
    ours = scheduler(scheduled("* * * * *", name="a_bad_one"), scheduled("* * * * *"))
    original = Scheduler._make_due

    def make_due(self: Any, connection: Any, name: str, actor: Any, now: datetime) -> int:
        if name == "a_bad_one":
            raise ValueError("no")
        return original(self, connection, name, actor, now)

    monkeypatch.setattr(Scheduler, "_make_due", make_due)

    with pytest.raises(ValueError, match="no"):
        ours.tick(NOON)
    assert made(sample) == [NOON]


def test_a_tick_belongs_to_the_system_and_says_where_it_is_from(sample: ServiceUnderTest, scheduler: Any) -> None:
    """The job of a tick is of no tenant; its schedule's row points to it."""
    scheduler(scheduled("* * * * *")).tick(NOON)

    (job,) = sample.jobs(actor="swept")
    assert (job.tenant_id, job.origin, job.principal) == ("system", "schedule", "service:sample")
    assert sample.query("SELECT last_due_at, last_job_id FROM schedules") == [(NOON, job.id)]


def test_a_schedule_says_when_it_last_succeeded(sample: ServiceUnderTest, scheduler: Any) -> None:
    """The moment at which the job of a tick was done is kept with the schedule."""
    ours = scheduler(scheduled("* * * * *"))
    ours.tick(NOON)
    (job,) = sample.jobs(actor="swept")
    finished_at = sample.run(job.id).finished_at
    ours.tick(NOON + timedelta(seconds=20))

    assert sample.query("SELECT last_success_at FROM schedules") == [(finished_at,)]


def test_a_schedule_that_is_gone_leaves_the_table(sample: ServiceUnderTest, scheduler: Any) -> None:
    """What the code no longer declares is no longer shown."""
    scheduler(scheduled("* * * * *")).tick(NOON)
    scheduler(scheduled("* * * * *", name="another")).tick(NOON)

    assert [name for (name,) in sample.query("SELECT name FROM schedules")] == ["another"]


@pytest.mark.parametrize("expression", ["0 0 30 2 *", "0 0 31 4,6,9,11 *"])
def test_what_never_fires_is_refused(expression: str) -> None:
    """An expression that no date fulfils is found when the module is loaded."""
    with pytest.raises(NeverFires):
        cron(expression)


@pytest.mark.parametrize(
    "expression", ["", "* * * *", "60 * * * *", "* 24 * * *", "0 0 0 * *", "x * * * *", "5-1 * * * *"]
)
def test_what_makes_no_sense_is_refused(expression: str) -> None:
    """An expression that cannot be read is found when the module is loaded."""
    with pytest.raises(ValueError, match="cron expression"):
        cron(expression)


def test_a_leap_day_fires() -> None:
    """29 February comes; it is no expression that never fires."""
    assert next_due_time(cron("0 0 29 2 *"), NOON) == datetime(2028, 2, 29, tzinfo=UTC)


def test_the_scheduler_ticks_by_itself(fresh_sample: ServiceUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in a thread, it makes what is due; the library's own schedules are known to it."""
    declared = scheduled("* * * * *")
    monkeypatch.setitem(fresh_sample.app.actors, "swept", declared)
    fresh_sample.start_scheduler()

    fresh_sample.wait_until(lambda: made(fresh_sample), what="the first tick")
    names = {name for (name,) in fresh_sample.query("SELECT name FROM schedules")}
    assert {"clean_up_jobs", "clean_up_events", "clean_up_idempotency_keys", "clean_up_webhook_events"} < names
