"""Every refusal and failure has the one shape, says nothing secret, and is explained under its type."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask import Flask

from shared.db import Database
from shared.web import Signer, WebSettings, create_app
from shared.web.problems import Problem, registered
from shared.web.testing import Client

from . import sample


def expect(answer: Any, status: int, slug: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.data
    assert answer.content_type == "application/problem+json"
    problem: dict[str, Any] = answer.json
    assert problem["type"] == (slug if slug == "about:blank" else f"/problems/{slug}")
    assert problem["status"] == status
    assert problem["request_id"] == answer.headers["X-Request-Id"]
    assert {"title", "detail", "code", "retryable", "instance"} <= problem.keys()
    return problem


def test_not_found_by_flask_and_by_us(client: Client) -> None:
    assert expect(client.get("/nowhere"), 404, "not-found")["instance"] == "/nowhere"
    expect(client.get("/v1/things/"), 404, "not-found")
    expect(client.get("/v1/things/42"), 404, "not-found")
    expect(client.get("/v1/things/0198c7a2-5f0e-7c3e-9a51-3f1f5c1e2a77"), 404, "not-found")


def test_method_not_allowed(client: Client) -> None:
    answer = client.put("/v1/things")
    assert expect(answer, 405, "method-not-allowed")["allowed"] == ["GET", "HEAD", "POST"]
    assert answer.headers["Allow"] == "GET, HEAD, POST"
    expect(client.request("OPTIONS", "/v1/things"), 405, "method-not-allowed")


def test_media_type(client: Client) -> None:
    for content_type in ("text/plain", "", "application/x-www-form-urlencoded"):
        answer = client.post("/v1/things", b'{"name": "Box"}', headers={"Content-Type": content_type})
        assert expect(answer, 415, "unsupported-media-type")["accepted"] == ["application/json"]
    for content_type in ("application/json; charset=utf-8", "application/vnd.acme+json"):
        answer = client.post("/v1/things", b'{"name": "Box"}', headers={"Content-Type": content_type})
        assert answer.status_code == 201


def test_too_large(client: Client) -> None:
    body = json.dumps({"name": "Box", "note": "x" * (1 << 20)}).encode()
    answer = client.post("/v1/things", body, headers={"Content-Type": "application/json"})
    assert expect(answer, 413, "too-large")["max_bytes"] == 1 << 20


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b"", ""),
        (b"{", ""),
        (b"[]", ""),
        (b"null", ""),
        (b'{"name": 1}', "/name"),
        (b'{"name": "Box", "weight": "3"}', "/weight"),
        (b'{"name": "Box", "weight": 3.5}', "/weight"),
        (b'{"name": "Box", "weight": true}', "/weight"),
        (b'{"name": "Box", "weight": -1}', "/weight"),
        (b'{"weight": 1}', "/name"),
        (b'{"name": "Box", "weight": NaN}', "/weight"),
        (b'{"name": "Box", "other": Infinity}', ""),
        (b'{"name": "Box", "weight": 99999999999999999999}', "/weight"),
        (b'{"name": "Bo\\u0000x"}', "/name"),
        (b'{"name": "Bo\x00x"}', ""),
        (b'{"name": "\\ud800"}', ""),
        (b'{"name": "\xff\xfe"}', ""),
        (b'{"other": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", ""),
        (b'{"name": "Box", "other": ' + b"9" * 100_000 + b"}", ""),
    ],
)
def test_bodies_that_are_refused(client: Client, body: bytes, pointer: str) -> None:
    answer = client.post("/v1/things", body, headers={"Content-Type": "application/json"})
    problem = expect(answer, 400, "invalid-request")
    assert [error["pointer"] for error in problem["errors"]] == [pointer]


@pytest.mark.parametrize(
    "body",
    [
        b'{"name": "a \\\\u0000 in words", "unknown": [1, {"a": null}]}',
        b'{"name": "12345678901234567890"}',
        b'{"name": "NaN, Infinity and 1e999"}',
        b'{"name": "Box", "unknown": [1e999, 99999999999999999999, "\\u0000"]}',
        '{"name": "Überraschung \U0001f4e6"}'.encode(),
    ],
)
def test_bodies_that_only_look_odd(client: Client, body: bytes) -> None:
    answer = client.post("/v1/things", body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 201
    assert answer.json is not None
    assert answer.json["name"] == json.loads(body)["name"]


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "limit=99999999999999999999", "name=%00"])
def test_queries_that_are_refused(client: Client, query: str) -> None:
    expect(client.get(f"/v1/things?{query}"), 400, "invalid-request")


def test_unknown_query_parameters_are_ignored(client: Client) -> None:
    assert client.get("/v1/things?unheard=of").status_code == 200


def test_crash_says_nothing_and_undoes_everything(client: Client) -> None:
    answer = client.post("/v1/unruly/crash")
    expect(answer, 500, "internal-error")
    assert b"secret" not in answer.data
    assert client.get("/v1/things").json == {"items": [], "next_cursor": None}


def test_database_refuses_a_value(client: Client) -> None:
    expect(client.post("/v1/unruly/out-of-range"), 400, "invalid-request")


def test_lock_held_by_somebody_else(client: Client, database: Database) -> None:
    with database.system.begin() as connection:
        connection.exec_driver_sql("SELECT count(*) FROM things")
        answer = client.post("/v1/unruly/lock")
    assert expect(answer, 409, "busy")["retryable"] is True
    assert answer.headers["Retry-After"] == "1"


def test_database_away(settings: WebSettings, signer: Signer) -> None:
    away = Database("postgresql://nobody@127.0.0.1:9/nothing")
    client = Client(create_app(sample.api, away, settings), signer)
    answer = client.get("/v1/things")
    assert expect(answer, 503, "unavailable")["retryable"] is True
    assert answer.headers["Retry-After"] == "2"
    assert client.get("/readyz").status_code == 503
    assert client.get("/livez").status_code == 200


def test_every_problem_explains_itself(client: Client) -> None:
    stranger = client.stranger()
    listed = stranger.get("/problems").json
    assert listed is not None
    assert [item["type"] for item in listed["items"]] == [kind.type_uri() for kind in registered()]
    for item in listed["items"]:
        page = stranger.get(item["type"])
        assert page.json == item
        assert len(item["explanation"]) > 20
    expect(stranger.get("/problems/unheard-of"), 404, "not-found")


def test_slugs_are_unique() -> None:
    with pytest.raises(TypeError, match="not-found"):
        type("Twin", (Problem,), {"slug": "not-found", "__module__": "elsewhere"})


def test_own_problem_carries_its_facts(client: Client) -> None:
    thing = client.post("/v1/things", {"name": "Anvil", "weight": 2000})
    answer = client.post(f"{thing.headers['Location']}/drop", key="drop-1")
    assert expect(answer, 409, "thing-broken")["weight"] == 2000


def test_readiness_lists_its_checks(app: Flask, client: Client) -> None:
    assert client.stranger().get("/readyz").data == b"ok\n"
    verbose = client.stranger().get("/readyz?verbose").data.decode()
    assert "[+]database ok" in verbose
    assert "[+]migrations ok" in verbose


def test_draining_is_not_ready(database: Database, settings: WebSettings) -> None:
    app = create_app(sample.api, database, settings, migrations=lambda: True, checks={"moon": lambda: True})
    client = app.test_client()
    assert client.get("/readyz").status_code == 200
    app.extensions["backroom"].drain()
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert "[-]not draining failed" in answer.text
    assert client.get("/livez").status_code == 200


def test_behind_on_migrations_is_not_ready(database: Database, settings: WebSettings) -> None:
    current = [False, True]
    app = create_app(sample.api, database, settings, migrations=lambda: current.pop(0))
    assert app.test_client().get("/readyz").status_code == 503
    assert [app.test_client().get("/readyz").status_code for _ in range(3)] == [200, 200, 200]


def test_metrics_name_routes_not_paths(client: Client) -> None:
    client.get("/v1/things/0198c7a2-5f0e-7c3e-9a51-3f1f5c1e2a77")
    client.get("/no/such/path/at/all")
    text = client.stranger().get("/metrics").text
    assert 'route="/v1/things/<uuid:thing_id>",service="sample",status="404"' in text
    assert 'route="unmatched"' in text
    assert "no/such" not in text
