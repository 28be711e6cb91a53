"""The same request twice has one effect and one answer, however the two meet."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from sqlalchemy import text

from shared.db import Database
from shared.web import Signer
from shared.web.serve import Server
from shared.web.testing import Client


@pytest.fixture
def drop(client: Client) -> str:
    return client.post("/v1/things", {"name": "Cup", "weight": 1}).headers["Location"] + "/drop"


def things(client: Client) -> int:
    answer = client.get("/v1/things?limit=200").json
    assert answer is not None
    return len(answer["items"])


def keys(database: Database) -> int:
    with database.system.begin() as connection:
        return int(connection.execute(text("SELECT count(*) FROM idempotency_keys")).scalar_one())


def test_required(client: Client, drop: str) -> None:
    answer = client.post(drop)
    assert answer.status_code == 400
    assert answer.json is not None
    assert answer.json["code"] == "idempotency_key_missing"


@pytest.mark.parametrize("key", ["", '""', "a b", "ä", "x" * 256, '"open', 'a"b', "a,b c"])
def test_malformed(client: Client, drop: str, key: str) -> None:
    answer = client.post(drop, headers={"Idempotency-Key": key.encode("utf-8").decode("latin-1")})
    assert answer.status_code == 400


def test_replay(client: Client, drop: str) -> None:
    key = uuid.uuid4()
    first = client.post(drop, key=key)
    again = client.post(drop, key=key)
    assert first.status_code == again.status_code == 202
    assert first.data == again.data
    assert first.headers["Content-Type"] == again.headers["Content-Type"]
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert first.headers["X-Request-Id"] != again.headers["X-Request-Id"]
    assert things(client) == 2


def test_headers_are_replayed(client: Client) -> None:
    answers = [client.post("/v1/things", {"name": "Box"}, key="k1") for _ in range(2)]
    assert answers[0].headers["Location"] == answers[1].headers["Location"]


def test_quoted_and_bare_are_one_key(client: Client, drop: str) -> None:
    bare = client.post(drop, headers={"Idempotency-Key": "abc"})
    quoted = client.post(drop, headers={"Idempotency-Key": '"abc"'})
    assert quoted.headers["Idempotency-Replayed"] == "true"
    assert bare.data == quoted.data


def test_other_request_under_the_same_key(client: Client) -> None:
    client.post("/v1/things", {"name": "Box"}, key="k")
    answer = client.post("/v1/things", {"name": "Crate"}, key="k")
    assert answer.status_code == 422
    assert answer.json is not None
    assert answer.json["type"] == "/problems/idempotency-key-reused"
    assert things(client) == 1


def test_keys_are_ones_own(client: Client) -> None:
    first = client.post("/v1/things", {"name": "Box"}, key="k")
    for other in (client.of("globex"), client.role("owner", "user:bob")):
        answer = other.post("/v1/things", {"name": "Box"}, key="k")
        assert answer.status_code == 201
        assert "Idempotency-Replayed" not in answer.headers
        assert answer.json != first.json


def test_refusal_leaves_no_key(client: Client, database: Database, drop: str) -> None:
    thing = drop.removesuffix("/drop")
    client.patch(thing, {"name": "Anvil", "weight": 2000})
    assert client.post(drop, key="k").status_code == 409
    assert keys(database) == 0
    assert things(client) == 1, "the dented twin must be undone with the refusal"
    client.patch(thing, {"name": "Anvil", "weight": 2})
    assert client.post(drop, key="k").status_code == 202


def test_crash_leaves_no_key(client: Client, database: Database) -> None:
    assert client.post("/v1/unruly/crash", key="k").status_code == 500
    assert (keys(database), things(client)) == (0, 0)


def test_rolled_back_commit_leaves_no_key(client: Client, database: Database) -> None:
    assert client.post("/v1/unruly/slow-code", key="k").status_code == 503
    assert (keys(database), things(client)) == (0, 0)


def test_expired_key_is_free_again(client: Client, database: Database, drop: str) -> None:
    client.post(drop, key="k")
    with database.system.begin() as connection:
        connection.execute(text("UPDATE idempotency_keys SET expires_at = now() - interval '1 second'"))
    answer = client.post(drop, key="k")
    assert answer.status_code == 202
    assert "Idempotency-Replayed" not in answer.headers
    assert (keys(database), things(client)) == (1, 3)


def test_first_still_running(client: Client, database: Database) -> None:
    key, client_waits = uuid.uuid4(), threading.Event()

    def twin() -> int:
        client_waits.set()
        return client.post("/v1/things", {"name": "Box"}, key=key).status_code

    with database.system.begin() as connection, ThreadPoolExecutor() as pool:
        connection.execute(
            text(
                "INSERT INTO idempotency_keys (tenant_id, principal, route, key, fingerprint, expires_at)"
                " VALUES ('acme', 'user:ada', 'POST /v1/things', :key, '', now() + interval '1 day')"
            ),
            {"key": str(key)},
        )
        answer = pool.submit(twin)
        assert answer.result(timeout=10) == 409
        connection.rollback()
    assert client.post("/v1/things", {"name": "Box"}, key=key).status_code == 201


def test_fifty_twins_over_http(server: Server, client: Client, signer: Signer, drop: str) -> None:
    token = signer.issue("acme", "user:ada", "owner")
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": str(uuid.uuid4())}
    start = threading.Barrier(50)

    def twin(url: str) -> tuple[int, bytes, str | None]:
        start.wait()
        answer = requests.post(url, headers=headers, timeout=30)
        return answer.status_code, answer.content, answer.headers.get("Idempotency-Replayed")

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(twin, [server.url + drop] * 50))
    assert Counter(status for status, _, _ in answers) == {202: 50}
    assert len({body for _, body, _ in answers}) == 1
    assert Counter(replayed for _, _, replayed in answers) == {"true": 49, None: 1}
    assert things(client) == 2
