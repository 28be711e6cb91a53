"""What tests of events share: the service `bus`, over each transport."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pika
import pytest

from shared.jobs.wire import EVENTS_QUEUE
from shared.testing.service import ServiceUnderTest
from tests.events.bus.service import service


@pytest.fixture
def bus(service_app: Callable[..., ServiceUnderTest]) -> ServiceUnderTest:
    """The service with the embedded broker; nothing of it is started."""
    return service_app(service)


@pytest.fixture
def rabbit_bus(service_app: Callable[..., ServiceUnderTest]) -> ServiceUnderTest:
    """The service over RabbitMQ; nothing of it is started."""
    return service_app(service, "rabbitmq")


@pytest.fixture(params=["embedded", "rabbitmq"])
def any_bus(request: pytest.FixtureRequest, service_app: Callable[..., ServiceUnderTest]) -> ServiceUnderTest:
    """The service over each transport in turn; nothing of it is started."""
    return service_app(service, request.param)


@pytest.fixture
def channel(rabbit_bus: ServiceUnderTest) -> Iterator[Any]:
    """A raw channel in confirm mode to the RabbitMQ of `rabbit_bus`, as any other program would open it."""
    connection = pika.BlockingConnection(pika.URLParameters(str(rabbit_bus.broker_url)))
    channel = connection.channel()
    channel.confirm_delivery()
    yield channel
    if connection.is_open:
        connection.close()


def bind(bus: ServiceUnderTest) -> None:
    """Declare the service's queues and bindings, as its relay does when it begins to lead."""
    app = bus.app
    app.transport.prepare([*(queue.name for queue in app.queues), EVENTS_QUEUE], list(app.handlers))


def seen(bus: ServiceUnderTest, handler: str = "note") -> list[str]:
    """Return what this handler wrote down, in order."""
    return [
        what for (what,) in bus.query("SELECT what FROM seen WHERE handler = :handler ORDER BY id", handler=handler)
    ]
