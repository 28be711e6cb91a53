"""How much a large import of one tenant delays the labels of another.

Both services run as they do for real, each with its API or worker in processes of its own, on the same cores and the
same PostgreSQL. Another tenant than the one who imports buys labels, a click every tenth of a second, from a carrier
that answers at once, so that nothing of ours hides behind the carrier's time. In turns it has the machine to itself,
and files of 100,000 rows are imported beside it. What is measured is the time from the click to the end of the job
that bought the label, and the bar is on the p95.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from services.imports.service import service as imports
from services.shipping.service import service as shipping
from shared.sandbox import Sandbox
from shared.testing.server import answers, free_port
from tests.benchmarks.bench import Place, Result, ms, percentile, place, process, wait, worker
from tests.benchmarks.imports import import_file, write
from tests.benchmarks.shop import Shop

__all__ = ["main"]

_TOOK = """
SELECT extract(epoch FROM finished_at - created_at)::float8 FROM jobs
WHERE actor = 'purchase_label' AND state = 'succeeded' ORDER BY id DESC LIMIT :count
"""
_LIVE = "SELECT count(*) FROM jobs WHERE state IN ('scheduled', 'queued', 'running') AND run_at < now()"


def main(long: bool) -> Result:
    rows, clicks, turns = (100_000, 100, 3) if long else (2_000, 3, 1)
    alone: list[float] = []
    beside: list[float] = []
    with Sandbox.start(seed=1, limits=0) as sandbox:
        port = free_port()
        with place(imports) as desk, place(shipping, threads=8, port=port, web_threads=16) as here:
            path = Path(desk.environment["BACKROOM_DATA_DIR"]) / "catalog.csv"
            write(path, rows)
            here.environment["SHIPPING_SHIPPO_BASE_URL"] = sandbox.url
            here.environment["SHIPPING_SHIPPO_OWN_LIMITS"] = "false"
            with process(["shared.runtime.cli", "api", "shipping"], here.environment), worker(here):
                wait(lambda: answers("127.0.0.1", port), 60)
                shop = Shop(here, sandbox, f"http://127.0.0.1:{port}")
                shop.open(orders=2 * clicks * turns + 90, labels=2)
                _buy(shop, here, min(clicks, 5))
                for _ in range(turns):
                    alone += _buy(shop, here, clicks)
                    with _importing(desk, path) as imported:
                        beside += _buy(shop, here, clicks)
    result = Result("Labels beside an import")
    ratio = percentile(beside, 95) / percentile(alone, 95)
    for state, times in (("alone", alone), ("beside an import", beside)):
        result.add(f"a label, p50 / p95 {state}", f"{ms(percentile(times, 50))} / {ms(percentile(times, 95))}")
    result.add("p95 beside an import, against alone", f"{ratio:.2f}x", "at most 2x", ratio <= 2)
    result.note = (
        f"{len(beside):,} labels in each state; {len(imported)} files of {rows:,} rows were imported in the last turn."
    )
    return result


def _buy(shop: Shop, here: Place, clicks: int) -> list[float]:
    """Click so many times, and wait; return how long each label took, in seconds."""
    orders = [shop.fresh.pop() for _ in range(clicks)]
    for order in orders:
        shop.call("POST", f"/v1/orders/{order}/labels", {})
        time.sleep(0.1)
    wait(lambda: here.query(_LIVE)[0][0] == 0, 120)
    times = [float(str(row[0])) for row in here.query(_TOOK, count=clicks)]
    assert len(times) == clicks, "every click bought a label"
    return times


@contextlib.contextmanager
def _importing(desk: Place, path: Path) -> Iterator[list[float]]:
    """Import the file again and again while the block lasts; gives how many seconds each took."""
    over = threading.Event()
    took: list[float] = []

    def run() -> None:
        while not over.is_set():
            took.append(import_file(desk, path).seconds)

    with ThreadPoolExecutor(1) as one:
        running = one.submit(run)
        try:
            yield took
        finally:
            over.set()
            running.result()
