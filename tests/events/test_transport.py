"""One suite for both transports: what the relay relies on holds in RabbitMQ and embedded alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pika
import pytest

from shared.jobs.broker import EmbeddedBroker, EmbeddedHub, RabbitBroker
from shared.jobs.publisher import EXCHANGE, UNROUTED, EmbeddedTransport, PublishFailed, RabbitTransport, Transport
from shared.jobs.wire import DEAD_LETTERS, Publication
from shared.testing.proxy import TcpProxy
from shared.testing.servers import RabbitServer

TYPE = "backroom.probe.thing.happened.v1"


class Rig:
    """A transport of the service `probe`, and a way to see what its broker holds."""

    def __init__(self, transport: Transport, taken: Callable[[str], list[bytes]]) -> None:
        self.transport = transport
        self.taken = taken

    def to_queue(self, *bodies: str) -> list[Publication]:
        return [Publication("", self.transport.queue("work"), body.encode(), "text/plain") for body in bodies]

    def to_bus(self, *bodies: str, type: str = TYPE) -> list[Publication]:
        return [Publication(EXCHANGE, type, body.encode(), "text/plain", type=type) for body in bodies]


@pytest.fixture
def vhost(rabbitmq: RabbitServer) -> Iterator[str]:
    with rabbitmq.fresh_vhost("probe") as url:
        yield url


@pytest.fixture
def channel(vhost: str) -> Iterator[Any]:
    connection = pika.BlockingConnection(pika.URLParameters(vhost))
    yield connection.channel()
    if connection.is_open:
        connection.close()


def take(channel: Any, queue: str) -> list[bytes]:
    """Take all that is in a queue now."""
    bodies = []
    while (got := channel.basic_get(queue, auto_ack=True))[0] is not None:
        bodies.append(got[2])
    return bodies


@pytest.fixture(params=["embedded", "rabbitmq"])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    transport: Transport
    if request.param == "embedded":
        hub = EmbeddedHub()
        transport = EmbeddedTransport("probe", hub)

        def taken(name: str) -> list[bytes]:
            queue = hub.queue(name)
            return [queue.get_nowait()[0] for _ in range(queue.qsize())]

        yield Rig(transport, taken)
    else:
        transport = RabbitTransport(RabbitBroker("probe", request.getfixturevalue("vhost")))
        channel = request.getfixturevalue("channel")
        yield Rig(transport, lambda name: take(channel, name))
    transport.close()


def test_what_is_published_is_there_when_it_returns_and_in_order(rig: Rig) -> None:
    rig.transport.prepare(["work", "events"], [TYPE])
    bodies = [str(number) for number in range(1000)]
    rig.transport.publish(rig.to_queue(*bodies))
    assert [body.decode() for body in rig.taken("probe.work")] == bodies


def test_batches_may_be_on_their_way_together(rig: Rig) -> None:
    rig.transport.prepare(["work", "events"], [])
    pending = [rig.transport.send(rig.to_queue(*[f"{batch}.{n}" for n in range(100)])) for batch in range(8)]
    for batch in pending:
        batch.wait()
        assert batch.settled()
    assert len(rig.taken("probe.work")) == 800


def test_nothing_is_nothing(rig: Rig) -> None:
    rig.transport.prepare(["work", "events"], [])
    rig.transport.publish([])
    assert rig.taken("probe.work") == []


def test_an_event_goes_to_the_queue_of_each_service_that_is_bound(rig: Rig) -> None:
    rig.transport.prepare(["work", "events"], [TYPE])
    rig.transport.publish([*rig.to_bus("mine"), *rig.to_bus("no one's", type="backroom.probe.thing.ignored.v1")])
    assert rig.taken("probe.events") == [b"mine"]


def test_what_nobody_reads_is_published_all_the_same(rig: Rig) -> None:
    rig.transport.prepare(["work", "events"], [])
    rig.transport.publish(rig.to_bus("a"))
    assert rig.taken("probe.events") == []


def test_a_queue_that_is_not_there_fails_the_batch(rig: Rig) -> None:
    rig.transport.prepare(["work", "events"], [])
    lost = Publication("", "probe.nowhere", b"a", "text/plain")
    with pytest.raises(PublishFailed, match=r"unroutable.*probe\.nowhere"):
        rig.transport.publish([*rig.to_queue("a"), lost])
    rig.taken("probe.work")
    rig.transport.publish(rig.to_queue("b"))
    assert rig.taken("probe.work") == [b"b"]


def test_preparing_twice_changes_nothing(rig: Rig) -> None:
    rig.transport.prepare(["work", "events"], [TYPE])
    rig.transport.publish(rig.to_queue("a"))
    rig.transport.prepare(["work", "events"], [TYPE])
    rig.transport.publish(rig.to_bus("b"))
    assert (rig.taken("probe.work"), rig.taken("probe.events")) == ([b"a"], [b"b"])


def test_it_works_on_after_it_was_closed(rig: Rig) -> None:
    rig.transport.prepare(["work", "events"], [])
    rig.transport.publish(rig.to_queue("a"))
    rig.transport.close()
    rig.transport.publish(rig.to_queue("b"))
    assert rig.taken("probe.work") == [b"a", b"b"]


# -- RabbitMQ alone ----------------------------------------------------------------------------------------


def test_a_connection_cut_in_the_middle_of_a_batch_fails_it_and_the_next_is_published(vhost: str, channel: Any) -> None:
    with TcpProxy(vhost) as proxy:
        rig = Rig(RabbitTransport(RabbitBroker("probe", proxy.url)), lambda name: take(channel, name))
        rig.transport.prepare(["work", "events"], [])
        rig.transport.publish(rig.to_queue("before"))
        proxy.pause()
        batches = [rig.transport.send(rig.to_queue(*[f"{batch}.{n}" for n in range(500)])) for batch in range(3)]
        assert not batches[0].settled()
        assert proxy.drop_all() >= 1
        for batch in batches:
            with pytest.raises(PublishFailed, match=r"closed|lost|reset"):
                batch.wait()
        proxy.resume()
        rig.transport.publish(rig.to_queue("after"))
        taken = rig.taken("probe.work")
        assert (taken[0], taken[-1]) == (b"before", b"after")
        rig.transport.close()


def test_a_broker_that_cannot_be_reached_fails_the_batch(vhost: str) -> None:
    with TcpProxy(vhost) as proxy:
        url = proxy.url
    rig = Rig(RabbitTransport(RabbitBroker("probe", url)), lambda _: [])
    with pytest.raises(PublishFailed, match="topology"):
        rig.transport.prepare(["work"], [])
    with pytest.raises(PublishFailed, match="cannot connect"):
        rig.transport.publish(rig.to_queue("a"))


def test_events_for_which_no_queue_is_bound_can_be_found(vhost: str, channel: Any) -> None:
    transport = RabbitTransport(RabbitBroker("probe", vhost))
    transport.prepare(["work", "events"], [TYPE])
    lost = "backroom.probe.thing.ignored.v1"
    transport.publish([Publication(EXCHANGE, name, name.encode(), "text/plain") for name in (lost, TYPE)])
    assert take(channel, UNROUTED) == [lost.encode()]
    assert take(channel, "probe.events") == [TYPE.encode()]
    transport.close()


def test_a_queue_of_other_settings_is_told_apart(vhost: str, channel: Any) -> None:
    """A queue's settings cannot be changed: whoever has to mend it must know which it is, and how."""
    channel.queue_declare("probe.work", durable=True)
    transport = RabbitTransport(RabbitBroker("probe", vhost))
    with pytest.raises(PublishFailed, match=r"inequivalent arg.*'probe\.work'.*delete it, and it is declared anew"):
        transport.prepare(["work", "events"], [])


def test_what_waits_survives_and_dies_beside_its_queue(vhost: str, channel: Any) -> None:
    transport = RabbitTransport(RabbitBroker("probe", vhost))
    transport.prepare(["work", "events"], [])
    transport.publish([Publication("", "probe.work", b"a", "text/plain")])
    method, properties, _ = channel.basic_get("probe.work")
    assert properties.delivery_mode == 2
    channel.basic_nack(method.delivery_tag, requeue=False)
    channel.connection.process_data_events(0.1)
    dead = f"probe.work.{DEAD_LETTERS}"
    for _ in range(100):
        if bodies := take(channel, dead):
            break
        channel.connection.sleep(0.05)
    assert bodies == [b"a"]
    transport.close()


def test_the_embedded_broker_redelivers_what_was_not_finished() -> None:
    hub = EmbeddedHub()
    broker = EmbeddedBroker("probe", hub)
    broker.declare_queue("work")
    body = b'{"actor": "work", "jobs": [["0199a1b2-7c3d-7e4f-8a5b-6c7d8e9f0a1b", 1]]}'
    EmbeddedTransport("probe", hub).publish([Publication("", "probe.work", body, "text/plain")])
    first = broker.consume("work")
    message = next(first)
    assert message is not None
    assert not message.args[0].redelivered
    first.close()
    again = next(broker.consume("work"))
    assert again is not None
    assert again.args[0].redelivered
