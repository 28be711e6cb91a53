"""Signing up makes a workspace, its owner and a link; names are found, never doubled, and never reserved ones."""

from __future__ import annotations

from typing import Any

import pytest

from services.workspaces.names import candidates, is_subdomain
from tests.services.workspaces.desk import Desk


def test_a_workspace_with_its_owner(desk: Desk) -> None:
    answer = desk.sign_up("Ada@Acme-Packaging.com", plan="team", time_zone="Europe/Berlin")
    assert answer.status_code == 201, answer.json
    assert answer.json is not None
    assert answer.json["subdomain"] == "acme-packaging"
    assert (answer.json["plan"], answer.json["state"]) == ("team", "active")
    types = [row.type.removeprefix("backroom.workspaces.") for row in desk.service.published()]
    assert types == ["member.changed.v1", "workspace.created.v1", "plan.changed.v1", "link.issued.v1"]
    told = {row.type.removeprefix("backroom.workspaces."): row.data for row in desk.service.published()}
    owner = told["member.changed.v1"]
    assert (owner["role"], owner["status"], owner["email"]) == ("owner", "invited", "Ada@Acme-Packaging.com")
    assert told["workspace.created.v1"]["owner_id"] == owner["member_id"]
    assert told["workspace.created.v1"]["time_zone"] == "Europe/Berlin"
    assert told["plan.changed.v1"] == {"plan": "team", "limits": {"members": 25, "samples": 50000}}
    assert {row.tenant_id for row in desk.service.published()} == {"acme-packaging"}
    ada = desk.sign_in()
    assert ada.member["status"] == "active"
    me = ada.client.get("/v1/me").json
    assert me is not None
    assert me["member"]["role"] == me["role"] == "owner"
    assert me["workspace"]["subdomain"] == "acme-packaging"
    assert desk.actions("acme-packaging") == ["workspace.created", "member.activated", "session.started"]


def test_the_same_company_twice_gets_another_name(desk: Desk) -> None:
    names = [desk.sign_up(f"{who}@acme.com").json for who in ("ada", "bob", "eve")]
    assert [name and name["subdomain"] for name in names] == ["acme", "acme-packaging", "acme-2"]


def test_two_at_once_get_two_names(desk: Desk) -> None:
    answers = desk.service.concurrently(4, lambda number: desk.sign_up(f"{number}@acme.com").json)
    assert len({answer["subdomain"] for answer in answers}) == 4
    rows = desk.service.query("SELECT tenant_id, count(*) FROM members GROUP BY tenant_id")
    assert all(row.count == 1 for row in rows)


def test_a_name_that_is_taken_or_reserved(desk: Desk) -> None:
    assert desk.sign_up(subdomain="acme").status_code == 201
    for name in ("acme", "system", "public", "www", "admin", "xn--acme"):
        answer = desk.sign_up("bob@example.com", subdomain=name)
        assert answer.status_code == 409, name
        assert answer.json is not None
        assert answer.json["code"] == "subdomain_taken"
        desk.service.execute("DELETE FROM request_limits")
    for name in ("ac", "Acme", "-acme", "acme-", "a_b", "a" * 41, "ac\nme"):
        assert desk.sign_up("bob@example.com", subdomain=name).status_code == 400, name


def _a_week_later(desk: Desk) -> None:
    desk.service.execute("UPDATE workspaces SET updated_at = updated_at - interval '169 hours'")


def test_a_name_that_nobody_came_to_use_goes_to_the_next(desk: Desk) -> None:
    assert desk.sign_up("squatter@example.com", subdomain="acme").status_code == 201
    (first,) = desk.mails()
    assert desk.sign_up(subdomain="acme").status_code == 409, "it is kept for a week"
    _a_week_later(desk)
    answer = desk.sign_up(subdomain="acme", name="Acme", plan="team")
    assert answer.status_code == 201, answer.json
    assert desk.follow(first).status_code == 401, "the link of whoever asked first lets nobody in"
    ada = desk.sign_in()
    assert (ada.member["email"], ada.member["role"]) == ("ada@acme.com", "owner")
    members = ada.client.get("/v1/members").json
    assert members is not None
    assert [member["email"] for member in members["items"]] == ["ada@acme.com"]
    created = desk.service.published("backroom.workspaces.workspace.created.v1")
    assert [row.data["name"] for row in created] == ["Acme Packaging", "Acme"]
    assert created[0].sequence < created[1].sequence, "who was told of the first believes the second"
    assert desk.actions("acme") == [
        "workspace.created",
        "workspace.handed_over",
        "workspace.created",
        "member.activated",
        "session.started",
    ]
    _a_week_later(desk)
    assert desk.sign_up("bob@example.com", subdomain="acme").status_code == 409, "it is in use"


def test_a_name_that_is_paid_for_goes_to_nobody(desk: Desk) -> None:
    assert desk.sign_up(subdomain="acme").status_code == 201
    desk.service.execute(
        "INSERT INTO subscriptions (id, tenant_id, provider_id, customer_id, status, occurred_at) "
        "VALUES (gen_random_uuid(), 'acme', 'sub_1', 'ctm_1', 'active', now())"
    )
    _a_week_later(desk)
    assert desk.sign_up("bob@example.com", subdomain="acme").status_code == 409


@pytest.mark.parametrize(
    ("email", "company", "first"),
    [
        ("ada@acme.com", "Acme", "acme"),
        ("ada@mail.acme.com", "Acme", "acme"),
        ("ada@acme.co.uk", "Acme", "acme"),
        ("ada@gmail.com", "Acmé Pâckaging, Inc.", "acme-packaging-inc"),
        ("ada@GMAIL.com", "Acme", "acme"),
        ("ada@gmail.com", "木", "workspace-2"),
        ("ada@gmail.com", "System", "system-2"),
        ("ada@system.com", "Public", "system-2"),
        ("ada@x.com", "Acme", "acme"),
        ("ada@co.uk", "Acme", "acme"),
        ("ada@" + "a" * 60 + ".com", "Acme", "a" * 40),
    ],
)
def test_names_are_made_of_what_there_is(email: str, company: str, first: str) -> None:
    found = list(candidates(email, company))
    assert found[0] == first
    assert all(is_subdomain(name) for name in found), found
    assert len(set(found)) == len(found)


@pytest.mark.parametrize(
    "fields",
    [
        {"email": "no address"},
        {"email": "a@b"},
        {"email": "a@b.com\nBcc: c@d.com"},
        {"email": "a b@c.com"},
        {"email": "<a@b.com>"},
        {"name": ""},
        {"name": "  "},
        {"owner_name": "A\r\nB"},
        {"plan": "gold"},
        {"time_zone": "Mars/Olympus"},
    ],
    ids=str,
)
def test_what_makes_no_sense_makes_no_workspace(desk: Desk, fields: dict[str, Any]) -> None:
    assert desk.sign_up(**{"email": "ada@acme.com", **fields}).status_code == 400
    assert desk.service.query("SELECT count(*) FROM workspaces")[0][0] == 0


def test_sign_ups_are_limited_per_address_and_per_client(desk: Desk) -> None:
    answers = [desk.sign_up("ada@acme.com").status_code for _ in range(4)]
    assert answers == [201, 201, 201, 429]
    last = desk.sign_up("ADA@acme.com")
    assert last.status_code == 429
    assert 0 < int(last.headers["Retry-After"]) <= 1200
    others = [desk.sign_up(f"a{number}@acme.com").status_code for number in range(9)]
    assert 429 in others
    assert others.count(201) == 7


def test_the_very_first_workspace_has_a_key_made(desk: Desk) -> None:
    desk.service.execute("DELETE FROM signing_keys")
    assert desk.sign_up().status_code == 201
    mail = desk.mails()[-1]
    early = desk.follow(mail)
    assert early.status_code == 503, "there is no key to sign with yet"
    assert "Retry-After" in early.headers
    desk.service.drain()
    assert desk.follow(mail).status_code == 201, "the link was not used up in vain"


def test_a_workspace_is_read_and_changed(desk: Desk) -> None:
    ada = desk.owner()
    eve = desk.member(ada)
    read = eve.client.get("/v1/workspace")
    assert read.json is not None
    assert read.json["name"] == "Acme Packaging"
    assert eve.client.patch("/v1/workspace", {"name": "X"}).status_code == 403
    tag = read.headers["ETag"]
    changed = ada.client.patch("/v1/workspace", {"time_zone": "Asia/Tokyo"}, headers={"If-Match": tag})
    assert changed.status_code == 200
    assert ada.client.patch("/v1/workspace", {"name": "X"}, headers={"If-Match": tag}).status_code == 412
    assert ada.client.patch("/v1/workspace", {"time_zone": "Asia/Tokyo"}).status_code == 200
    (event,) = desk.service.published("backroom.workspaces.workspace.changed.v1")
    assert event.data == {"name": "Acme Packaging", "time_zone": "Asia/Tokyo"}
    assert event.sequence == 2


def test_a_token_for_no_workspace_of_ours(desk: Desk) -> None:
    lost = desk.stranger.stranger(desk.signer.issue("nowhere", "user:ada", "owner"))
    assert lost.get("/v1/workspace").status_code == 404
    assert lost.get("/v1/me").status_code == 404
    assert lost.post("/v1/members", {"email": "a@b.com", "name": "A", "role": "sales"}).status_code == 404
