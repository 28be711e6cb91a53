"""Dead letters: messages that nobody could handle. They wait, without a time limit, for a person.

What dies is a body that makes no sense, an event for which there is no handler any more, and a message
whose handling failed before there was a job to carry the failure. Each says why. Look at them, mend
the cause, and redrive them: they go back to the queue in which they died. A message that is killed midway
is in both queues for a while, which the claim of a job and the inbox of an event absorb; it is in none
never. Purging needs the number that one has seen.

    letters = dead_letters(app.broker)
    letters.counts()                         # {"shipping.events": 2}
    letters.peek("shipping.events")
    letters.redrive("shipping.events")
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Protocol

import pika
import pika.exceptions

from shared.jobs.broker import EmbeddedBroker, EmbeddedHub, JobBroker, RabbitBroker
from shared.jobs.wire import DEAD_LETTERS, EVENTS_QUEUE, DeadLetter

__all__ = ["BrokerAway", "DeadLetter", "DeadLetters", "NotAsMany", "dead_letters"]

_LOOKS = 10
"""A message that was looked at this often is written anew: from a quorum queue RabbitMQ 4 drops what was
returned to it more than 20 times."""

_OF_DEATH = ("x-reason", "x-died-at", "x-death", "x-first-death-", "x-last-death-", "x-delivery-count")


class NotAsMany(Exception):
    """There are not as many dead letters as the caller has seen; look again before purging."""


class BrokerAway(Exception):
    """The broker cannot be reached, or refused."""


class DeadLetters(Protocol):
    """The dead letters of one service. Queues are named as the broker names them: `shipping.events`."""

    def counts(self) -> dict[str, int]:
        """Return how many there are, by queue, zeros included; the figure `dead_letters` of the metrics."""

    def peek(self, queue: str, limit: int = 20) -> list[DeadLetter]:
        """Return the oldest of a queue; they stay where they are."""

    def redrive(self, queue: str, limit: int | None = None) -> int:
        """Move the oldest back to the queue in which they died; return how many.

        What dies again meanwhile is not moved a second time.
        """

    def purge(self, queue: str, *, expected: int) -> None:
        """Delete all of a queue for ever. Raises NotAsMany, and deletes none, unless there are `expected`."""


def dead_letters(broker: JobBroker) -> DeadLetters:
    """Return the dead letters of the service to which this broker belongs.

    All that is done with them may raise BrokerAway, and LookupError for a queue that the service has not.
    """
    queues = [f"{broker.service}.{name}" for name in sorted({*broker.get_declared_queues(), EVENTS_QUEUE})]
    if isinstance(broker, EmbeddedBroker):
        return _Embedded(broker.hub, queues)
    assert isinstance(broker, RabbitBroker)
    return _Rabbit(broker.parameters, queues)


def _known(queue: str, queues: Sequence[str]) -> str:
    if queue not in queues:
        raise LookupError(f"there is no queue {queue!r}; there are: {', '.join(queues)}")
    return queue


class _Embedded:
    """Dead letters of the in-process hub; they are gone with the process, as its queues are."""

    def __init__(self, hub: EmbeddedHub, queues: Sequence[str]) -> None:
        self._hub = hub
        self._queues = queues

    def counts(self) -> dict[str, int]:
        return {queue: len(self._hub.dead[queue]) for queue in self._queues}

    def peek(self, queue: str, limit: int = 20) -> list[DeadLetter]:
        return list(self._hub.dead[_known(queue, self._queues)])[:limit]

    def redrive(self, queue: str, limit: int | None = None) -> int:
        dead = self._hub.dead[_known(queue, self._queues)]
        total = len(dead) if limit is None else min(limit, len(dead))
        for _ in range(total):
            self._hub.queue(queue).put((dead[0].body, True))
            dead.popleft()
        return total

    def purge(self, queue: str, *, expected: int) -> None:
        dead = self._hub.dead[_known(queue, self._queues)]
        if len(dead) != expected:
            raise NotAsMany(f"{queue} has {len(dead)} dead letters, not {expected}")
        dead.clear()


class _Rabbit:
    """Dead letters in RabbitMQ, in one quorum queue beside each queue."""

    def __init__(self, parameters: pika.connection.Parameters, queues: Sequence[str]) -> None:
        self._parameters = parameters
        self._queues = queues

    def counts(self) -> dict[str, int]:
        with self._connection() as connection:
            return {queue: self._count(connection, queue) for queue in self._queues}

    def _count(self, connection: Any, queue: str) -> int:
        channel = connection.channel()
        try:
            return int(channel.queue_declare(f"{queue}.{DEAD_LETTERS}", passive=True).method.message_count)
        except pika.exceptions.ChannelClosedByBroker as error:
            # Nothing has declared it yet, so nothing has died.
            if error.reply_code == 404:
                return 0
            raise
        finally:
            if channel.is_open:
                channel.close()

    def peek(self, queue: str, limit: int = 20) -> list[DeadLetter]:
        found: list[DeadLetter] = []
        with self._channel(queue) as channel:
            # Unacknowledged, they come no second time on this channel, and go back when it closes.
            for tag, properties, body in self._messages(channel, queue, limit):
                found.append(_letter(queue, properties, body))
                if (properties.headers or {}).get("x-delivery-count", 0) >= _LOOKS:
                    headers = {k: v for k, v in properties.headers.items() if k != "x-delivery-count"}
                    self._move(channel, tag, f"{queue}.{DEAD_LETTERS}", properties, headers, body)
        return found

    def redrive(self, queue: str, limit: int | None = None) -> int:
        moved = 0
        with self._channel(queue) as channel:
            for tag, properties, body in self._messages(channel, queue, limit):
                # Without why it died: should it die again, it says so anew.
                headers = {k: v for k, v in (properties.headers or {}).items() if not k.startswith(_OF_DEATH)}
                self._move(channel, tag, queue, properties, headers, body)
                moved += 1
        return moved

    def purge(self, queue: str, *, expected: int) -> None:
        with self._channel(queue) as channel:
            there = int(channel.queue_declare(f"{queue}.{DEAD_LETTERS}", passive=True).method.message_count)
            if there != expected:
                raise NotAsMany(f"{queue} has {there} dead letters, not {expected}")
            # One by one, not by purging the queue: what comes meanwhile was not seen by anybody.
            for tag, _, _ in self._messages(channel, queue, expected):
                channel.basic_ack(tag)

    @staticmethod
    def _messages(channel: Any, queue: str, limit: int | None) -> Iterator[tuple[int, Any, bytes]]:
        """Yield the oldest, at most as many as there are now; what is not acknowledged goes back in the end."""
        name = f"{queue}.{DEAD_LETTERS}"
        there = int(channel.queue_declare(name, passive=True).method.message_count)
        for _ in range(there if limit is None else min(limit, there)):
            method, properties, body = channel.basic_get(name)
            if method is None:
                return
            yield method.delivery_tag, properties, body

    @staticmethod
    def _move(channel: Any, tag: int, to: str, properties: Any, headers: dict[str, Any], body: bytes) -> None:
        """Publish it there, wait for the confirm, and only then acknowledge it here."""
        channel.basic_publish(
            "",
            to,
            body,
            pika.BasicProperties(
                delivery_mode=2,
                content_type=properties.content_type,
                message_id=properties.message_id,
                type=properties.type,
                headers=headers,
            ),
            mandatory=True,
        )
        channel.basic_ack(tag)

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        try:
            connection = pika.BlockingConnection(self._parameters)
            try:
                yield connection
            finally:
                if connection.is_open:
                    connection.close()
        except (pika.exceptions.AMQPError, OSError) as error:
            raise BrokerAway(f"the dead letters cannot be reached: {error!r}") from error

    @contextmanager
    def _channel(self, queue: str) -> Iterator[Any]:
        _known(queue, self._queues)
        with self._connection() as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            yield channel


def _letter(queue: str, properties: Any, body: bytes) -> DeadLetter:
    headers = dict(properties.headers or {})
    said = headers.get("x-died-at")
    deaths = headers.get("x-death") or [{}]
    died_at = datetime.fromisoformat(said) if said else deaths[0].get("time")
    return DeadLetter(
        queue=queue,
        body=body,
        # Where the consumer could not say why, RabbitMQ says how.
        reason=headers.get("x-reason") or str(deaths[0].get("reason", "unknown")),
        # The one that RabbitMQ notes has no time zone; it is UTC.
        died_at=died_at.replace(tzinfo=UTC) if died_at is not None and died_at.tzinfo is None else died_at,
        headers=headers,
    )
