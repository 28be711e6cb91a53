"""Lists by cursor: complete, without doubles, and cursors cannot be made up."""

from __future__ import annotations

import base64
import re

import pytest

from shared.web.testing import Client


@pytest.fixture
def seven(client: Client) -> list[str]:
    for number in range(7):
        client.post("/v1/things", {"name": f"Thing {number}", "weight": number})
    return [f"Thing {number}" for number in reversed(range(7))]


def walk(client: Client, path: str) -> list[str]:
    names: list[str] = []
    while True:
        answer = client.get(path)
        assert answer.status_code == 200
        assert answer.json is not None
        names += [item["name"] for item in answer.json["items"]]
        if answer.json["next_cursor"] is None:
            assert "Link" not in answer.headers
            return names
        link = re.fullmatch(r'<(.+)>; rel="next"', answer.headers["Link"])
        assert link is not None
        path = link[1]


@pytest.mark.parametrize("limit", [1, 2, 3, 6, 7, 8])
def test_all_pages(client: Client, seven: list[str], limit: int) -> None:
    assert walk(client, f"/v1/things?limit={limit}") == seven


def test_filters_go_along(client: Client, seven: list[str]) -> None:
    for _ in range(3):
        client.post("/v1/things", {"name": "a & b=c"})
    assert walk(client, "/v1/things?limit=1&name=a%20%26%20b%3Dc") == ["a & b=c"] * 3


def test_rows_written_meanwhile_double_nothing(client: Client, seven: list[str]) -> None:
    first = client.get("/v1/things?limit=3").json
    assert first is not None
    client.post("/v1/things", {"name": "Late"})
    rest = walk(client, f"/v1/things?limit=3&cursor={first['next_cursor']}")
    assert [item["name"] for item in first["items"]] + rest == seven


def test_tampering(client: Client, seven: list[str]) -> None:
    page = client.get("/v1/things?limit=1").json
    assert page is not None
    cursor: str = page["next_cursor"]
    raw = bytearray(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    bad = ["", "x", "%FF", "ä", cursor[:-2], cursor + "AAAA", "A" * 1001, base64.urlsafe_b64encode(b"[]").decode()]
    for place in (0, 15, 16, len(raw) - 1):
        broken = raw.copy()
        broken[place] ^= 1
        bad.append(base64.urlsafe_b64encode(broken).decode().rstrip("="))
    for each in bad:
        answer = client.get(f"/v1/things?cursor={each}")
        assert answer.status_code == 400, each
        assert answer.json is not None
        assert answer.json["errors"][0]["pointer"] == "query:cursor"


def test_cursor_is_no_way_to_the_neighbor(client: Client, seven: list[str]) -> None:
    page = client.get("/v1/things?limit=1").json
    assert page is not None
    assert walk(client.of("globex"), f"/v1/things?cursor={page['next_cursor']}") == []
