"""Publishing with pipelined confirms, as the relay does, against waiting for one confirm per message.

The same persistent messages into the same durable quorum queue: written in batches of 500, and a batch counts as
published when RabbitMQ has confirmed every message of it; or one by one over pika's blocking channel in confirm
mode, which is how most programs publish safely. The two take turns, and the ratio is the median of the turns.
"""

from __future__ import annotations

import statistics
import time

import pika

from shared.jobs.wire import JOBS_CONTENT_TYPE, Publication
from tests.benchmarks.bench import Result, place

_BATCH = 500
_BODY = b'{"actor":"lease","jobs":[["0198f3a1-7c1e-7a52-9d6b-3f2b6f0a1c9e",3]]}'


def main(long: bool) -> Result:
    batched, single, turns = (10_000, 1_500, 5) if long else (1_000, 100, 1)
    ours: list[float] = []
    theirs: list[float] = []
    with place() as here:
        transport = here.app.transport
        transport.prepare(["default"], [])
        name = transport.queue("default")
        connection = pika.BlockingConnection(pika.URLParameters(here.broker_url))
        channel = connection.channel()
        channel.confirm_delivery()
        publications = [Publication("", name, _BODY, JOBS_CONTENT_TYPE) for _ in range(_BATCH)]
        transport.publish(publications)
        for _ in range(turns):
            began = time.perf_counter()
            for _ in range(single):
                channel.basic_publish(
                    "",
                    name,
                    _BODY,
                    pika.BasicProperties(delivery_mode=2, content_type=JOBS_CONTENT_TYPE),
                    mandatory=True,
                )
            theirs.append(single / (time.perf_counter() - began))
            began = time.perf_counter()
            for _ in range(batched // _BATCH):
                transport.publish(publications)
            ours.append(batched / (time.perf_counter() - began))
            channel.queue_purge(name)
        connection.close()
        transport.close()
    ratio = statistics.median(fast / slow for fast, slow in zip(ours, theirs, strict=True))
    result = Result("Publishing by the relay")
    result.add("a confirm per message", f"{statistics.median(theirs):,.0f} messages/s")
    result.add(
        "batches with pipelined confirms, against that",
        f"{ratio:.1f}x ({statistics.median(ours):,.0f} messages/s)",
        "at least 5x",
        ratio >= 5,
    )
    return result
