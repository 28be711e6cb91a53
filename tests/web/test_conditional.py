"""Cheap polling with If-None-Match, safe changes with If-Match."""

from __future__ import annotations

import pytest

from shared.web.testing import Client


@pytest.fixture
def thing(client: Client) -> str:
    return client.post("/v1/things", {"name": "Box"}).headers["Location"]


def test_not_modified(client: Client, thing: str) -> None:
    first = client.get(thing)
    tag = first.headers["ETag"]
    for sent in (tag, f'"other", {tag}', "*", tag.removeprefix("W/")):
        answer = client.get(thing, headers={"If-None-Match": sent})
        assert (answer.status_code, answer.data) == (304, b"")
        assert answer.headers["ETag"] == tag
        assert "Content-Type" not in answer.headers
    for sent in ('"other"', "", "garbage, \x01"):
        assert client.get(thing, headers={"If-None-Match": sent}).status_code == 200
    client.patch(thing, {"name": "Crate"})
    assert client.get(thing, headers={"If-None-Match": tag}).status_code == 200


def test_change_only_what_is_known(client: Client, thing: str) -> None:
    tag = client.get(thing).headers["ETag"]
    assert client.patch(thing, {"name": "Crate"}, headers={"If-Match": tag}).status_code == 200
    stale = client.patch(thing, {"name": "Trunk"}, headers={"If-Match": tag})
    assert stale.status_code == 412
    assert stale.headers["ETag"] == client.get(thing).headers["ETag"] != tag
    assert client.patch(thing, {"name": "Trunk"}, headers={"If-Match": "*"}).status_code == 200
    assert client.patch(thing, {"name": "Trunk"}).status_code == 200
