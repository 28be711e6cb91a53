"""Replay: what was told is told again; who had it lets it pass, unless it is forced."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from shared.context import use
from shared.events import Occurrence, publish, publish_many
from shared.events.envelope import envelope
from shared.events.replay import replay
from shared.testing.service import ServiceUnderTest
from tests.events.bus.contracts import ThingHappened, ThingIgnored
from tests.events.conftest import seen


def told(bus: ServiceUnderTest) -> bool:
    return all(row.published_at for row in bus.published())


def tell(bus: ServiceUnderTest, *names: str) -> list[UUID]:
    """Tell these, and wait until all of it was published and handled."""
    ids = publish_many(None, [Occurrence(ThingHappened(name=name), name, 1) for name in names])
    bus.wait_until(lambda: told(bus))
    bus.wait_until(lambda: len(bus.jobs(actor="note")) == len(bus.published(ThingHappened.type)))
    bus.drain()
    return ids


def test_who_had_it_lets_it_pass_and_who_had_not_runs(any_bus: ServiceUnderTest) -> None:
    any_bus.start()
    ids = tell(any_bus, "a", "b", "c")
    # As if one had never arrived.
    any_bus.execute("DELETE FROM jobs WHERE once_key LIKE :key", key=f"%{ids[1]}")
    any_bus.execute("DELETE FROM seen WHERE event_id = :id", id=str(ids[1]))
    assert replay(types=[ThingHappened.type]) == 3
    any_bus.wait_until(lambda: told(any_bus))
    any_bus.wait_until(lambda: len(seen(any_bus)) == 3)
    any_bus.drain()
    assert sorted(seen(any_bus)) == ["a", "b", "c"]
    assert [row.id for row in any_bus.published(ThingHappened.type)] == ids


def test_forced_every_handler_runs_again_and_knows_it(any_bus: ServiceUnderTest) -> None:
    any_bus.start()
    ids = tell(any_bus, "a", "b")
    assert replay(ids=ids[:1], force=True) == 1
    any_bus.wait_until(lambda: len(seen(any_bus)) == 3)
    any_bus.drain()
    assert sorted(seen(any_bus)) == ["a", "a", "b"]
    again = any_bus.published(ThingHappened.type)[-1]
    event = envelope("bus", again)
    assert event["replay"] == str(ids[0]) == event["causationid"]
    assert event["id"] != str(ids[0])
    assert (event["data"], event["sequence"]) == ({"name": "a", "weight": 0}, "1")
    # What was told again is no original: it is not multiplied.
    assert replay(types=[ThingHappened.type], force=True) == 2


@pytest.mark.parametrize("force", [False, True])
def test_large_replays_go_in_batches_and_keep_the_order(bus: ServiceUnderTest, force: bool) -> None:
    publish_many(None, [Occurrence(ThingHappened(name=str(n)), "s", n) for n in range(1234)])
    bus.execute("UPDATE outbox SET published_at = now()")
    assert replay(types=[ThingHappened.type], force=force) == 1234
    pending = bus.query("SELECT data FROM outbox WHERE published_at IS NULL ORDER BY id")
    assert [json.loads(json.dumps(data))["name"] for (data,) in pending] == [str(n) for n in range(1234)]


@pytest.fixture
def history(bus: ServiceUnderTest) -> ServiceUnderTest:
    """Five events on five days, of two tenants and two types; the last was not yet published."""
    for number in range(5):
        with use(tenant_id="globex" if number % 2 else "acme"):
            event: Any = ThingIgnored(name=str(number)) if number == 2 else ThingHappened(name=str(number))
            publish(None, event, subject="s")
    bus.execute(
        "UPDATE outbox SET created_at = timestamptz '2026-03-01 12:00Z' + (data->>'name')::int * interval '1 day', "
        "published_at = CASE WHEN data->>'name' <> '4' THEN now() END"
    )
    return bus


def chosen(bus: ServiceUnderTest, **conditions: Any) -> list[str]:
    before = bus.query("SELECT id, published_at FROM outbox")
    count = replay(**conditions)
    rows = bus.query("SELECT data->>'name' FROM outbox WHERE published_at IS NULL ORDER BY id")
    names = [name for (name,) in rows if name != "4"]
    assert count == len(names)
    for event_id, published_at in before:
        bus.execute("UPDATE outbox SET published_at = :at WHERE id = :id", at=published_at, id=event_id)
    return names


def test_all_conditions_hold_together(history: ServiceUnderTest) -> None:
    rows = history.query("SELECT id, created_at FROM outbox ORDER BY id")
    at = [row.created_at for row in rows]
    assert chosen(history, types=[ThingHappened.type]) == ["0", "1", "3"]
    assert chosen(history, tenant_id="globex") == ["1", "3"]
    assert chosen(history, until=at[2]) == ["0", "1"]
    assert chosen(history, types=[ThingHappened.type], tenant_id="acme") == ["0"]
    assert chosen(history, ids=[rows[2].id, rows[3].id]) == ["2", "3"]
    assert chosen(history, ids=[rows[2].id], tenant_id="globex") == []
    assert chosen(history, types=[]) == []


def test_the_beginning_is_included_and_the_end_is_not(bus: ServiceUnderTest) -> None:
    for name in "abc":
        publish(None, ThingHappened(name=name), subject="s")
    bus.execute("UPDATE outbox SET published_at = now()")
    at = [row.created_at for row in bus.published()]
    assert chosen(bus, since=at[1]) == ["b", "c"]
    assert chosen(bus, since=at[1], until=at[2]) == ["b"]
    assert chosen(bus, since=at[2] + timedelta(hours=1)) == []


def test_everything_is_not_replayed_by_mistake(bus: ServiceUnderTest) -> None:
    with pytest.raises(ValueError, match="which events"):
        replay()
