"""Keys rotate so that no token is refused meanwhile; what lets nobody in any more is deleted, and not sooner."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from services.workspaces import keys
from services.workspaces.jobs import clean_up_sign_in, watch_links
from shared.context import SYSTEM, use
from shared.db import unit_of_work
from shared.telemetry.testing import captured_logs
from tests.services.workspaces.desk import Desk


def rotate(desk: Desk, now: datetime) -> dict[str, int]:
    with use(tenant_id=SYSTEM), unit_of_work(system=True) as session:
        return keys.rotate(session, now)


def ids(desk: Desk) -> list[str]:
    return [row.id for row in desk.service.query("SELECT id FROM signing_keys ORDER BY signs_from")]


def test_a_key_is_published_before_it_signs_and_stays_until_its_tokens_are_over(desk: Desk) -> None:
    (first,) = ids(desk)
    (row,) = desk.service.query("SELECT signs_from FROM signing_keys")
    born: datetime = row.signs_from
    due = born + timedelta(days=30)
    assert rotate(desk, due - timedelta(hours=2)) == {"made": 0, "forgotten": 0}
    assert rotate(desk, due - timedelta(minutes=30)) == {"made": 1, "forgotten": 0}
    assert rotate(desk, due - timedelta(minutes=29)) == {"made": 0, "forgotten": 0}
    _, second = ids(desk)
    (starts,) = desk.service.query("SELECT signs_from FROM signing_keys WHERE id = :id", id=second)
    assert starts.signs_from >= due - timedelta(minutes=30) + timedelta(hours=1), "published an hour before"
    assert [key["kid"] for key in keys.jwks()["keys"]] == [first, second]
    assert rotate(desk, starts.signs_from + timedelta(minutes=59)) == {"made": 0, "forgotten": 0}
    assert rotate(desk, starts.signs_from + timedelta(minutes=61)) == {"made": 0, "forgotten": 1}
    assert ids(desk) == [second]


def test_rotating_at_once_makes_one_key(desk: Desk) -> None:
    desk.service.execute("DELETE FROM signing_keys")
    made = desk.service.concurrently(5, lambda _: rotate(desk, datetime.now(UTC))["made"])
    assert sorted(made) == [0, 0, 0, 0, 1]
    assert len(ids(desk)) == 1


def test_no_token_is_refused_while_keys_rotate(desk: Desk) -> None:
    ada = desk.owner()
    known = desk.web.extensions["backroom"].keys
    desk.service.execute("UPDATE signing_keys SET signs_from = signs_from - interval '30 days'")
    assert rotate(desk, datetime.now(UTC))["made"] == 1
    known.refresh()
    assert ada.client.get("/v1/me").status_code == 200
    old = desk.admitted(desk.refresh(ada.refresh_token), "acme")
    assert len(keys.jwks()["keys"]) == 2
    desk.service.execute("UPDATE signing_keys SET signs_from = signs_from - interval '1 hour'")  # it is time
    new = desk.admitted(desk.refresh(old.refresh_token), "acme")
    assert new.client.token.split(".")[0] != old.client.token.split(".")[0], "the next key signs"
    for signed_in in (old, new):
        assert signed_in.client.get("/v1/me").status_code == 200


def test_the_public_keys_may_be_kept_for_a_minute(desk: Desk) -> None:
    answer = desk.stranger.get("/.well-known/jwks.json")
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "public, max-age=60"
    assert answer.json == keys.jwks()
    assert answer.json is not None
    assert set(answer.json["keys"][0]) == {"kty", "crv", "x", "kid", "use", "alg"}
    tag = answer.headers["ETag"]
    assert desk.stranger.get("/.well-known/jwks.json", headers={"If-None-Match": tag}).status_code == 304


@pytest.mark.parametrize("how", ["used_at", "revoked_at", "expires_at"])
def test_links_are_deleted_a_day_after_they_were_of_use(desk: Desk, how: str) -> None:
    desk.sign_up()
    for hours, left in ((23, 1), (25, 0)):
        desk.service.execute(f"UPDATE links SET {how} = now() - make_interval(hours => {hours})")
        job = desk.service.run_job(clean_up_sign_in, tenant_id=SYSTEM)
        assert job.state == "succeeded", job.failure
        assert job.result["links"] == 1 - left
        assert desk.service.query("SELECT count(*) FROM links")[0][0] == left


def test_sessions_and_limits_are_deleted_when_they_are_over(desk: Desk) -> None:
    ada = desk.owner()
    desk.service.run_job(clean_up_sign_in, tenant_id=SYSTEM)
    assert desk.refresh(ada.refresh_token).status_code == 200, "a live one stays"
    assert desk.service.query("SELECT count(*) FROM request_limits")[0][0] > 0
    desk.service.execute("UPDATE request_limits SET empty_at = now() - interval '1 second'")
    desk.service.execute("UPDATE sessions SET expires_at = now() - interval '31 days'")
    job = desk.service.run_job(clean_up_sign_in, tenant_id=SYSTEM)
    assert (job.result["sessions"], job.result["limits"]) == (1, 2)


def test_a_flood_of_links_is_noticed(desk: Desk) -> None:
    desk.owner("ada@acme.com")
    desk.owner("bob@globex.com")
    flood = (
        "INSERT INTO links (id, tenant_id, member_id, purpose, token_hash, expires_at, revoked_at) "
        "SELECT gen_random_uuid(), tenant_id, id, 'sign_in', n::text, now(), now() "
        "FROM members, generate_series(1, 60) n WHERE tenant_id = 'acme'"
    )
    assert desk.service.run_job(watch_links, tenant_id=SYSTEM).result == {"workspaces": 0}
    desk.service.execute(flood)
    with captured_logs() as logs:
        assert desk.service.run_job(watch_links, tenant_id=SYSTEM).result == {"workspaces": 1}
    (said,) = [line for line in logs if line["event"] == "links_issued_abnormally"]
    assert (said["level"], said["workspace"], said["issued"], said["members"]) == ("error", "acme", 61, 1)


def test_links_of_an_address_are_issued_once_however_often_the_look_is_run(desk: Desk) -> None:
    desk.sign_up("ada@acme.com")
    desk.sign_up("ada@acme.com", subdomain="second")
    before = len(desk.mails())
    desk.stranger.post("/v1/links", {"email": "Ada@acme.com"})
    (job,) = desk.service.jobs(actor="find_members")
    assert job.tenant_id == "public"
    desk.service.run(job.id)
    desk.service.execute("UPDATE jobs SET state = 'scheduled', finished_at = NULL WHERE id = :id", id=job.id)
    desk.service.drain()
    assert sorted(mail.tenant_id for mail in desk.mails()[before:]) == ["acme", "second"]
