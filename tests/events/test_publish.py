"""Publishing: an event is the change or is not; only its own service may tell it; it says whence it came."""

from __future__ import annotations

import json
import uuid

import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from sqlalchemy.exc import ProgrammingError

from shared.context import SYSTEM, use
from shared.db import unit_of_work
from shared.db.database import current_work
from shared.db.signals import RELAY, wake_relay
from shared.events import NotOurEvent, Occurrence, publish, publish_many
from shared.events.contracts import contracts
from shared.events.envelope import NotAnEvent, check, envelope
from shared.events.export import example_event
from shared.testing.events import cloud_event
from shared.testing.service import ServiceUnderTest
from tests.events.bus.contracts import ThingHappened, ThingIgnored

TYPE = ThingHappened.type


def test_what_is_rolled_back_was_never_told(bus: ServiceUnderTest) -> None:
    def change_and_fail() -> None:
        with unit_of_work():
            publish(None, ThingHappened(name="a"), subject="s")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        change_and_fail()
    assert bus.published() == []


def test_it_joins_the_open_unit_of_work_or_has_its_own(bus: ServiceUnderTest) -> None:
    with unit_of_work() as session:
        first = publish(session, ThingHappened(name="a"), subject="s", sequence=4)
        second = publish(None, ThingHappened(name="b"), subject="s", sequence=5)
        assert bus.published() == []
    third = publish(None, ThingHappened(name="c"), subject=uuid.UUID(int=1))
    rows = bus.published(TYPE)
    assert [row.id for row in rows] == [first, second, third]
    assert [row.sequence for row in rows] == [4, 5, None]
    assert rows[0].data == {"name": "a", "weight": 0}
    assert rows[2].subject == str(uuid.UUID(int=1))
    assert {row.tenant_id for row in rows} == {"acme"}


def test_many_are_one_statement_and_stay_in_order(bus: ServiceUnderTest) -> None:
    ids = publish_many(None, [Occurrence(ThingHappened(name=str(n)), "s", n) for n in range(100)])
    assert [row.id for row in bus.published(TYPE)] == ids
    assert ids == sorted(ids)
    assert publish_many(None, []) == []
    with pytest.raises(ValueError, match="one type"):
        publish_many(None, [Occurrence(ThingHappened(name="a"), "s"), Occurrence(ThingIgnored(name="a"), "s")])


@pytest.mark.parametrize("service", ["shipping", ""])
def test_nobody_tells_what_another_service_has_to_tell(bus: ServiceUnderTest, service: str) -> None:
    with use(service=service), pytest.raises(NotOurEvent, match="for 'bus' to publish"):
        publish(None, ThingHappened(name="a"), subject="s")


def test_there_is_no_event_without_a_tenant(bus: ServiceUnderTest) -> None:
    with use(tenant_id=None), pytest.raises(RuntimeError, match="no tenant"):
        publish(None, ThingHappened(name="a"), subject="s")


def test_the_relay_is_woken_once_and_after_the_commit(bus: ServiceUnderTest) -> None:
    with bus.database.connect() as listener:
        listener.execute(f"LISTEN {RELAY}".encode())
        with unit_of_work() as session:
            publish(session, ThingHappened(name="a"), subject="s")
            publish(None, ThingHappened(name="b"), subject="s")
            work = current_work()
            assert work is not None
            assert work.after_commit == [wake_relay]
            assert not list(listener.notifies(timeout=0.1))
        assert list(listener.notifies(timeout=10, stop_after=1))


def test_it_says_whence_it_came(bus: ServiceUnderTest) -> None:
    with use(principal="user:eve", request_id="r-1", correlation_id="c-1"):
        publish(None, ThingHappened(name="a"), subject="s", sequence=2)
    event = envelope("bus", bus.published()[0])
    assert event["principal"] == "user:eve"
    assert event["causationid"] == "r-1"
    assert event["correlationid"] == "c-1"
    assert event["sequence"] == "2"
    assert event["source"] == "/backroom/bus"
    assert "replay" not in event


@pytest.mark.parametrize("declared", contracts().values(), ids=lambda declared: declared.type)
def test_the_sdk_of_cloudevents_reads_them(declared: type[ThingHappened]) -> None:
    ours = example_event(declared)
    theirs = JSONFormat().read(CloudEvent, json.dumps(ours))
    assert theirs.get_id() == ours["id"]
    assert theirs.get_type() == declared.type
    assert theirs.get_source() == ours["source"]
    assert theirs.get_subject() == ours["subject"]
    assert theirs.get_extension("tenantid") == "acme"
    assert theirs.get_data() == ours["data"]
    assert json.loads(JSONFormat().write(theirs))["data"] == ours["data"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"id": ""}, "'id'"),
        ({"tenantid": None}, "'tenantid'"),
        ({"type": 7}, "'type'"),
        ({"time": "yesterday"}, "time"),
        ({"time": "2026-03-01T12:00:00"}, "offset"),
        ({"sequence": "second"}, "sequence"),
    ],
)
def test_what_makes_no_sense_is_told_apart(change: dict[str, object], problem: str) -> None:
    event = cloud_event(ThingHappened(name="a"))
    assert check(event) is event
    with pytest.raises(NotAnEvent, match=problem):
        check({**event, **change})


def test_data_is_json_or_nothing_we_read() -> None:
    event = cloud_event(ThingHappened(name="a"))
    event["data_base64"] = event.pop("data")
    with pytest.raises(NotAnEvent, match="not JSON"):
        check(event)
    with pytest.raises(NotAnEvent, match="no JSON object"):
        check([event])


def test_a_sweep_tells_of_many_tenants_at_once_and_nobody_else_does(bus: ServiceUnderTest) -> None:
    events = [Occurrence(ThingHappened(name=name), "s", tenant_id=name) for name in ("acme", "globex")]
    with pytest.raises(ProgrammingError, match="row-level security"):
        publish_many(None, events)
    with use(tenant_id=SYSTEM):
        publish_many(None, events)
    assert [(row.tenant_id, row.data["name"]) for row in bus.published()] == [("acme", "acme"), ("globex", "globex")]
