"""The Rule: how long shipping's endpoints take while the carrier hangs for 60 s on every call.

The API runs under gunicorn, a worker with its relay beside it, and a sandbox stands in for Shippo. Every endpoint is
called in both states, by two connections with a breath between their requests, in turns. Before each turn what
earlier ones left waiting is cancelled. The bar is on every endpoint's own p99, hanging against healthy; what counts is
the worst of them.

While the carrier is healthy the worker does all the work that the requests ask for, on the same cores, which makes
healthy the harder state for the API. So all requests together are also compared with a third one, in which every queue
is paused and nothing but the API runs.
"""

from __future__ import annotations

from collections import defaultdict

from services.shipping.service import service
from shared.sandbox import Sandbox
from shared.testing.server import answers, free_port
from tests.benchmarks.bench import Result, Row, ms, percentile, place, process, wait, worker
from tests.benchmarks.load import load
from tests.benchmarks.shop import Shop

_THREADS = 8


def main(long: bool) -> Result:
    samples, turns = (100, 3) if long else (3, 1)
    with Sandbox.start(seed=1, limits=0) as sandbox:
        port = free_port()
        with place(service, threads=_THREADS, port=port, web_threads=16) as here:
            here.environment["SHIPPING_SHIPPO_BASE_URL"] = sandbox.url
            here.environment["SHIPPING_SHIPPO_OWN_LIMITS"] = "false"
            api = process(["shared.runtime.cli", "api", "shipping"], here.environment)
            with api, worker(here):
                wait(lambda: answers("127.0.0.1", port), 60)
                shop = Shop(here, sandbox, f"http://127.0.0.1:{port}")
                # Of orders each turn uses up what it buys for, and of labels what it gives back.
                shop.open(orders=samples * turns * 3 + 82, labels=20 if long else 2)
                times = _measure(shop, samples, turns)
                stuck = shop.stuck
    return _judge(times, stuck)


def _measure(shop: Shop, samples: int, turns: int) -> dict[str, dict[str, list[float]]]:
    states = ("healthy", "hanging", "paused")
    times: dict[str, dict[str, list[float]]] = {state: defaultdict(list) for state in states}
    shop.calm()
    load(shop.url, shop.requests(2), connections=2)
    for turn in range(turns):
        # Who goes first changes, so that neither always finds the larger tables.
        for state in states if turn % 2 == 0 else states[::-1]:
            shop.calm()
            if state == "hanging":
                shop.hang(_THREADS)
            elif state == "paused":
                shop.pause()
            done = load(shop.url, shop.requests(samples), connections=2, pause=0.005)
            wrong = {
                label: found
                for label, found in done.statuses.items()
                # A label whose money has come back meanwhile cannot be given back again.
                if any(status[0] != "2" and not (status == "409" and "refund" in label) for status in found)
            }
            if wrong:
                raise RuntimeError(f"not every request was answered well: {wrong}")
            for label, found in done.times.items():
                times[state][label] += found
            if state == "hanging":
                shop.stuck = max(shop.stuck, shop.sandbox.state()["hanging"])
    return times


def _judge(times: dict[str, dict[str, list[float]]], stuck: int) -> Result:
    result = Result("The Rule: a hanging carrier and our endpoints")
    p99 = {state: {label: percentile(found, 99) for label, found in of.items()} for state, of in times.items()}
    ratios = {label: p99["hanging"][label] / p99["healthy"][label] for label in p99["healthy"]}
    for label in sorted(ratios, key=lambda label: label.split()[::-1]):
        figure = f"{ratios[label]:.2f}x ({ms(p99['healthy'][label])} → {ms(p99['hanging'][label])})"
        result.add(f"`{label}`, p99 healthy → hanging", figure)
    worst = max(ratios, key=lambda label: ratios[label])
    result.rows.insert(
        0,
        Row(
            f"the worst of {len(ratios)} endpoints, p99 healthy → hanging",
            f"{ratios[worst]:.2f}x (`{worst}`)",
            "at most 2x",
            ratios[worst] <= 2,
        ),
    )
    pooled = {state: [one for found in of.values() for one in found] for state, of in times.items()}
    of_all = {state: percentile(found, 99) for state, found in pooled.items()}
    for before in ("healthy", "paused"):
        figure = f"{of_all['hanging'] / of_all[before]:.2f}x ({ms(of_all[before])} → {ms(of_all['hanging'])})"
        result.add(f"all requests together, p99 {before} → hanging", figure)
    result.note = (
        f"{len(times['healthy']['GET /v1/orders'])} requests per endpoint and state; up to {stuck} calls of the "
        "carrier hung at a time. The slowest of all requests while it hung took "
        f"{ms(max(pooled['hanging']))}, while it was healthy {ms(max(pooled['healthy']))}."
    )
    return result
