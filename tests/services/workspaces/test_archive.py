"""Nothing stays that lets anybody into an archived workspace."""

from __future__ import annotations

from services.workspaces.archive import destroy_credentials
from shared.context import use
from shared.db import unit_of_work
from tests.services.workspaces.desk import Desk

KEY = {"name": "Robot", "role": "sales", "scopes": ["shipping:read"]}


def test_sessions_links_and_keys_end(desk: Desk) -> None:
    ada = desk.owner()
    eve = desk.member(ada)
    key = ada.client.post("/v1/api-keys", KEY).json
    assert key is not None
    ada.client.post("/v1/members", {"email": "bob@example.com", "name": "Bob Example", "role": "sales"})
    unused = desk.mails()[-1]
    with use(tenant_id=ada.client.tenant_id), unit_of_work() as session:
        assert destroy_credentials(session) == 4, "two sessions, a key, an invitation"
    assert [desk.refresh(one.refresh_token).status_code for one in (ada, eve)] == [401, 401]
    assert desk.follow(unused).status_code == 401
    assert desk.stranger.post("/v1/tokens", {"key": key["secret"]}).status_code == 401
    assert ("api_key", key["id"]) in desk.revoked()
    with use(tenant_id=ada.client.tenant_id), unit_of_work() as session:
        assert destroy_credentials(session) == 0


def test_who_may_not_write_may_still_leave(desk: Desk) -> None:
    """In a frozen workspace a stolen credential can be taken back, and a member who has left be shut out."""
    # A workspace of its own: what is refused is known by heart for a while, and other tests share the app.
    ada = desk.owner("ada@frosty.example", subdomain="frosty")
    eve = desk.member(ada)
    key = ada.client.post("/v1/api-keys", KEY).json
    assert key is not None
    desk.service.execute(
        "INSERT INTO standings (tenant_id, state, sequence, changed_at) VALUES (:tenant, 'frozen', 9, now())",
        tenant=ada.client.tenant_id,
    )
    writes = lambda: ada.client.post("/v1/api-keys", KEY).status_code  # noqa: E731
    desk.service.wait_until(lambda: writes() == 403)
    assert ada.client.delete(f"/v1/api-keys/{key['id']}").status_code == 204
    assert ada.client.post(f"/v1/members/{eve.member['id']}/disable").status_code == 200
    assert ada.client.delete("/v1/sessions").status_code == 204
