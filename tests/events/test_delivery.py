"""Delivery: each handler runs once per event, whatever the relay, the broker and the publisher do."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pika
import pytest
from cloudevents.core.bindings import rabbitmq as binding
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from shared.context import use
from shared.db import unit_of_work
from shared.events import Occurrence, publish, publish_many
from shared.jobs import handler
from shared.jobs.handlers import NoHandler
from shared.jobs.publisher import EXCHANGE, PublishFailed
from shared.jobs.wire import Publication
from shared.testing.events import cloud_event, deliver
from shared.testing.service import ServiceUnderTest, Templates
from tests.events.bus.contracts import FOREIGN, ThingHappened, ThingIgnored
from tests.events.bus.service import service
from tests.events.conftest import bind, seen
from tests.events.other.service import service as other


def handled(bus: ServiceUnderTest, count: int) -> None:
    """Wait until so many jobs of handlers have ended well."""
    statement = "SELECT count(*) FROM jobs WHERE origin = 'event' AND state = 'succeeded'"
    bus.wait_until(lambda: bus.query(statement)[0][0] >= count, what=f"{count} handlers to end")


def test_an_event_is_handled_by_each_handler_once(any_bus: ServiceUnderTest) -> None:
    any_bus.start()
    publish(None, ThingHappened(name="one"), subject="s", sequence=1)
    publish(None, ThingHappened(name="two"), subject="s", sequence=2)
    handled(any_bus, 4)
    assert sorted(seen(any_bus)) == ["one", "two"]
    assert any_bus.query("SELECT name FROM newest") == [("two",)]
    assert all(row.published_at for row in any_bus.published())


def test_a_handler_knows_for_whom_and_why_it_runs(bus: ServiceUnderTest) -> None:
    event_id = deliver(bus, ThingHappened(name="a"), tenant_id="globex", principal="user:eve", correlationid="c-1")
    jobs = bus.jobs(actor="note")
    assert [(job.tenant_id, job.principal, job.correlation_id) for job in jobs] == [("globex", "user:eve", "c-1")]
    assert jobs[0].causation_id == event_id
    bus.drain()
    assert bus.query("SELECT tenant_id, event_id FROM seen") == [("globex", event_id)]


def test_what_was_had_before_is_let_pass(bus: ServiceUnderTest) -> None:
    event = cloud_event(ThingHappened(name="a"))
    for _ in range(3):
        deliver(bus, event)
    bus.drain()
    deliver(bus, event)
    bus.drain()
    assert seen(bus) == ["a"]
    # The same id from another source is another event.
    deliver(bus, {**event, "source": "/elsewhere"})
    bus.drain()
    assert seen(bus) == ["a", "a"]


def test_a_handler_is_retried_like_any_job(bus: ServiceUnderTest) -> None:
    deliver(bus, ThingHappened(name="stubborn"), subject="s", sequence=1)
    bus.drain()
    (job,) = bus.jobs(actor="keep_newest")
    assert job.state == "succeeded"
    assert [attempt.outcome for attempt in bus.attempts(job.id)] == ["retry", "retry", "done"]


def test_what_comes_late_is_dropped_by_its_sequence(bus: ServiceUnderTest) -> None:
    for sequence in (2, 3, 1):
        deliver(bus, ThingHappened(name=f"name {sequence}"), subject="s", sequence=sequence)
        bus.drain()
    assert bus.query("SELECT sequence, name FROM newest") == [(3, "name 3")]


def test_data_that_breaks_its_contract_fails_with_an_alert_after_a_deploy_s_time(bus: ServiceUnderTest) -> None:
    deliver(bus, cloud_event(ThingHappened(name="a"), data={"weight": "heavy"}))
    bus.drain()
    (job,) = bus.jobs(actor="note")
    assert job.state == "failed"
    assert job.failure["code"] == "event_unreadable"
    assert job.runs == 4
    (alert,) = [row for row in bus.published("backroom.bus.job.failed.v1") if row.data["actor"] == "note"]
    assert alert.data["code"] == "event_unreadable"


def test_a_type_with_a_contract_is_not_handled_by_its_name(bus: ServiceUnderTest) -> None:
    with pytest.raises(TypeError, match="@handler\\(LabelPurchased\\)"):
        handler("backroom.shipping.label.purchased.v1")


def test_an_event_without_a_handler_is_no_event_of_ours(bus: ServiceUnderTest) -> None:
    with pytest.raises(NoHandler, match=ThingIgnored.type):
        deliver(bus, ThingIgnored(name="a"))


class _Crashing:
    """A transport whose process dies after the broker has the batch, and before anybody could note it."""

    def __init__(self, inner: Any, crashes: int) -> None:
        self._inner = inner
        self.crashes = crashes
        self.batches: list[list[str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def publish(self, publications: Sequence[Publication]) -> None:
        self._inner.publish(publications)
        self.batches.append([str(publication.message_id) for publication in publications])
        if self.crashes:
            self.crashes -= 1
            raise PublishFailed("killed before the mark")


def test_a_relay_that_dies_between_publishing_and_noting_it_causes_duplicates_and_no_more(
    any_bus: ServiceUnderTest,
) -> None:
    relay = any_bus.app.relay()
    crashing = relay.transport = _Crashing(relay.transport, crashes=3)  # type: ignore[assignment]
    ids = publish_many(None, [Occurrence(ThingHappened(name=str(n)), f"s-{n}", 1) for n in range(20)])
    stop = threading.Event()
    thread = threading.Thread(target=relay.run, args=(stop,), daemon=True)
    thread.start()
    try:
        any_bus.start_worker()
        handled(any_bus, 40)
        any_bus.wait_until(lambda: all(row.published_at for row in any_bus.published()))
    finally:
        stop.set()
        thread.join(10)
    assert len(crashing.batches) >= 4
    assert crashing.batches[0] == [str(event_id) for event_id in ids], "in the order in which they were told"
    assert sorted(seen(any_bus), key=int) == [str(n) for n in range(20)]


@pytest.mark.parametrize("transport", ["embedded", "rabbitmq"])
def test_each_service_gets_a_copy_and_nobody_else_s_tenant(
    transport: str, service_app: Callable[..., ServiceUnderTest], request: pytest.FixtureRequest
) -> None:
    templates: Templates = request.getfixturevalue("_templates")
    bus = service_app(service, transport)
    hub = getattr(bus.app.broker, "hub", None)
    with (
        templates.fresh(other) as url,
        ServiceUnderTest(other, url, broker_url=bus.broker_url, hub=hub) as second,
    ):
        bind(second)
        second.start()
        bus.start()
        with use(service="bus", tenant_id="globex"), unit_of_work(database=bus.database) as session:
            told = publish(session, ThingHappened(name="a"), subject="s")
        (job,) = second.wait_until(lambda: second.jobs(actor="hear", state="succeeded"))
        assert job.tenant_id == "globex"
        assert job.once_key.endswith(str(told))
        handled(bus, 2)


def raw(channel: Any, body: bytes, routing_key: str, content_type: str = "application/cloudevents+json") -> None:
    properties = pika.BasicProperties(delivery_mode=2, content_type=content_type)
    channel.basic_publish(EXCHANGE, routing_key, body, properties, mandatory=True)


def test_any_program_can_publish(rabbit_bus: ServiceUnderTest, channel: Any) -> None:
    """What another language would do, byte by byte; delivered three times, handled once."""
    rabbit_bus.start()
    bind(rabbit_bus)
    body = json.dumps(
        {
            "specversion": "1.0",
            "id": "parcel-7/1",
            "source": "https://example.com/conveyor",
            "type": FOREIGN,
            "time": "2026-03-01T12:00:00.123456789+01:00",
            "tenantid": "acme",
            "data": {"parcel": "seven"},
        }
    ).encode()
    for _ in range(3):
        raw(channel, body, FOREIGN)
    handled(rabbit_bus, 1)
    raw(channel, body, FOREIGN)
    rabbit_bus.wait_until(lambda: depth(channel, "bus.events") == 0)
    rabbit_bus.drain()
    assert seen(rabbit_bus, "note_foreign") == ["seven"]


def test_the_sdk_of_cloudevents_can_publish(rabbit_bus: ServiceUnderTest, channel: Any) -> None:
    rabbit_bus.start()
    bind(rabbit_bus)
    attributes = {"type": FOREIGN, "source": "https://example.com/conveyor", "tenantid": "acme"}
    message = binding.to_structured(CloudEvent(attributes=attributes, data={"parcel": "eight"}), JSONFormat())
    raw(channel, message.body, FOREIGN, str(message.content_type))
    handled(rabbit_bus, 1)
    assert seen(rabbit_bus, "note_foreign") == ["eight"]


def test_any_program_can_subscribe(rabbit_bus: ServiceUnderTest, channel: Any) -> None:
    rabbit_bus.start_relay()
    bind(rabbit_bus)
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, EXCHANGE, routing_key="backroom.bus.#")
    told = publish(None, ThingIgnored(name="a"), subject="s")
    found = rabbit_bus.wait_until(lambda: (got := channel.basic_get(queue, auto_ack=True))[0] and got)
    _, properties, body = found
    assert properties.content_type == "application/cloudevents+json"
    assert (properties.message_id, properties.type) == (str(told), ThingIgnored.type)
    theirs = binding.from_structured(
        binding.RabbitMQMessage(headers={}, content_type=properties.content_type, body=body), JSONFormat()
    )
    assert theirs.get_data() == {"name": "a"}
    assert theirs.get_extension("tenantid") == "acme"


def depth(channel: Any, queue: str) -> int:
    return int(channel.queue_declare(queue, passive=True).method.message_count)
