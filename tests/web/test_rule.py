"""The Rule inside requests: what takes too long, writes too much or calls out is undone and refused."""

from __future__ import annotations

import time
import uuid

import pytest
from sqlalchemy import insert

from shared.context import use
from shared.db import Database, unit_of_work
from shared.web.rule import MAX_RECORDS
from shared.web.testing import Client

from .sample import Thing


def names(client: Client) -> list[str]:
    answer = client.get("/v1/things?limit=200").json
    assert answer is not None
    return [item["name"] for item in answer["items"]]


def test_slow_query_is_cut_off(client: Client) -> None:
    started = time.monotonic()
    answer = client.post("/v1/unruly/slow-query")
    assert time.monotonic() - started < 4
    assert answer.status_code == 503
    assert answer.json is not None
    assert answer.json["type"] == "/problems/rule-too-long"
    assert answer.headers["Retry-After"] == "2"


def test_slow_code_is_undone(client: Client) -> None:
    answer = client.post("/v1/unruly/slow-code")
    assert answer.status_code == 503
    assert answer.json is not None
    assert answer.json["type"] == "/problems/rule-too-long"
    assert names(client) == []


@pytest.mark.parametrize("how", ["orm", "bulk", "sql", "pieces", "swallowed"])
def test_too_many_records(client: Client, how: str) -> None:
    answer = client.post("/v1/unruly/many", {"count": MAX_RECORDS + 1, "how": how})
    assert answer.status_code == 500
    assert answer.json is not None
    assert answer.json["type"] in ("/problems/rule-too-many-records", "/problems/internal-error")
    assert names(client) == []


@pytest.mark.parametrize("how", ["orm", "bulk", "sql", "pieces"])
def test_as_many_as_allowed(client: Client, how: str) -> None:
    assert client.post("/v1/unruly/many", {"count": MAX_RECORDS, "how": how}).status_code == 200
    assert len(names(client)) == MAX_RECORDS


def test_calling_out_is_refused(client: Client) -> None:
    answer = client.post("/v1/unruly/call-out")
    assert answer.status_code == 500
    assert answer.json is not None
    assert answer.json["type"] == "/problems/rule-calls-out"


def test_the_back_room_is_free(client: Client, database: Database) -> None:
    """The limits are those of requests: a job of the same process may write as much as it likes."""
    token = database.bind()
    try:
        with use(tenant_id="acme"), unit_of_work() as session:
            session.execute(
                insert(Thing),
                [{"id": uuid.uuid4(), "tenant_id": "acme", "name": "job", "weight": 0} for _ in range(500)],
            )
    finally:
        database.unbind(token)
    assert len(names(client)) == 200
