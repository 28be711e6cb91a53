"""The Dramatiq brokers of Backroom: `send` writes a row, and only the relay publishes.

`RabbitBroker` and `EmbeddedBroker` differ in the transport alone. Since `enqueue` writes the job in the
open unit of work, everything that sends through Dramatiq (`send`, delays, periodiq, other middleware)
is transactional and durable without knowing it. The same brokers consume: their consumers turn bodies
into messages by `shared.jobs.wire`, and close off what stock Dramatiq does wrong after a reconnect.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from datetime import datetime
from functools import partial
from queue import Empty, Queue
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar

import dramatiq
import pika
import pika.exceptions
from dramatiq.broker import Broker, Consumer, MessageProxy
from dramatiq.brokers.rabbitmq import RabbitmqBroker, _RabbitmqConsumer, _RabbitmqMessage
from dramatiq.errors import ConnectionClosed, DecodeError
from dramatiq.middleware import Middleware, TimeLimit

from shared.jobs import wire
from shared.jobs.actor import Actor, Dispatch
from shared.jobs.enqueue import NewJob, enqueue, from_delay
from shared.jobs.wire import DEAD_LETTERS, DeadLetter

if TYPE_CHECKING:
    from shared.jobs.runner import Runner

__all__ = ["EmbeddedBroker", "EmbeddedHub", "JobBroker", "RabbitBroker"]


class JobBroker(Broker):
    """What both brokers share: whose jobs they are, and how sending becomes a row."""

    service: str
    runner: Runner

    def _default_middleware(self) -> list[Middleware]:
        # No Retries: the row decides about retries. No AgeLimit, no Callbacks, no Pipelines: they re-send
        # messages, and a job's message carries no arguments to re-send. The rest is opt-in.
        return [TimeLimit(interval=250)]

    def get_actor(self, actor_name: str) -> Any:
        """Look up an actor; for one that this worker does not know, the one that hands its jobs back.

        While two versions run side by side a message may reach the wrong one. Dramatiq would dead-letter it.
        """
        found = self.actors.get(actor_name)
        return found if found is not None else _HandBack(self, actor_name)

    def enqueue(self, message: dramatiq.Message[Any], *, delay: int | None = None) -> dramatiq.Message[Any]:
        """Write the job of this message; return the message with the job's id.

        `options["existing"]` is True where a live job with the same unique key stands in for it; `options["job"]` is
        what is shown of the job.
        """
        declared = self.actors[message.actor_name]
        if not isinstance(declared, Actor):
            raise TypeError(f"{message.actor_name} is not declared with shared.jobs.actor")
        options = message.options
        shown, new = enqueue(
            NewJob(
                actor=declared,
                arguments=message.kwargs,
                run_at=options.get("run_at") or from_delay(delay),
                tenant_id=options.get("tenant_id"),
                once_key=options.get("once_key"),
                parent_id=options.get("parent_id"),
                subject=options.get("subject"),
                priority=options.get("priority"),
            )
        )
        return message.copy(message_id=str(shown.id), options={"existing": not new, "job": shown})


class _HandBack:
    """Stands in for an actor that this worker does not know."""

    priority = 0
    options: ClassVar[dict[str, Any]] = {}

    def __init__(self, broker: JobBroker, actor_name: str) -> None:
        self._broker = broker
        self.actor_name = actor_name

    def __call__(self, dispatch: Dispatch) -> None:
        self._broker.logger.warning("Handed back jobs of %s: unknown to this worker.", self.actor_name)
        self._broker.runner.hand_back(dispatch)


class RabbitBroker(JobBroker, RabbitmqBroker):
    """Consumes from RabbitMQ over quorum queues named `<service>.<queue>`."""

    def __init__(self, service: str, url: str) -> None:
        parameters = pika.URLParameters(url)
        if parameters.heartbeat is None:
            parameters.heartbeat = 15
        parameters.blocked_connection_timeout = 60
        parameters.client_properties = {"connection_name": f"backroom {service}"}
        super().__init__(confirm_delivery=True, url=url, middleware=self._default_middleware())
        self.parameters = parameters
        self.service = service

    @property
    def consumer_class(self) -> type[_RabbitmqConsumer]:
        return RabbitConsumer

    def rabbit_name(self, queue_name: str) -> str:
        """Return the name in RabbitMQ of this service's queue."""
        return f"{self.service}.{queue_name}"

    def declare_queue(self, queue_name: str, *, ensure: bool = False) -> None:
        """Declare a queue; without Dramatiq's delay queue, since `run_at` in the row is the delay."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.queues_pending.add(queue_name)
            self.emit_after("declare_queue", queue_name)
        if ensure:
            self._ensure_queue(queue_name)

    def _build_queue_arguments(self, queue_name: str) -> dict[str, Any]:
        return {
            "x-queue-type": "quorum",
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": f"{self.rabbit_name(queue_name)}.{DEAD_LETTERS}",
        }

    def _declare_queue(self, queue_name: str) -> Any:
        return self.channel.queue_declare(
            queue=self.rabbit_name(queue_name),
            durable=True,
            arguments=self._build_queue_arguments(queue_name),
        )

    def _declare_dq_queue(self, queue_name: str) -> None:
        """There is none."""

    def _declare_xq_queue(self, queue_name: str) -> Any:
        return self.channel.queue_declare(
            queue=f"{self.rabbit_name(queue_name)}.{DEAD_LETTERS}",
            durable=True,
            arguments={"x-queue-type": "quorum"},
        )


class RabbitConsumer(_RabbitmqConsumer):
    """A consumer that acknowledges only what it delivered itself.

    Delivery tags restart with each channel, and Dramatiq's worker acknowledges through whichever consumer
    is current: after a reconnect it would acknowledge another message than the one that it finished, which
    is then lost. Messages are stamped with their consumer; what another one delivered is let go, and
    RabbitMQ has redelivered it already.
    """

    def __init__(self, broker: RabbitBroker, queue_name: str, prefetch: int, timeout: int) -> None:
        super().__init__(broker, broker.rabbit_name(queue_name), prefetch, timeout)
        self.canonical_name = queue_name
        self._to_ack: deque[int] = deque()
        self._undertaker: Any = None

    def __next__(self) -> MessageProxy | None:
        try:
            method, properties, body = next(self.iterator)
        except (
            AssertionError,
            pika.exceptions.AMQPConnectionError,
            pika.exceptions.AMQPChannelError,
        ) as error:
            if getattr(error, "reply_code", None) == 404:
                self.broker.queues_pending.add(self.canonical_name)
            raise ConnectionClosed(error) from None
        if method is None:
            return None
        try:
            message = wire.decode(self.canonical_name, body, redelivered=method.redelivered)
        except DecodeError as error:
            self.logger.exception("Dead-lettered a message of %s.", self.canonical_name)
            self._bury(method.delivery_tag, body, properties, error)
            return None
        self.known_tags.add(method.delivery_tag)
        return _Stamped(method.redelivered, method.delivery_tag, message, self, body, properties)

    def ack(self, message: Any) -> None:
        if message.delivered_by is not self:
            self.logger.info("Let go of message %s: another connection delivered it.", message.message_id)
            return
        try:
            self.known_tags.remove(message._tag)
            if message.args and getattr(message.args[0], "requeue", False):
                self.connection.add_callback_threadsafe(partial(self.channel.basic_nack, message._tag, requeue=True))
                return
            died = _died(message)
            if died is not None:
                self._bury_soon(message, died)
                return
            # One wake-up of the connection's thread acknowledges all that has come meanwhile.
            self._to_ack.append(message._tag)
            if len(self._to_ack) == 1:
                self.connection.add_callback_threadsafe(self._send_acks)
        except KeyError:
            self.logger.warning("Failed to ack message: not in known tags.")
        except (pika.exceptions.AMQPConnectionError, pika.exceptions.AMQPChannelError) as error:
            # The message comes again, and finds nothing to claim.
            self.logger.info("Not acknowledged, the connection is gone: %r", error)

    def _send_acks(self) -> None:
        while self._to_ack:
            # Through pika's inner channel, since the blocking one waits after each until it is written.
            channel = self.channel if len(self._to_ack) == 1 else self.channel._impl
            channel.basic_ack(self._to_ack[0])
            self._to_ack.popleft()

    def nack(self, message: Any) -> None:
        if message.delivered_by is not self:
            return
        try:
            self.known_tags.remove(message._tag)
            self._bury_soon(message, message._exception or "rejected")
        except KeyError:
            self.logger.warning("Failed to nack message: not in known tags.")
        except (pika.exceptions.AMQPConnectionError, pika.exceptions.AMQPChannelError) as error:
            self.logger.info("Not rejected, the connection is gone: %r", error)

    def _bury_soon(self, message: Any, reason: BaseException | str) -> None:
        bury = partial(self._bury, message._tag, message.body, message.properties, reason)
        self.connection.add_callback_threadsafe(bury)

    def _bury(self, tag: int, body: bytes, properties: Any, reason: BaseException | str) -> None:
        """Put a message among the dead letters, in the thread of the connection.

        RabbitMQ could do so by itself, but would not say why. Where this fails, it does.
        """
        headers = {name: value for name, value in (properties.headers or {}).items() if name not in ("CC", "BCC")}
        try:
            if self._undertaker is None or not self._undertaker.is_open:
                self._undertaker = self.connection.channel()
                self._undertaker.confirm_delivery()
            self._undertaker.basic_publish(
                "",
                f"{self.queue_name}.{DEAD_LETTERS}",
                body,
                # Not all of its properties: an expiration would end it here too.
                pika.BasicProperties(
                    delivery_mode=2,
                    content_type=properties.content_type,
                    message_id=properties.message_id,
                    type=properties.type,
                    headers={**headers, **wire.obituary(reason)},
                ),
                mandatory=True,
            )
        except pika.exceptions.AMQPError as error:
            self.logger.warning("Could not say why a message of %s died: %r", self.queue_name, error)
            if self.channel.is_open:
                self.channel.basic_nack(tag, requeue=False)
        else:
            self.channel.basic_ack(tag)


def _died(message: Any) -> BaseException | None:
    """Return why an event could not be received.

    A message whose actor raised is not rejected by Dramatiq but acknowledged, unless its middleware Retries is there.
    """
    return message.args[0].died if message.args and isinstance(message.args[0], wire.Delivery) else None


class _Stamped(_RabbitmqMessage):
    """A message that knows which consumer delivered it, and as what it came."""

    def __init__(
        self,
        redelivered: bool,
        tag: int,
        message: dramatiq.Message[Any],
        consumer: RabbitConsumer,
        body: bytes,
        properties: Any,
    ) -> None:
        super().__init__(redelivered, tag, message)
        self.delivered_by = consumer
        self.body = body
        self.properties = properties


class EmbeddedHub:
    """The in-process stand-in for RabbitMQ: queues and the bindings of events, shared by all services."""

    def __init__(self) -> None:
        self._queues: defaultdict[str, Queue[tuple[bytes, bool]]] = defaultdict(Queue)
        self._bindings: defaultdict[str, set[str]] = defaultdict(set)
        self.dead: defaultdict[str, deque[DeadLetter]] = defaultdict(deque)
        self._lock = Lock()

    def queue(self, name: str) -> Queue[tuple[bytes, bool]]:
        with self._lock:
            return self._queues[name]

    def has_queue(self, name: str) -> bool:
        """Whether somebody declared this queue."""
        with self._lock:
            return name in self._queues

    def bind(self, event_type: str, queue_name: str) -> None:
        with self._lock:
            self._bindings[event_type].add(queue_name)

    def bury(self, name: str, body: bytes, reason: BaseException | str) -> None:
        """Put a message of that queue among the dead letters."""
        why = wire.obituary(reason)
        died_at = datetime.fromisoformat(why["x-died-at"])
        self.dead[name].append(DeadLetter(name, body, why["x-reason"], died_at))

    def publish(self, publications: list[wire.Publication]) -> None:
        """Put each message into the queues that it is for; an event that nobody reads is dropped."""
        for publication in publications:
            if publication.exchange == "":
                names = {publication.routing_key}
            else:
                names = self._bindings.get(publication.routing_key, set())
            for name in names:
                self.queue(name).put((publication.body, False))


class EmbeddedBroker(JobBroker):
    """Consumes from an `EmbeddedHub` in this process; what the process loses, the rows still have."""

    def __init__(self, service: str, hub: EmbeddedHub) -> None:
        super().__init__(middleware=self._default_middleware())
        self.service = service
        self.hub = hub

    def declare_queue(self, queue_name: str) -> None:
        if queue_name in self.queues:
            return
        self.emit_before("declare_queue", queue_name)
        self.queues[queue_name] = self.hub.queue(f"{self.service}.{queue_name}")
        self.emit_after("declare_queue", queue_name)

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 100) -> Consumer:
        return EmbeddedConsumer(self, queue_name, prefetch, timeout)


class EmbeddedConsumer(Consumer):
    def __init__(self, broker: EmbeddedBroker, queue_name: str, prefetch: int, timeout: int) -> None:
        self.broker = broker
        self.queue_name = queue_name
        self.queue: Queue[tuple[bytes, bool]] = broker.queues[queue_name]
        self.prefetch = prefetch
        self.timeout = min(timeout, 200) / 1000
        self._unacked: dict[int, bytes] = {}
        self._lock = Lock()

    def __next__(self) -> MessageProxy | None:
        if len(self._unacked) >= self.prefetch:
            time.sleep(0.002)
            return None
        try:
            body, redelivered = self.queue.get(timeout=self.timeout)
        except Empty:
            return None
        try:
            message = wire.decode(self.queue_name, body, redelivered=redelivered)
        except DecodeError as error:
            self.broker.logger.exception("Dead-lettered a message of %s.", self.queue_name)
            self._bury(body, error)
            return None
        proxy = MessageProxy(message)
        with self._lock:
            self._unacked[id(proxy)] = body
        return proxy

    def ack(self, message: MessageProxy) -> None:
        body = self._settle(message)
        if body is None:
            return
        died = _died(message)
        if message.args and getattr(message.args[0], "requeue", False):
            self.queue.put((body, True))
        elif died is not None:
            self._bury(body, died)

    def nack(self, message: MessageProxy) -> None:
        body = self._settle(message)
        if body is not None:
            self._bury(body, message._exception or "rejected")

    def _bury(self, body: bytes, reason: BaseException | str) -> None:
        self.broker.hub.bury(f"{self.broker.service}.{self.queue_name}", body, reason)

    def _settle(self, message: MessageProxy) -> bytes | None:
        with self._lock:
            return self._unacked.pop(id(message), None)

    def close(self) -> None:
        with self._lock:
            for body in self._unacked.values():
                self.queue.put((body, True))
            self._unacked.clear()
