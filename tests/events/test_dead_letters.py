"""Dead letters: what nobody could handle says why, can be looked at, and comes back once that is mended."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from shared.context import SYSTEM, use
from shared.events import dead_letters as module
from shared.events.dead_letters import BrokerAway, DeadLetters, NotAsMany, dead_letters
from shared.jobs.library import look_for_dead_letters
from shared.jobs.publisher import EXCHANGE
from shared.jobs.wire import EVENTS_CONTENT_TYPE, Publication
from shared.testing.events import cloud_event
from shared.testing.service import ServiceUnderTest
from tests.events.bus.contracts import ThingHappened, ThingIgnored
from tests.events.conftest import bind, seen

QUEUE = "bus.events"


@pytest.fixture
def letters(any_bus: ServiceUnderTest) -> Iterator[DeadLetters]:
    bind(any_bus)
    any_bus.start()
    yield dead_letters(any_bus.app.broker)
    any_bus.app.transport.close()


def send(bus: ServiceUnderTest, *bodies: bytes | dict[str, Any], to: str = QUEUE) -> None:
    """Put bodies into a queue of the service, as if they had come over the bus."""
    bus.app.transport.publish(
        [
            Publication("", to, body if isinstance(body, bytes) else json.dumps(body).encode(), EVENTS_CONTENT_TYPE)
            for body in bodies
        ]
    )


def died(bus: ServiceUnderTest, letters: DeadLetters, count: int, queue: str = QUEUE) -> None:
    bus.wait_until(lambda: letters.counts()[queue] == count, what=f"{count} dead letters in {queue}")


HOPELESS: list[tuple[Any, str]] = [
    (b"no json at all", "makes no sense"),
    (b'{"specversion": "0.3"}', "specversion"),
    ({**cloud_event(ThingHappened(name="a")), "tenantid": ""}, "'tenantid'"),
    (cloud_event(ThingIgnored(name="a")), "no handler of this version.*thing.ignored"),
    # What no column takes.
    ({**cloud_event(ThingHappened(name="a")), "data": {"name": "\x00"}}, "u0000"),
]


def test_what_cannot_be_handled_dies_and_says_why(any_bus: ServiceUnderTest, letters: DeadLetters) -> None:
    for count, (body, reason) in enumerate(HOPELESS, 1):
        send(any_bus, body)
        died(any_bus, letters, count)
        letter = letters.peek(QUEUE)[-1]
        assert re.search(reason, letter.reason), letter.reason
        assert letter.body == (body if isinstance(body, bytes) else json.dumps(body).encode())
        assert letter.died_at is not None
        assert abs((datetime.now(UTC) - letter.died_at).total_seconds()) < 60
        any_bus.wait_until(lambda: letters.counts()[QUEUE] == count)  # noqa: B023 - called at once
    # And the queue goes on behind them.
    send(any_bus, cloud_event(ThingHappened(name="after")))
    any_bus.wait_until(lambda: seen(any_bus) == ["after"])


def test_news_of_jobs_that_make_no_sense_die_too(any_bus: ServiceUnderTest, letters: DeadLetters) -> None:
    send(any_bus, b'{"actor": "note", "jobs": [["not an id", 1]]}', to="bus.handlers")
    died(any_bus, letters, 1, "bus.handlers")
    assert "badly formed" in letters.peek("bus.handlers")[0].reason


def test_looking_loses_nothing_however_often(any_bus: ServiceUnderTest, letters: DeadLetters) -> None:
    """RabbitMQ 4 drops from a quorum queue what was returned to it more than 20 times."""
    send(any_bus, *[f"bad {number}".encode() for number in range(3)])
    died(any_bus, letters, 3)
    for _ in range(25):
        assert sorted(letter.body for letter in letters.peek(QUEUE)) == [b"bad 0", b"bad 1", b"bad 2"]
        any_bus.wait_until(lambda: letters.counts()[QUEUE] == 3)
    (letter,) = letters.peek(QUEUE, limit=1)
    assert letter.headers.get("x-delivery-count", 0) <= 10
    assert "makes no sense" in letter.reason


def test_once_the_cause_is_mended_they_are_redriven(any_bus: ServiceUnderTest, letters: DeadLetters) -> None:
    # A version that does not know the handler yet.
    handlers = any_bus.app.handlers
    known = handlers.pop(ThingHappened.type)
    events = [cloud_event(ThingHappened(name=str(number))) for number in range(5)]
    for count, event in enumerate(events, 1):
        send(any_bus, event)
        died(any_bus, letters, count)
    send(any_bus, b"hopeless")
    died(any_bus, letters, 6)
    handlers[ThingHappened.type] = known
    assert letters.redrive(QUEUE, limit=2) == 2
    any_bus.wait_until(lambda: sorted(seen(any_bus)) == ["0", "1"])
    died(any_bus, letters, 4)
    assert letters.redrive(QUEUE) == 4
    any_bus.wait_until(lambda: sorted(seen(any_bus)) == ["0", "1", "2", "3", "4"])
    # What died again says so anew, and was not moved a second time by the same call.
    died(any_bus, letters, 1)
    assert letters.peek(QUEUE)[0].body == b"hopeless"


def test_purging_needs_the_number_that_one_has_seen(any_bus: ServiceUnderTest, letters: DeadLetters) -> None:
    send(any_bus, b"bad", b"worse")
    died(any_bus, letters, 2)
    with pytest.raises(NotAsMany, match="has 2 dead letters, not 1"):
        letters.purge(QUEUE, expected=1)
    assert letters.counts() == {"bus.default": 0, QUEUE: 2, "bus.handlers": 0}
    letters.purge(QUEUE, expected=2)
    died(any_bus, letters, 0)


def test_a_queue_that_the_service_has_not_is_refused(any_bus: ServiceUnderTest, letters: DeadLetters) -> None:
    with pytest.raises(LookupError, match=r"shipping\.labels.*bus\.events"):
        letters.peek("shipping.labels")


# -- RabbitMQ alone ----------------------------------------------------------------------------------------


def test_killed_midway_a_redrive_has_lost_nothing(
    rabbit_bus: ServiceUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the confirm over there and the acknowledgement here: it is in both queues, and handled once."""
    bind(rabbit_bus)
    rabbit_bus.start()
    letters = dead_letters(rabbit_bus.app.broker)
    known = rabbit_bus.app.handlers.pop(ThingHappened.type)
    send(rabbit_bus, cloud_event(ThingHappened(name="a")), cloud_event(ThingHappened(name="b")))
    died(rabbit_bus, letters, 2)
    rabbit_bus.app.handlers[ThingHappened.type] = known

    class Killed(BaseException):
        """The process is gone."""

    with monkeypatch.context() as patch:
        # The worker's consumer acknowledges by the same method, so it is looked at by whom it is called.
        original = BlockingChannel.basic_ack

        def basic_ack(channel: Any, delivery_tag: int = 0, multiple: bool = False) -> None:
            if channel.connection is letters_connection[-1]:
                raise Killed
            original(channel, delivery_tag, multiple)

        letters_connection: list[Any] = []
        connect = pika.BlockingConnection

        def remember(*arguments: Any, **options: Any) -> Any:
            letters_connection.append(connect(*arguments, **options))
            return letters_connection[-1]

        patch.setattr(module.pika, "BlockingConnection", remember)
        patch.setattr(BlockingChannel, "basic_ack", basic_ack)
        with pytest.raises(Killed):
            letters.redrive(QUEUE)
    died(rabbit_bus, letters, 2)
    rabbit_bus.wait_until(lambda: len(seen(rabbit_bus)) == 1)
    assert letters.redrive(QUEUE) == 2
    died(rabbit_bus, letters, 0)
    rabbit_bus.wait_until(lambda: len(seen(rabbit_bus)) == 2)
    rabbit_bus.drain()
    assert sorted(seen(rabbit_bus)) == ["a", "b"]


def test_a_consumer_that_cannot_say_why_leaves_it_to_rabbitmq(rabbit_bus: ServiceUnderTest, channel: Any) -> None:
    """Without the queue of dead letters there is nowhere to publish to; the message is rejected all the same."""
    bind(rabbit_bus)
    channel.queue_delete("bus.events.dead")
    rabbit_bus.start_worker()
    channel.basic_publish(EXCHANGE, ThingHappened.type, b"bad")
    channel.basic_publish(EXCHANGE, ThingHappened.type, json.dumps(cloud_event(ThingHappened(name="a"))).encode())
    rabbit_bus.wait_until(lambda: rabbit_bus.jobs(actor="note"))


def test_who_rejects_by_other_means_is_understood(rabbit_bus: ServiceUnderTest, channel: Any) -> None:
    bind(rabbit_bus)
    send(rabbit_bus, b"bad")
    method, _, _ = channel.basic_get(QUEUE)
    channel.basic_nack(method.delivery_tag, requeue=False)
    letters = dead_letters(rabbit_bus.app.broker)
    died(rabbit_bus, letters, 1)
    (letter,) = letters.peek(QUEUE)
    assert letter.reason == "rejected"
    assert letter.died_at is not None
    assert letter.died_at.tzinfo is UTC


def test_before_anything_was_declared_nothing_has_died(rabbit_bus: ServiceUnderTest) -> None:
    assert set(dead_letters(rabbit_bus.app.broker).counts().values()) == {0}


def test_a_broker_that_is_away_is_said_to_be(rabbit_bus: ServiceUnderTest) -> None:
    broker = rabbit_bus.app.broker
    broker.parameters = pika.URLParameters("amqp://127.0.0.1:9/?connection_attempts=1")  # type: ignore[attr-defined]
    with pytest.raises(BrokerAway):
        dead_letters(broker).counts()


def test_somebody_is_told_of_dead_letters_every_hour_for_as_long_as_they_lie(
    any_bus: ServiceUnderTest, letters: DeadLetters
) -> None:
    def look() -> list[tuple[str, dict[str, Any]]]:
        with use(tenant_id=SYSTEM):
            job = any_bus.wait_for(any_bus.send(look_for_dead_letters, tenant_id=SYSTEM))
        assert job.state == "succeeded", any_bus.attempts(job.id)
        return [(row.tenant_id, row.data) for row in any_bus.published("backroom.bus.dead_letters.found.v1")]

    assert look() == []
    send(any_bus, b"no json at all", b"nor this")
    died(any_bus, letters, 2)
    told = (SYSTEM, {"queue": QUEUE, "count": 2})
    assert look() == [told]
    assert look() == [told, told]
    letters.purge(QUEUE, expected=2)
    assert look() == [told, told]
