"""What stock Dramatiq does wrong for durable jobs, shown on the stock code, and what ours does instead."""

from __future__ import annotations

import inspect
import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import dramatiq
import pika
import pika.exceptions
import psycopg
import pytest
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.brokers.stub import StubBroker
from dramatiq.cli import make_argument_parser
from dramatiq.middleware import Middleware, Retries, Shutdown, TimeLimit

from shared.jobs import GiveUp, Retry
from shared.jobs.actor import Dispatch
from shared.jobs.broker import RabbitBroker
from shared.jobs.publisher import PublishFailed, RabbitTransport
from shared.jobs.verdict import Verdict, judge
from shared.jobs.wire import JOBS_CONTENT_TYPE, Publication, decode, encode_dispatch
from shared.runtime.cli import serve
from shared.runtime.settings import Settings
from shared.testing.proxy import TcpProxy
from shared.testing.servers import RabbitServer
from shared.testing.service import ServiceUnderTest, wait_until
from tests.jobs.conftest import effects, raising
from tests.sample import jobs

Script = Callable[..., str]


@pytest.fixture(scope="module")
def vhost(rabbitmq: RabbitServer) -> Iterator[str]:
    """The URL of a virtual host for these tests; each has queues of its own in it."""
    with rabbitmq.fresh_vhost("traps") as url:
        yield url


@pytest.fixture
def stub() -> StubBroker:
    """A stock broker in memory, with its default middleware."""
    broker = StubBroker()
    broker.emit_after("process_boot")
    return broker


@pytest.fixture
def stub_worker(stub: StubBroker) -> Iterator[dramatiq.Worker]:
    worker = dramatiq.Worker(stub, worker_timeout=50, worker_threads=2)
    worker.start()
    yield worker
    worker.stop(timeout=5000)


def close(broker: RabbitmqBroker) -> None:
    broker.close()


def depth(url: str, queue: str) -> int:
    """Return how many messages are ready in a queue; raises ChannelClosedByBroker when there is none."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        return int(connection.channel().queue_declare(queue, passive=True).method.message_count)
    finally:
        if connection.is_open:
            connection.close()


def news(ours: RabbitTransport) -> Publication:
    body = encode_dispatch("write", [(uuid.uuid4(), 1)])
    return Publication("", ours.queue("work"), body, JOBS_CONTENT_TYPE)


def transport(url: str) -> tuple[RabbitBroker, RabbitTransport]:
    """Return a broker of a service that no other test has, and its way to publish."""
    broker = RabbitBroker(f"sample-{uuid.uuid4().hex[:8]}", url)
    ours = RabbitTransport(broker)
    ours.prepare(["work", "events"], [])
    return broker, ours


# -- the wrong acknowledgement after a reconnect --------------------------------------------------------


def acknowledge_after_a_cut(broker: Any, queue: str, proxy: TcpProxy) -> None:
    """Finish a message that an earlier connection delivered, by way of the current one, as Dramatiq's worker does."""
    first = broker.consume(queue, prefetch=2, timeout=5000)
    done, unfinished = next(first), next(first)
    first.ack(done)
    # The third comes only when RabbitMQ has taken the acknowledgement of the first.
    assert next(first) is not None
    proxy.drop_all()
    second = None
    while second is None:
        try:
            second = broker.consume(queue, prefetch=2, timeout=5000)
        except dramatiq.ConnectionClosed:
            continue
    assert next(second) is not None
    assert next(second) is not None
    second.ack(unfinished)
    second.close()


def test_trap_wrong_acknowledgement(vhost: str) -> None:
    """Stock: after a reconnect, finishing one message acknowledges another, which is lost. Ours lets go of it."""
    with TcpProxy(vhost) as proxy:
        stock = RabbitmqBroker(url=proxy.url, confirm_delivery=True, middleware=[])

        @dramatiq.actor(broker=stock, queue_name="stock")
        def work(number: int) -> None: ...

        for number in range(3):
            work.send(number)
        acknowledge_after_a_cut(stock, "stock", proxy)
        wait_until(lambda: depth(vhost, "stock") == 1, what="one of two unfinished messages to be lost")
        close(stock)

    with TcpProxy(vhost) as proxy:
        ours, publisher = transport(vhost)
        publisher.publish([news(publisher) for _ in range(3)])
        publisher.close()
        broker = RabbitBroker(ours.service, proxy.url)
        acknowledge_after_a_cut(broker, "work", proxy)
        wait_until(
            lambda: depth(vhost, publisher.queue("work")) == 2, what="both unfinished messages to be there again"
        )
        close(broker)
        close(ours)


# -- middleware -----------------------------------------------------------------------------------------


class ClaimsInMiddleware(Middleware):
    """Where one would put the claim at first sight."""

    def before_process_message(self, broker: dramatiq.Broker, message: dramatiq.MessageProxy) -> None:
        raise psycopg.OperationalError("the database is away")


def test_trap_middleware_exceptions_are_swallowed(
    stub: StubBroker,
    stub_worker: dramatiq.Worker,
    sample: ServiceUnderTest,
    script: Script,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stock: a claim in a middleware that fails lets the actor run unclaimed. Ours claims around the call."""
    ran: list[str] = []
    stub.add_middleware(ClaimsInMiddleware())

    @dramatiq.actor(broker=stub)
    def work() -> None:
        ran.append("unclaimed")

    work.send()
    stub.join("default", timeout=10_000)
    assert ran == ["unclaimed"]

    runner = sample.app.runner
    job_id = sample.send(jobs.scripted, key=script(lambda: ran.append("ours")))
    dispatch = Dispatch([(job_id, sample.hand_out(job_id) or 0)])

    def claim(*_: object) -> None:
        runner.stopping.set()
        raise psycopg.OperationalError("the database is away")

    with monkeypatch.context() as patch:
        patch.setattr(runner.claims, "claim", claim)
        runner.run(jobs.scripted, dispatch)
    runner.stopping.clear()
    assert ran == ["unclaimed"]
    assert dispatch.requeue


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_trap_foreign_queue_name_kills_threads(stub: StubBroker, fresh_sample: ServiceUnderTest) -> None:
    """Stock: a body whose queue is not consumed kills a worker's thread. Ours takes the queue from the consumer."""
    ran: list[int] = []

    @dramatiq.actor(broker=stub)
    def work(number: int) -> None:
        ran.append(number)

    worker = dramatiq.Worker(stub, worker_timeout=50, worker_threads=2)
    worker.start()
    for number in range(2):
        stub.queues["default"].put(work.message(number).copy(queue_name="elsewhere").encode())
    wait_until(lambda: not any(thread.is_alive() for thread in worker.workers), what="both threads to die")
    for consumer in worker.consumers.values():
        consumer.stop()

    fresh_sample.start()
    assert fresh_sample.worker is not None
    hub = fresh_sample.app.broker.hub  # type: ignore[attr-defined]
    for _ in range(4):
        body = json.loads(encode_dispatch("write", [(uuid.uuid4(), 1)])) | {"queue_name": "elsewhere", "queue": "x"}
        hub.queue("sample.work").put((json.dumps(body).encode(), False))
    job_id = fresh_sample.send(jobs.write, key="a")
    assert fresh_sample.wait_for(job_id).state == "succeeded"
    assert all(thread.is_alive() for thread in fresh_sample.worker.workers)


def test_trap_a_body_that_makes_no_sense(fresh_sample: ServiceUnderTest) -> None:
    """What can never be understood goes to the dead letters, and the queue goes on."""
    fresh_sample.start()
    hub = fresh_sample.app.broker.hub  # type: ignore[attr-defined]
    nonsense = [
        b"{",
        b"[]",
        b"{}",
        b'{"actor": "write", "jobs": [["x", 1]]}',
        b'{"actor": "write", "jobs": []}',
        b"\xff",
    ]
    for body in nonsense:
        hub.queue("sample.work").put((body, False))

    assert fresh_sample.wait_for(fresh_sample.send(jobs.write, key="a")).state == "succeeded"


# -- publishing -----------------------------------------------------------------------------------------


FULL = {"x-max-length": 1, "x-overflow": "reject-publish"}


def fill(ours: RabbitTransport) -> None:
    for _ in range(100):
        ours.publish([news(ours)])


def test_trap_publishing_without_confirms(vhost: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stock: by default nobody hears that RabbitMQ refused a message. Ours waits for the confirm of each."""
    assert inspect.signature(RabbitmqBroker).parameters["confirm_delivery"].default is False

    class Full(RabbitmqBroker):
        def _build_queue_arguments(self, queue_name: str) -> dict[str, Any]:
            return {**super()._build_queue_arguments(queue_name), **FULL}

    stock = Full(url=vhost, middleware=[])

    @dramatiq.actor(broker=stock, queue_name="full")
    def work(number: int) -> None: ...

    for number in range(5):
        work.send(number)
    wait_until(lambda: depth(vhost, "full") == 1, what="one message to be there")
    close(stock)

    broker = RabbitBroker("sample-full", vhost)
    original = broker._build_queue_arguments
    monkeypatch.setattr(broker, "_build_queue_arguments", lambda name: {**original(name), **FULL})
    ours = RabbitTransport(broker)
    ours.prepare(["work", "events"], [])
    # A quorum queue notices with a delay of a few messages that it is full.
    with pytest.raises(PublishFailed, match="refused"):
        fill(ours)
    ours.close()
    close(broker)


def test_trap_publishing_to_a_queue_that_is_gone(vhost: str) -> None:
    """A message that no queue takes is not published; the relay declares its queues anew and hands out anew."""
    broker, ours = transport(vhost)
    connection = pika.BlockingConnection(pika.URLParameters(vhost))
    connection.channel().queue_delete(ours.queue("work"))

    with pytest.raises(PublishFailed, match="unroutable"):
        ours.publish([news(ours)])

    ours.prepare(["work", "events"], [])
    ours.publish([news(ours)])
    wait_until(lambda: depth(vhost, ours.queue("work")) == 1, what="the message")
    connection.close()
    ours.close()
    close(broker)


# -- delays ---------------------------------------------------------------------------------------------


def test_trap_delayed_messages(vhost: str, rabbit_sample: ServiceUnderTest) -> None:
    """Stock: delays sit in the worker's memory, and far ones keep near ones out. Ours are rows, each with its time."""
    stock = RabbitmqBroker(url=vhost, confirm_delivery=True, middleware=[])
    ran: list[str] = []

    @dramatiq.actor(broker=stock, queue_name="delays")
    def work(name: str) -> None:
        ran.append(name)

    worker = dramatiq.Worker(stock, worker_threads=1, worker_timeout=50)
    worker.delay_prefetch = 1
    work.send_with_options(args=("far",), delay=3_600_000)
    worker.start()
    waiting = worker.consumers["delays.DQ"].delay_queue
    wait_until(lambda: waiting.qsize() == 1, what="the far message to be in the worker's memory")
    work.send_with_options(args=("near",), delay=1)
    work.send("now")
    wait_until(lambda: ran == ["now"], what="the message without delay")
    # It is long due, and stays in RabbitMQ until the far one is done in an hour.
    assert depth(vhost, "delays.DQ") == 1
    worker.stop(timeout=5000)
    close(stock)

    far = rabbit_sample.job(jobs.write.send_with_options(kwargs={"key": "far"}, delay=3_600_000).message_id)
    near = jobs.write.send_with_options(kwargs={"key": "near"}, delay=1).message_id
    rabbit_sample.start()
    assert rabbit_sample.wait_for(uuid.UUID(near)).state == "succeeded"
    assert rabbit_sample.job(far.id).state == "scheduled"
    assert rabbit_sample.broker_url is not None
    for queue in ("sample.work.DQ", "sample.work.XQ"):
        with pytest.raises(pika.exceptions.ChannelClosedByBroker):
            depth(rabbit_sample.broker_url, queue)


# -- shutdown and retries -------------------------------------------------------------------------------


def test_trap_shutdown(stub: StubBroker, stub_worker: dramatiq.Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stock: SIGTERM waits ten minutes, and the interruption counts as a retry. Ours has its time, and counts none."""
    assert make_argument_parser().parse_args(["broker"]).worker_shutdown_timeout == 600_000
    retries: list[int] = []

    @dramatiq.actor(broker=stub, max_retries=1, min_backoff=1, max_backoff=1)
    def work() -> None:
        raise Shutdown

    monkeypatch.setattr(stub, "enqueue", spy(stub.enqueue, lambda message: message.options.get("retries"), retries))
    work.send()
    wait_until(lambda: 1 in retries, what="the shutdown to be counted as a retry")

    assert judge(Shutdown(), failures=0, retry=(10,)).burns is False
    called: list[list[str]] = []
    monkeypatch.setattr(serve.os, "execve", lambda _, arguments, __: called.append(arguments))
    monkeypatch.setenv("BACKROOM_BROKER_URL", "amqp://nowhere")
    serve.worker.callback("tests.sample")
    arguments = called[0]
    timeout = int(arguments[arguments.index("--worker-shutdown-timeout") + 1])
    assert timeout == Settings().shutdown_seconds * 1000 < 600_000


def spy(call: Callable[..., Any], look: Callable[[Any], Any], seen: list[Any]) -> Callable[..., Any]:
    def spied(message: Any, **options: Any) -> Any:
        seen.append(look(message))
        return call(message, **options)

    return spied


def test_trap_three_retries_are_four_runs(
    stub: StubBroker, stub_worker: dramatiq.Worker, sample: ServiceUnderTest, script: Script
) -> None:
    """Stock: `max_retries=3` runs four times, by a schedule that only doubles. Ours says it: one delay per retry."""
    runs: list[str] = []

    @dramatiq.actor(broker=stub, max_retries=3, min_backoff=1, max_backoff=1)
    def work() -> None:
        runs.append("stock")
        raise RuntimeError

    work.send()
    wait_until(lambda: len(runs) == 4, what="four runs")

    job_id = sample.send(jobs.scripted, key=script(raising(Retry("broken"))))
    sample.drain()
    assert len(jobs.scripted.job.retry) == 3
    assert sample.job(job_id).runs == 4


def test_trap_given_up_without_a_word(
    stub: StubBroker, stub_worker: dramatiq.Worker, sample: ServiceUnderTest, script: Script
) -> None:
    """Stock: `on_retry_exhausted` does not fire for `throws`. Ours calls the failed hook however a job fails."""
    told: list[str] = []

    @dramatiq.actor(broker=stub)
    def tell(message: Any, retries: Any) -> None:
        told.append(message["actor_name"])

    @dramatiq.actor(broker=stub, max_retries=0, on_retry_exhausted="tell")
    def runs_out() -> None:
        raise RuntimeError

    @dramatiq.actor(broker=stub, throws=ValueError, on_retry_exhausted="tell")
    def gives_up() -> None:
        raise ValueError

    gives_up.send()
    runs_out.send()
    wait_until(lambda: told, what="the one that fires")
    stub.join("default", timeout=10_000, fail_fast=False)
    assert told == ["runs_out"]

    hooks: list[Verdict] = []
    for error in (Retry("broken"), GiveUp("no_use")):
        sample.send(jobs.scripted, key=script(raising(error), hooks.append))
    sample.drain()
    assert sorted(verdict.code for verdict in hooks) == ["broken", "no_use"]


def test_trap_retries_are_the_rows_alone() -> None:
    """Of Dramatiq's middleware only the time limit is there: nothing re-sends a message that has no arguments."""
    kinds = {type(middleware) for middleware in RabbitBroker("sample", "amqp://nowhere").middleware}

    assert Retries not in kinds
    assert kinds == {TimeLimit}


def test_trap_unknown_actor(stub: StubBroker, stub_worker: dramatiq.Worker, sample: ServiceUnderTest) -> None:
    """Stock: a message for an actor of another version is dead-lettered at once. Ours goes back into its line."""

    @dramatiq.actor(broker=stub)
    def known() -> None: ...

    stub.enqueue(known.message().copy(actor_name="of_tomorrow"))
    wait_until(lambda: stub.dead_letters, what="the dead letter")

    job_id = sample.send(jobs.write, key="a")
    number = sample.hand_out(job_id) or 0
    sample.execute("UPDATE jobs SET actor = 'of_tomorrow'")
    message = decode("work", encode_dispatch("of_tomorrow", [(job_id, number)]), redelivered=False)
    sample.app.broker.get_actor(message.actor_name)(*message.args)
    job = sample.job(job_id)
    assert (job.state, job.waiting_for, job.runs) == ("scheduled", "no_worker", 0)
    assert effects(sample) == []


# -- topology -------------------------------------------------------------------------------------------


def test_trap_classic_queues(vhost: str) -> None:
    """Stock: queues are classic, on one node. Ours are quorum queues, without the stock delay and expiry queues."""
    stock = RabbitmqBroker(url=vhost, middleware=[])
    assert "x-queue-type" not in stock._build_queue_arguments("work")
    close(stock)

    broker, ours = transport(vhost)
    assert broker._build_queue_arguments("work")["x-queue-type"] == "quorum"
    connection = pika.BlockingConnection(pika.URLParameters(vhost))
    for queue in (ours.queue("work"), ours.queue("work.dead")):
        with pytest.raises(pika.exceptions.ChannelClosedByBroker) as refused:
            connection.channel().queue_declare(queue, durable=True, arguments={"x-queue-type": "classic"})
        assert refused.value.reply_code == 406
    connection.close()
    ours.close()
    close(broker)


def test_trap_declaring_again_with_other_arguments(vhost: str) -> None:
    """A queue declared with other arguments is a 406: workers and relay declare the same, whoever comes first."""
    stock = RabbitmqBroker(url=vhost, middleware=[])
    stock.declare_queue("work", ensure=True)
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as refused:
        stock.channel.queue_declare("work", durable=True, arguments={"x-queue-type": "quorum"})
    assert refused.value.reply_code == 406
    close(stock)

    broker, ours = transport(vhost)
    first = RabbitBroker(f"{broker.service}-too", vhost)
    first.consume("work").close()
    RabbitTransport(first).prepare(["work", "events"], [])
    broker.consume("work").close()
    ours.prepare(["work", "events"], [])
    ours.close()
    close(first)
    close(broker)
