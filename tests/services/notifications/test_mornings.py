"""In the morning: stuck orders and the summary, once a day in each workspace's own time, late rather than never."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from services.notifications.jobs import begin_mornings, mornings, tell_morning
from services.notifications.mornings import local_day, zone_of
from shared.context import SYSTEM
from shared.events.contracts.shipping import LabelPurchased, OrderCreated, OrderTransitioned
from shared.events.contracts.workspaces import WorkspaceCreated, WorkspaceStateChanged
from tests.services.notifications.office import Office, failed

TODAY = date(2026, 3, 10)


class Clock:
    """The time that the jobs of the morning see."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = datetime.now(UTC)
        clock = self

        class Moment(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> datetime:
                return clock.now.astimezone(tz)

        patch.setattr(mornings, "datetime", Moment)

    def set(self, moment: str) -> None:
        self.now = datetime.fromisoformat(moment).replace(tzinfo=UTC)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def founded(office: Office, zone: str = "UTC", moment: str = "2026-03-01T12:00:00+00:00", **attributes: Any) -> None:
    event = WorkspaceCreated.model_validate(WorkspaceCreated.example().model_dump() | {"time_zone": zone})
    office.hear(event, time=moment, **attributes)
    office.handle()


def entered(office: Office, number: str, since: str, state: str = "New") -> uuid.UUID:
    order_id = uuid.uuid4()
    order = {"order_id": order_id, "number": number, "created_by": office.principal("sales")}
    office.hear(
        OrderCreated.model_validate(OrderCreated.example().model_dump() | order), sequence=1, time=f"{since}+00:00"
    )
    if state != "New":
        move = {**order, "from_state": "New", "to_state": state}
        moved = OrderTransitioned.model_validate(OrderTransitioned.example().model_dump() | move)
        office.hear(moved, sequence=2, time=f"{since}+00:00")
    office.handle()
    return order_id


def hour(office: Office) -> list[date]:
    """Let the hour strike; return of which days workspaces are told, and have them told."""
    office.service.run_job(begin_mornings, tenant_id=SYSTEM)
    jobs = [job for job in office.service.jobs(actor="tell_morning") if job.state == "scheduled"]
    days = [date.fromisoformat(job.arguments["day"]) for job in jobs]
    office.handle()
    return days


def test_a_workspace_is_told_once_a_day_in_its_own_morning(office: Office, clock: Clock) -> None:
    founded(office, "America/New_York")
    told = []
    for number in range(48):
        clock.now = datetime(2026, 3, 10, tzinfo=UTC) + timedelta(hours=number)
        told += [(clock.now, day) for day in hour(office)]
    # On the first stroke of that day, eight in the morning of the day before is long gone: late rather than never.
    zone = ZoneInfo("America/New_York")
    assert [(moment.astimezone(zone).hour, day.isoformat()) for moment, day in told] == [
        (20, "2026-03-09"),
        (8, "2026-03-10"),
        (8, "2026-03-11"),
    ]


def test_an_outage_over_the_morning_makes_it_late(office: Office, clock: Clock) -> None:
    founded(office)
    clock.set("2026-03-10T07:59:00")
    hour(office)
    clock.set("2026-03-11T14:02:00")
    assert hour(office) == [date(2026, 3, 11)]
    assert hour(office) == []


def test_a_new_workspace_has_its_first_morning_on_the_next_day(office: Office, clock: Clock) -> None:
    founded(office, "Asia/Tokyo", "2026-03-09T16:00:00+00:00")  # the 10th in Tokyo
    clock.set("2026-03-10T03:00:00")
    assert hour(office) == []
    clock.set("2026-03-11T00:00:00")
    assert hour(office) == [date(2026, 3, 11)]


@pytest.mark.parametrize(
    ("state", "told"),
    [("active", 1), ("canceled", 1), ("frozen", 0), ("suspended", 0), ("archived", 0)],
)
def test_a_workspace_that_does_not_work_has_no_morning(office: Office, clock: Clock, state: str, told: int) -> None:
    founded(office)
    change = WorkspaceStateChanged.example().model_copy(update={"state": state})
    office.hear(change, sequence=2)
    office.handle()
    clock.set("2026-03-10T08:00:00")
    assert len(hour(office)) == told


def test_many_workspaces_have_their_morning_at_once(office: Office, clock: Clock) -> None:
    office.service.execute(
        "INSERT INTO mornings SELECT 'w' || n, CASE WHEN n % 2 = 0 THEN 'UTC' ELSE 'Asia/Tokyo' END, '2026-03-09' "
        "FROM generate_series(1, 500) AS n"
    )
    clock.set("2026-03-10T08:00:00")
    begun = office.service.run_job(begin_mornings, tenant_id=SYSTEM)
    assert begun.result == {"workspaces": 500}
    jobs = office.service.jobs(actor="tell_morning")
    assert {job.tenant_id for job in jobs} == {f"w{number}" for number in range(1, 501)}


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "../../etc/passwd", "Europe", "\x00", "x" * 5000])
def test_a_time_zone_that_is_none_is_utc(name: str) -> None:
    assert zone_of(name).key == "UTC"
    assert local_day(name, datetime(2026, 3, 10, 23, tzinfo=UTC)) == TODAY


# -- stuck orders --------------------------------------------------------------------------------------


def test_fulfillment_is_reminded_of_stuck_orders_every_day_once(office: Office, clock: Clock) -> None:
    founded(office)
    entered(office, "1", "2026-03-06T12:00:00")
    entered(office, "2", "2026-03-05T12:00:00", "Processing")
    entered(office, "3", "2026-03-01T12:00:00", "Shipped")
    entered(office, "4", "2026-03-09T12:00:00")
    clock.set("2026-03-10T08:00:00")
    hour(office)
    assert office.told("orders_stuck") == {"fulfillment": ["2 orders do not move."]}
    assert office.mailed("stuck_orders") == ["fulfillment"]
    ((values,),) = office.service.query("SELECT vars FROM mails WHERE template = 'stuck_orders'")
    assert [(order["number"], order["days"]) for order in values["orders"]] == [("2", 4), ("1", 3)]
    office.service.run_job(tell_morning, day=TODAY)
    assert len(office.told("orders_stuck")["fulfillment"]) == 1, "twice is once"

    clock.set("2026-03-11T08:00:00")
    hour(office)
    assert len(office.told("orders_stuck")["fulfillment"]) == 2
    assert len(office.mailed("stuck_orders")) == 2


def test_nobody_is_reminded_of_nothing(office: Office, clock: Clock) -> None:
    founded(office)
    entered(office, "1", "2026-03-08T12:00:00")
    clock.set("2026-03-10T08:00:00")
    hour(office)
    assert office.told("orders_stuck") == {}
    assert office.mailed() == []


def test_a_thousand_stuck_orders_are_one_notice(office: Office, clock: Clock) -> None:
    founded(office)
    office.service.execute(
        "INSERT INTO orders (tenant_id, id, number, created_by, recipient_name, recipient_company, state, since, "
        "ordered_at, sequence) SELECT 'acme', gen_random_uuid(), n::text, 'user:x', 'Bob', '', 'New', "
        "'2026-03-01', '2026-03-01', 1 FROM generate_series(1, 1000) AS n"
    )
    clock.set("2026-03-10T08:00:00")
    hour(office)
    assert office.told("orders_stuck") == {"fulfillment": ["1000 orders do not move."]}


# -- the summary ---------------------------------------------------------------------------------------


def test_owner_and_manager_learn_what_yesterday_was(office: Office, clock: Clock) -> None:
    founded(office, "America/New_York")
    for moment in ("2026-03-09T04:30:00", "2026-03-10T03:30:00", "2026-03-10T04:30:00"):  # the last one is today
        entered(office, moment, moment, "Shipped")
    bought = {"label_id": uuid.uuid4(), "purchased_at": "2026-03-09T15:00:00Z"}
    office.hear(LabelPurchased.model_validate(LabelPurchased.example().model_dump() | bought))
    for _ in range(3):
        office.hear(failed(), time="2026-03-09T15:00:00+00:00")
    office.handle()
    clock.set("2026-03-10T12:00:00")
    hour(office)
    said = ["This was 9 March."]
    assert office.told("summary") == {"owner": said, "manager": said}
    ((summary,),) = office.service.query("SELECT text FROM notices WHERE kind = 'summary'")
    assert summary == "2 new orders, 1 label bought, 3 failures, 1 alert that needs somebody."
    assert office.mailed("digest") == ["manager", "owner"]


def test_a_day_without_anything_has_no_summary(office: Office, clock: Clock) -> None:
    founded(office)
    clock.set("2026-03-10T08:00:00")
    assert hour(office) == [TODAY]
    assert (office.told(), office.mailed()) == ({}, [])
