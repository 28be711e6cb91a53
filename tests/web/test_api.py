"""What an operation's declaration promises, asked over the wire of a test client."""

from __future__ import annotations

import uuid

from shared.web.testing import Client


def test_create_read_list(client: Client) -> None:
    created = client.post("/v1/things", {"name": "Box", "weight": 3})
    assert created.status_code == 201
    assert created.json is not None
    assert created.headers["Location"] == f"/v1/things/{created.json['id']}"
    assert created.json["created_at"].endswith("Z")
    read = client.get(created.headers["Location"])
    assert read.json == created.json
    assert client.get("/v1/things").json == {"items": [created.json], "next_cursor": None}


def test_neighbors_see_nothing(client: Client) -> None:
    created = client.post("/v1/things", {"name": "Box"})
    neighbor = client.of("globex")
    assert neighbor.get(created.headers["Location"]).status_code == 404
    assert neighbor.get("/v1/things").json == {"items": [], "next_cursor": None}


def test_identity_and_request_id(client: Client) -> None:
    answer = client.get("/v1/whoami", headers={"X-Request-Id": "from-the-caller"})
    assert answer.json == {
        "tenant_id": "acme",
        "principal": "user:ada",
        "role": "owner",
        "request_id": "from-the-caller",
    }
    assert answer.headers["X-Request-Id"] == "from-the-caller"
    assert uuid.UUID(client.get("/v1/whoami", headers={"X-Request-Id": "\x7f bad"}).headers["X-Request-Id"])


def test_security_headers(client: Client) -> None:
    headers = client.get("/v1/things").headers
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in headers["Content-Security-Policy"]


def test_no_content(client: Client) -> None:
    created = client.post("/v1/things", {"name": "Box"})
    gone = client.delete(created.headers["Location"])
    assert (gone.status_code, gone.data) == (204, b"")
    assert "Content-Type" not in gone.headers
    assert client.delete(created.headers["Location"]).status_code == 404


def test_upload_is_streamed_and_bounded(client: Client) -> None:
    csv = {"Content-Type": "text/csv"}
    assert client.post("/v1/uploads", b"x" * (3 << 20), headers=csv).json == {"size": 3 << 20}
    refused = client.post("/v1/uploads", b"x" * (5 << 20), headers=csv)
    assert refused.status_code == 413
    assert refused.json is not None
    assert refused.json["max_bytes"] == 4 << 20


def test_public_raw_body(client: Client) -> None:
    assert client.stranger().post("/v1/hooks", b"\x00\xff").json == {"size": 2}
