"""Members: who may do what to whom, what others are told, and how many there may be."""

from __future__ import annotations

from typing import Any

import pytest

from services.workspaces.service import service
from shared.events.contracts.imports import MemberRequested
from shared.testing.events import deliver
from tests.services.workspaces.desk import Desk


def told(desk: Desk) -> list[tuple[str, str, int]]:
    rows = desk.service.published("backroom.workspaces.member.changed.v1")
    return [(row.data["role"], row.data["status"], row.sequence) for row in rows]


def test_somebody_is_invited_and_comes(desk: Desk) -> None:
    ada = desk.owner()
    answer = ada.client.post("/v1/members", {"email": "eve@example.com", "name": "Eve Example", "role": "sales"})
    assert answer.status_code == 201
    assert answer.json is not None
    assert answer.json["status"] == "invited"
    mail = desk.mails()[-1]
    assert (mail.email, mail.purpose, mail.invited_by) == ("eve@example.com", "invitation", "Ada Example")
    eve = desk.admitted(desk.follow(mail, **{"User-Agent": "Firefox\u0020on Linux"}), "acme")
    assert eve.member["status"] == "active"
    assert told(desk)[2:] == [("sales", "invited", 1), ("sales", "active", 2)]
    listed = eve.client.get("/v1/sessions").json
    assert listed is not None
    assert listed["items"][0]["user_agent"] == "Firefox on Linux"


@pytest.mark.parametrize("role", ["sales", "fulfillment"])
def test_others_than_managers_look_after_nobody(desk: Desk, role: str) -> None:
    ada = desk.owner()
    eve = desk.member(ada, role)
    assert eve.client.get("/v1/members").status_code == 403
    assert eve.client.post("/v1/members", {"email": "a@b.com", "name": "A", "role": "sales"}).status_code == 403
    assert eve.client.patch(f"/v1/members/{eve.member['id']}", {"role": "manager"}).status_code == 403
    assert eve.client.get("/v1/audit").status_code == 403
    assert eve.client.post("/v1/api-keys", {}).status_code == 403


def test_a_manager_touches_everybody_but_the_owner(desk: Desk) -> None:
    ada = desk.owner()
    eve = desk.member(ada, "manager")
    bob = desk.member(eve, "sales", "bob@example.com")
    owner = f"/v1/members/{ada.member['id']}"
    assert eve.client.patch(owner, {"name": "Mallory"}).status_code == 403
    for action in ("disable", "enable", "invitation"):
        assert eve.client.post(f"{owner}/{action}").status_code == 403
    assert eve.client.patch(f"/v1/members/{bob.member['id']}", {"role": "fulfillment"}).status_code == 200
    assert eve.client.get("/v1/audit").status_code == 403
    assert eve.client.patch("/v1/workspace", {"name": "X"}).status_code == 403


def test_there_is_one_owner_for_ever(desk: Desk) -> None:
    ada = desk.owner()
    eve = desk.member(ada, "manager")
    owner = f"/v1/members/{ada.member['id']}"
    second = {"email": "x@example.com", "name": "X", "role": "owner"}
    assert ada.client.post("/v1/members", second).status_code == 400
    assert ada.client.patch(f"/v1/members/{eve.member['id']}", {"role": "owner"}).status_code == 400
    for answer in (ada.client.patch(owner, {"role": "manager"}), ada.client.post(f"{owner}/disable")):
        assert answer.status_code == 409
        assert answer.json is not None
        assert answer.json["code"] == "member_state_forbids"
    assert ada.client.patch(owner, {"name": "Ada Lovelace"}).status_code == 200


def test_an_address_is_a_member_once_whatever_its_case(desk: Desk) -> None:
    ada = desk.owner()
    desk.member(ada)
    body = {"email": "EVE@example.com", "name": "Eve", "role": "sales"}
    answer = ada.client.post("/v1/members", body)
    assert answer.status_code == 409
    assert answer.json is not None
    assert answer.json["code"] == "email_taken"
    assert desk.owner("eve@globex.com").tenant_id == "globex"
    codes = desk.service.concurrently(
        4, lambda _: ada.client.post("/v1/members", {**body, "email": "new@example.com"}).status_code
    )
    assert sorted(codes) == [201, 409, 409, 409]


def test_another_role_revokes_what_was_given_in_the_old_one(desk: Desk) -> None:
    ada = desk.owner()
    eve = desk.member(ada)
    path = f"/v1/members/{eve.member['id']}"
    tag = ada.client.get(path).headers["ETag"]
    assert ada.client.patch(path, {"role": "manager"}, headers={"If-Match": tag}).status_code == 200
    assert ada.client.patch(path, {"role": "sales"}, headers={"If-Match": tag}).status_code == 412
    assert desk.revoked() == [("member", eve.member["id"])]
    eve = desk.admitted(desk.refresh(eve.refresh_token), "acme")
    me = eve.client.get("/v1/me").json
    assert me is not None
    assert me["role"] == "manager"
    assert ada.client.patch(path, {"name": "Eve"}).status_code == 200
    assert len(desk.revoked()) == 1, "another name revokes nothing"


def test_disabled_and_enabled_again(desk: Desk) -> None:
    ada = desk.owner()
    eve = desk.member(ada)
    path = f"/v1/members/{eve.member['id']}"
    for _ in range(2):  # twice is the same as once
        assert ada.client.post(f"{path}/disable").status_code == 200
    assert told(desk)[-1] == ("sales", "disabled", 3)
    assert ada.client.post(f"{path}/enable").status_code == 200
    assert told(desk)[-1] == ("sales", "active", 4)
    desk.stranger.post("/v1/links", {"email": "eve@example.com"})
    desk.service.drain()
    assert desk.sign_in().member["id"] == eve.member["id"]
    ada.client.post("/v1/members", {"email": "new@example.com", "name": "New", "role": "sales"})
    mail = desk.mails()[-1]
    listed = ada.client.get("/v1/members?email=NEW@example.com").json
    assert listed is not None
    new = f"/v1/members/{listed['items'][0]['id']}"
    ada.client.post(f"{new}/disable")
    assert desk.follow(mail).status_code == 401
    ada.client.post(f"{new}/enable")
    assert told(desk)[-1][1] == "invited", "it never came"
    assert desk.follow(mail).status_code == 401, "what was revoked stays revoked"


def test_an_invitation_is_mailed_again_but_not_for_ever(desk: Desk) -> None:
    ada = desk.owner()
    body = {"email": "eve@example.com", "name": "Eve", "role": "sales"}
    answer = ada.client.post("/v1/members", body).json
    assert answer is not None
    first = desk.mails()[-1]
    path = f"/v1/members/{answer['id']}/invitation"
    codes = [ada.client.post(path).status_code for _ in range(4)]
    assert codes == [204, 204, 204, 429]
    assert desk.follow(first).status_code == 401
    desk.sign_in()
    assert ada.client.post(path).status_code == 409


def test_the_plan_says_how_many(desk: Desk) -> None:
    ada = desk.owner()
    bodies = [{"email": f"m{n}@example.com", "name": "M", "role": "sales"} for n in range(8)]
    codes = desk.service.concurrently(8, lambda n: ada.client.post("/v1/members", bodies[n]).status_code)
    assert sorted(codes) == [201] * 4 + [422] * 4
    listed = ada.client.get("/v1/members?status=invited&limit=1").json
    assert listed is not None
    path = f"/v1/members/{listed['items'][0]['id']}"
    assert ada.client.post(f"{path}/disable").status_code == 200
    extra = {"email": "extra@example.com", "name": "E", "role": "sales"}
    assert ada.client.post("/v1/members", extra).status_code == 201
    refused = ada.client.post(f"{path}/enable")
    assert refused.status_code == 422
    assert refused.json is not None
    assert (refused.json["type"], refused.json["limit"]) == ("/problems/plan-limit-reached", 5)


def test_members_are_listed_by_cursor(desk: Desk) -> None:
    ada = desk.owner(plan="team")
    for number in range(5):
        body = {"email": f"m{number}@example.com", "name": "M", "role": "sales"}
        assert ada.client.post("/v1/members", body).status_code == 201
    seen: list[str] = []
    path = "/v1/members?limit=2"
    while True:
        page = ada.client.get(path).json
        assert page is not None
        seen += [item["email"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        path = f"/v1/members?limit=2&cursor={page['next_cursor']}"
    assert seen == [*(f"m{number}@example.com" for number in reversed(range(5))), "ada@acme.com"]


def test_everything_is_in_the_audit_log(desk: Desk) -> None:
    ada = desk.owner()
    eve = desk.member(ada)
    path = f"/v1/members/{eve.member['id']}"
    ada.client.patch(path, {"role": "manager"})
    ada.client.post(f"{path}/disable")
    ada.client.post(f"{path}/enable")
    key = ada.client.post("/v1/api-keys", {"name": "R", "role": "sales", "scopes": ["shipping:read"]}).json
    assert key is not None
    ada.client.delete(f"/v1/api-keys/{key['id']}")
    ada.client.patch("/v1/workspace", {"name": "Acme"})
    ada.client.delete(f"/v1/sessions/{ada.session_id}")
    log = ada.client.get("/v1/audit?limit=200").json
    assert log is not None
    actions = [item["action"] for item in reversed(log["items"])]
    assert actions == [
        "workspace.created", "member.activated", "session.started",
        "member.invited", "member.activated", "session.started",
        "member.changed", "member.disabled", "member.enabled",
        "api_key.made", "api_key.revoked", "workspace.changed", "session.ended",
    ]  # fmt: skip
    assert key["secret"] not in str(log)
    by = {item["action"]: item["principal"] for item in reversed(log["items"])}
    assert by.pop("workspace.created") is None, "whoever signs up has not signed in"
    assert by.pop("member.activated") == by.pop("session.started") == f"user:{eve.member['id']}"
    assert set(by.values()) == {f"user:{ada.member['id']}"}
    changed = ada.client.get("/v1/audit?action=member.changed").json
    assert changed is not None
    assert changed["items"][0]["facts"] == {"role": "manager", "role_before": "sales"}


# -- rows of files ---------------------------------------------------------------------------------------------


def requested(desk: Desk, ada: Any, **fields: Any) -> Any:
    event = MemberRequested.example().model_copy(update={"requested_by": f"user:{ada.member['id']}", **fields})
    deliver(desk.service, event, tenant_id="acme")
    desk.service.drain()
    return desk.service.jobs(actor="invite_member")[-1]


def test_a_row_of_a_file_invites(desk: Desk) -> None:
    ada = desk.owner()
    assert requested(desk, ada).state == "succeeded"
    mail = desk.mails()[-1]
    assert (mail.email, mail.purpose, mail.invited_by) == ("eve@example.com", "invitation", "Ada Example")
    (row,) = desk.service.query("SELECT principal FROM audit_log WHERE action = 'member.invited'")
    assert row.principal == f"user:{ada.member['id']}"
    mails = len(desk.mails())
    again = requested(desk, ada, email="EVE@example.com", role="manager")
    assert (again.state, again.outcome) == ("succeeded", "skipped")
    assert len(desk.mails()) == mails
    assert [row.role for row in desk.service.query("SELECT role FROM members WHERE email ILIKE 'eve%'")] == ["sales"]


def test_a_row_for_no_workspace_of_ours_invites_nobody(desk: Desk) -> None:
    ada = desk.owner("ada@globex.com")
    assert requested(desk, ada).outcome == "skipped"
    assert desk.service.query("SELECT count(*) FROM members WHERE tenant_id = 'acme'")[0][0] == 0


def test_a_row_beyond_the_plan_fails_in_words(desk: Desk) -> None:
    ada = desk.owner()
    for number in range(4):
        assert requested(desk, ada, email=f"m{number}@example.com").state == "succeeded"
    job = requested(desk, ada, email="last@example.com")
    assert (job.state, job.failure["code"]) == ("failed", "plan_limit_reached")
    assert service.failures()["plan_limit_reached"].action


@pytest.mark.parametrize("email", ["nonsense", "a@b.com\nBcc: c@d.com", "x" * 300 + "@example.com"])
def test_a_row_without_an_address_fails_in_words(desk: Desk, email: str) -> None:
    job = requested(desk, desk.owner(), email=email)
    assert (job.state, job.failure["code"]) == ("failed", "address_unusable")
    assert len(desk.service.query("SELECT id FROM members")) == 1
