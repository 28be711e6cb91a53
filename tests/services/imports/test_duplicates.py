"""Duplicates, whatever a file and a catalog have in common: as if rows had come one by one, each looked at."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.imports.apply import Outcome, apply
from services.imports.reading.layout import stage
from services.imports.service import service
from shared.context import use
from shared.db import new_id, unit_of_work
from shared.testing.service import ServiceUnderTest, Templates

Row = tuple[str, str | None]
"""Title and SKU, as keys."""

FEW = st.sampled_from("abcd")
ROWS = st.lists(st.tuples(FEW, st.none() | FEW), max_size=12)


@pytest.fixture(scope="module")
def imports(_templates: Templates) -> Any:
    with _templates.fresh(service) as url, ServiceUnderTest(service, url) as under_test:
        yield under_test


def bring(rows: list[Row], room: int | None = None, import_id: UUID | None = None) -> Outcome:
    """Bring rows into the catalog of the current tenant, as one batch."""
    titles, skus = [title for title, _ in rows], [sku for _, sku in rows]
    columns = {"title": titles, "sku": skus, "sku_key": skus, "title_key": titles}
    with unit_of_work() as session:
        staged = stage(list(range(2, 2 + len(rows))), columns)
        return apply(session, "samples", staged, import_id=import_id or new_id(), mode="create", room=room)


def one_by_one(batches: list[list[Row]]) -> list[list[int]]:
    """The plain way: which rows of each batch become records."""
    titles: set[str] = set()
    skus: set[str | None] = {None}
    made: list[list[int]] = []
    for batch in batches:
        made.append([])
        for number, (title, sku) in enumerate(batch, 2):
            if title not in titles and (sku is None or sku not in skus):
                titles.add(title)
                skus.add(sku)
                made[-1].append(number)
    return made


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(ROWS, min_size=1, max_size=3))
def test_a_batch_makes_the_records_that_its_rows_would_make_one_by_one(
    imports: ServiceUnderTest, batches: list[list[Row]]
) -> None:
    with use(tenant_id=str(new_id())):
        made = [bring(batch) for batch in batches]
    assert [list(outcome.created) for outcome in made] == one_by_one(batches)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, room=st.integers(0, 6))
def test_what_the_plan_does_not_allow_is_the_end_of_what_would_be_made(
    imports: ServiceUnderTest, rows: list[Row], room: int
) -> None:
    with use(tenant_id=str(new_id())):
        outcome = bring(rows, room=room)
    (whole,) = one_by_one([rows])
    assert (list(outcome.created), outcome.no_room) == (whole[:room], whole[room:])


def test_of_two_imports_at_once_one_makes_the_record(imports: ServiceUnderTest) -> None:
    """Each title and each SKU is had once, and by one of the two; neither loses a row of its own."""
    batches: list[list[Row]] = [[(f"title {n}", f"sku {n + shift}") for n in range(400)] for shift in (0, 200)]
    tenant = str(new_id())
    with use(tenant_id=tenant):
        made = imports.concurrently(2, lambda number: bring(batches[number]))
    records = imports.query("SELECT title, sku, id FROM samples WHERE tenant_id = :tenant", tenant=tenant)
    assert {row.id for row in records} == {*made[0].created.values(), *made[1].created.values()}
    assert len(records) == len(made[0].created) + len(made[1].created)
    titles, skus = {row.title for row in records}, {row.sku for row in records}
    assert len(titles) == len(skus) == len(records)
    for row in (row for batch in batches for row in batch):
        assert row[0] in titles or row[1] in skus, "what was passed over has a twin"
