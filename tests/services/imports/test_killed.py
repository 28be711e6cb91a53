"""Workers killed with SIGKILL at random moments: the result is that of a run that nobody disturbed.

`BACKROOM_IMPORT_SEEDS=50 pytest tests/services/imports/test_killed.py` tries as many moments as one has patience for.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from services.imports.service import service
from services.imports.settings import settings
from shared.testing.service import ServiceUnderTest, wait_until
from tests.services.imports.desk import Desk, csv

SEEDS = int(os.environ.get("BACKROOM_IMPORT_SEEDS", "1"))
KILLS = 2
ROWS = 2_000

_RESULT = "SELECT title, sku, categories, custom_fields, import_row FROM samples ORDER BY import_row"


def content() -> bytes:
    """A file with everything: good rows, duplicates of titles and of SKUs, rows that fail."""
    chance = random.Random(7)
    rows = []
    for number in range(ROWS):
        name = chance.randrange(number + 1) if chance.random() < 0.05 else number
        title = "" if chance.random() < 0.02 else f"Sample {name}"
        rows.append([title, f"S-{name % 1900}", chance.choice(("Boxes > Small", "Mailers", "")), ""])
    return csv(*rows)


@pytest.fixture(scope="module")
def _small_batches() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMPORTS_BATCH_ROWS", "20")
        settings.cache_clear()
        yield
    settings.cache_clear()


@pytest.fixture
def desk(_small_batches: None, service_app: Callable[..., ServiceUnderTest]) -> Iterator[Desk]:
    under_test = service_app(service, "rabbitmq")
    web = under_test.app.web()
    assert under_test.app.secrets.signer is not None
    yield Desk(under_test, web, under_test.app.secrets.signer)
    web.extensions["backroom"].close()


def result(desk: Desk, path: str) -> tuple[Any, ...]:
    found = desk.read(path)
    failures = desk.service.query("SELECT row, issues, cells FROM import_failures ORDER BY row")
    counted = tuple(found[name] for name in ("state", "processed", "created", "updated", "skipped", "failed"))
    told = sum(len(event.data["sample_ids"]) for event in desk.service.published("backroom.imports.sample.created.v1"))
    categories = desk.service.query("SELECT path_key, name, parent_key FROM categories ORDER BY path_key")
    return counted, told, desk.service.query(_RESULT), failures, categories


def wait_for(desk: Desk, path: str, *states: str) -> None:
    wait_until(lambda: desk.read(path)["state"] in states, 90, f"the import to be {' or '.join(states)}")


@pytest.mark.timeout(120 + 60 * SEEDS)
def test_killed_at_any_moment(desk: Desk) -> None:
    """However often and whenever its worker dies, every row is dealt with once, and told once."""
    file = content()
    began = time.perf_counter()
    undisturbed = result(desk, desk.bring(file)["links"]["self"])
    took = time.perf_counter() - began
    assert undisturbed[0][:2] == ("completed", ROWS)
    assert undisturbed[1] == undisturbed[0][2]

    for seed in range(SEEDS):
        desk.service.clear()
        chance = random.Random(seed)
        started = desk.start(desk.upload(file)["id"])
        path = started["links"]["self"]
        for _ in range(KILLS):
            with desk.service.worker_process(worker_threads=2) as worker:
                wait_for(desk, path, "running", "completed")
                time.sleep(chance.uniform(0, took * 0.7))
                worker.kill()
        with desk.service.worker_process(worker_threads=2):
            wait_for(desk, path, "completed", "failed")
        assert result(desk, path) == undisturbed, f"seed {seed}"
