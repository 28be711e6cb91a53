"""Nothing that lets somebody in works twice, late, elsewhere, for something else, or after it was revoked."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import OKPKey
from sqlalchemy import Engine, event, select, text
from sqlalchemy.exc import ProgrammingError

from services.workspaces import keys, links
from services.workspaces.api import limits
from services.workspaces.models import ApiKey, AuditEntry, Link, Member, UserSession, Workspace
from services.workspaces.settings import settings
from shared.context import SYSTEM, current, use
from shared.db import Database, unit_of_work
from shared.outbound import vault
from tests.services.workspaces.desk import Admitted, Desk

KEY = {"name": "Robot", "role": "owner", "scopes": ["workspaces:read"]}


def refused(answer: Any) -> None:
    assert answer.status_code == 401, (answer.status_code, answer.json)
    assert answer.json["code"] == "credential_refused"
    assert answer.json["detail"] == "Ask for a new one."


def key_of(owner: Admitted, **fields: Any) -> dict[str, Any]:
    answer = owner.client.post("/v1/api-keys", {**KEY, **fields})
    assert answer.status_code == 201, answer.json
    assert answer.json is not None
    return answer.json


# -- links -----------------------------------------------------------------------------------------------------


def test_a_link_works_once(desk: Desk) -> None:
    desk.sign_up()
    mail = desk.mails()[-1]
    assert desk.follow(mail).status_code == 201
    refused(desk.follow(mail))
    assert desk.service.query("SELECT count(*) FROM sessions")[0][0] == 1


def test_of_many_clicks_at_once_one_is_let_in(desk: Desk) -> None:
    desk.sign_up()
    mail = desk.mails()[-1]
    codes = desk.service.concurrently(12, lambda _: desk.follow(mail).status_code)
    assert sorted(codes) == [201] + [401] * 11
    assert desk.service.query("SELECT count(*) FROM sessions")[0][0] == 1


def test_a_link_does_not_work_late(desk: Desk) -> None:
    desk.sign_up()
    desk.service.execute("UPDATE links SET expires_at = clock_timestamp()")
    refused(desk.follow(desk.mails()[-1]))


@pytest.mark.parametrize(("purpose", "minutes"), [("sign_in", 15), ("invitation", 7 * 24 * 60)])
def test_links_are_good_for_as_long_as_their_purpose_needs(desk: Desk, purpose: str, minutes: int) -> None:
    ada = desk.owner()
    desk.member(ada)
    rows = desk.service.query(
        "SELECT extract(epoch FROM expires_at - created_at) FROM links WHERE purpose = :p", p=purpose
    )
    assert all(abs(float(seconds) - minutes * 60) < 30 for (seconds,) in rows)
    assert rows


def test_a_link_does_not_work_in_another_workspace(desk: Desk) -> None:
    desk.sign_up("ada@acme.com")
    acme = desk.mails()[-1]
    desk.sign_up("bob@globex.com")
    for elsewhere in ("globex", "nowhere", "system", "public", "", "ac%6de", "acme\x01"):
        answer = desk.stranger.post("/v1/sessions", {"token": acme.token, "workspace": elsewhere})
        refused(answer)
    assert desk.follow(acme).status_code == 201


def test_a_new_link_revokes_the_one_before(desk: Desk) -> None:
    desk.sign_up()
    first = desk.mails()[-1]
    desk.stranger.post("/v1/links", {"email": first.email})
    desk.service.drain()
    refused(desk.follow(first))
    assert desk.follow(desk.mails()[-1]).status_code == 201


def test_many_new_links_at_once_leave_one_that_works(desk: Desk) -> None:
    desk.sign_up()

    def issue(_: int) -> None:
        with use(tenant_id="acme"), unit_of_work() as session:
            links.issue(session, session.scalars(select(Member)).one(), "sign_in")

    with desk.service.current():
        desk.service.concurrently(6, issue)
    codes = [desk.follow(mail).status_code for mail in desk.mails()]
    assert sorted(codes) == [201] + [401] * 6


def test_a_link_is_for_its_purpose_alone(desk: Desk) -> None:
    desk.sign_up()
    mail = desk.mails()[-1]
    with use(tenant_id="acme"), unit_of_work() as session:
        assert links.consume(session, mail.token, "invitation") is None
    refused(desk.refresh(f"br_acme_{mail.token}"))
    refused(desk.stranger.post("/v1/tokens", {"key": f"bk_acme_{mail.token}"}))
    assert desk.follow(mail).status_code == 201


def test_a_sealed_link_opens_for_its_workspace_alone(desk: Desk) -> None:
    desk.sign_up()
    (row,) = desk.service.published("backroom.workspaces.link.issued.v1")
    for tenant, purpose in (("globex", links.URL), ("acme", "shippo.token")):
        with pytest.raises(vault.VaultError):
            vault.open_(tenant, purpose, row.data["url_sealed"])


def test_a_member_who_is_disabled_is_let_in_no_more(desk: Desk) -> None:
    ada = desk.owner()
    eve = desk.member(ada)
    desk.stranger.post("/v1/links", {"email": "eve@example.com", "workspace": "acme"})
    desk.service.drain()
    mail = desk.mails()[-1]
    assert ada.client.post(f"/v1/members/{eve.member['id']}/disable").status_code == 200
    refused(desk.follow(mail))
    refused(desk.refresh(eve.refresh_token))
    assert desk.revoked() == [("member", eve.member["id"])]
    before = len(desk.mails())
    desk.stranger.post("/v1/links", {"email": "eve@example.com", "workspace": "acme"})
    desk.service.drain()
    assert len(desk.mails()) == before, "nor is it mailed a link"


@pytest.mark.parametrize(("state", "owner", "others"), [
    ("active", 201, 201), ("canceled", 201, 201), ("frozen", 201, 201), ("suspended", 201, 401), ("archived", 401, 401),
])  # fmt: skip
def test_the_state_of_the_workspace_says_who_is_let_in(desk: Desk, state: str, owner: int, others: int) -> None:
    ada = desk.owner()
    eve = desk.member(ada)
    key = key_of(ada, role="sales")
    mails = []
    for email in ("ada@acme.com", "eve@example.com"):
        desk.stranger.post("/v1/links", {"email": email})
        desk.service.drain()
        mails.append(desk.mails()[-1])
    desk.service.execute("UPDATE workspaces SET state = :state", state=state)
    assert [desk.follow(mail).status_code for mail in mails] == [owner, others]
    refreshed = [desk.refresh(one.refresh_token).status_code for one in (ada, eve)]
    assert refreshed == [{201: 200}.get(code, code) for code in (owner, others)]
    exchanged = desk.stranger.post("/v1/tokens", {"key": key["secret"]}).status_code
    assert exchanged == {201: 200}.get(others, others)


# -- sessions --------------------------------------------------------------------------------------------------


def test_a_refresh_token_works_once_and_its_second_use_ends_the_session(desk: Desk) -> None:
    ada = desk.owner()
    answer = desk.refresh(ada.refresh_token)
    assert answer.status_code == 200
    assert answer.json is not None
    following = answer.json["refresh_token"]
    refused(desk.refresh(ada.refresh_token))
    refused(desk.refresh(following))
    assert desk.revoked() == [("session", ada.session_id)]
    (row,) = desk.service.query("SELECT ended_because FROM sessions")
    assert row.ended_because == "reused"


def test_a_stranger_cannot_end_a_session_by_knowing_its_id(desk: Desk) -> None:
    ada = desk.owner()
    for guess in (f"br_acme_{ada.session_id}.x", "br_acme_x.y", f"br_acme_.{ada.session_id}"):
        refused(desk.refresh(guess))
    assert desk.refresh(ada.refresh_token).status_code == 200


def test_of_many_refreshes_at_once_one_gets_tokens(desk: Desk) -> None:
    ada = desk.owner()
    codes = desk.service.concurrently(8, lambda _: desk.refresh(ada.refresh_token).status_code)
    assert sorted(codes) == [200] + [401] * 7


@pytest.mark.parametrize("how", ["late", "elsewhere", "signed out", "everywhere", "garbage"])
def test_refresh_tokens_that_are_refused(desk: Desk, how: str) -> None:
    ada = desk.owner()
    token = ada.refresh_token
    match how:
        case "late":
            desk.service.execute("UPDATE sessions SET expires_at = clock_timestamp()")
        case "elsewhere":
            desk.sign_up("bob@globex.com")
            token = token.replace("br_acme_", "br_globex_")
        case "signed out":
            assert ada.client.delete(f"/v1/sessions/{ada.session_id}").status_code == 204
            assert desk.revoked() == [("session", ada.session_id)]
        case "everywhere":
            assert ada.client.delete("/v1/sessions").status_code == 204
            assert desk.revoked() == [("member", ada.member["id"])]
        case "garbage":
            for bad in ("br_system_" + token.split("_")[2], token[:-1], token + "x", "br__x.y", "bk" + token[2:], "._"):
                refused(desk.refresh(bad))
            return
    refused(desk.refresh(token))


def test_one_signs_out_of_one_s_own_sessions_alone(desk: Desk) -> None:
    ada = desk.owner()
    eve = desk.member(ada)
    assert ada.client.delete(f"/v1/sessions/{eve.session_id}").status_code == 404
    listed = ada.client.get("/v1/sessions").json
    assert listed is not None
    assert [(item["id"], item["current"]) for item in listed["items"]] == [(ada.session_id, True)]
    assert desk.refresh(eve.refresh_token).status_code == 200


# -- API keys --------------------------------------------------------------------------------------------------


def test_an_api_key_gets_tokens_within_its_scopes(desk: Desk) -> None:
    ada = desk.owner()
    made = key_of(ada, scopes=["workspaces:read"])
    token = desk.stranger.post("/v1/tokens", {"key": made["secret"]}).json
    assert token is not None
    robot = desk.stranger.stranger(token["access_token"])
    me = robot.get("/v1/me").json
    assert me is not None
    assert (me["principal"], me["session_id"], me["scopes"]) == (f"key:{made['id']}", made["id"], ["workspaces:read"])
    assert me["member"] is None
    assert robot.get("/v1/members").status_code == 200
    answer = robot.patch("/v1/workspace", {"name": "X"})
    assert answer.status_code == 403
    assert answer.json is not None
    assert answer.json["scopes"] == ["workspaces:write"]


def test_an_api_key_makes_no_keys(desk: Desk) -> None:
    made = key_of(desk.owner(), scopes=["workspaces:write"])
    token = desk.stranger.post("/v1/tokens", {"key": made["secret"]}).json
    assert token is not None
    robot = desk.stranger.stranger(token["access_token"])
    assert robot.post("/v1/api-keys", {**KEY, "scopes": ["shipping:write"]}).status_code == 403
    assert robot.get("/v1/sessions").status_code == 403


@pytest.mark.parametrize("how", ["revoked", "late", "elsewhere", "garbage"])
def test_api_keys_that_are_refused(desk: Desk, how: str) -> None:
    ada = desk.owner()
    made = key_of(ada, expires_at="2100-01-01T00:00:00Z")
    secret = made["secret"]
    assert desk.stranger.post("/v1/tokens", {"key": secret}).status_code == 200
    match how:
        case "revoked":
            assert ada.client.delete(f"/v1/api-keys/{made['id']}").status_code == 204
            assert desk.revoked() == [("api_key", made["id"])]
        case "late":
            desk.service.execute("UPDATE api_keys SET expires_at = clock_timestamp()")
        case "elsewhere":
            desk.sign_up("bob@globex.com")
            secret = secret.replace("bk_acme_", "bk_globex_")
        case "garbage":
            for bad in (secret[:-1], secret + "x", "bk_system_x", "bk_acme_", "bk_acme", "br" + secret[2:], "x"):
                refused(desk.stranger.post("/v1/tokens", {"key": bad}))
            return
    refused(desk.stranger.post("/v1/tokens", {"key": secret}))


def test_a_token_outlives_no_key(desk: Desk) -> None:
    made = key_of(desk.owner(), expires_at="2100-01-01T00:00:00Z")
    desk.service.execute("UPDATE api_keys SET expires_at = clock_timestamp() + interval '90 seconds'")
    token = desk.stranger.post("/v1/tokens", {"key": made["secret"]}).json
    assert token is not None
    assert 60 < token["expires_in"] <= 90


def test_secrets_are_nowhere_in_the_database(desk: Desk) -> None:
    ada = desk.owner()
    made = key_of(ada)
    mail = desk.mails()[-1]
    halves = ada.refresh_token.split("_", 2)[2].split(".")
    secrets = [mail.token, made["secret"].split("_", 2)[2], ada.refresh_token, *halves]
    tables = desk.service.query(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
    )
    for (table,) in tables:
        rows = "\n".join(row[0] for row in desk.service.query(f"SELECT {table}::text FROM {table}"))
        assert not [secret for secret in secrets if secret in rows], table


# -- access tokens ---------------------------------------------------------------------------------------------


def encoded(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def test_an_access_token_says_what_revocation_needs(desk: Desk) -> None:
    ada = desk.owner()
    claims = json.loads(base64.urlsafe_b64decode(ada.client.token.split(".")[1] + "=="))
    assert claims["sub"] == f"user:{ada.member['id']}"
    assert (claims["sid"], claims["tenant"], claims["role"]) == (ada.session_id, "acme", "owner")
    assert claims["exp"] - claims["iat"] == 600
    assert "scope" not in claims


@pytest.mark.parametrize("forge", ["none", "hs256", "tenant", "other key", "role"])
def test_tampered_access_tokens(desk: Desk, forge: str) -> None:
    ada = desk.owner()
    head, body, signature = ada.client.token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    header = json.loads(base64.urlsafe_b64decode(head + "=="))
    public = keys.jwks()["keys"][0]
    match forge:
        case "none":
            token = f"{encoded({**header, 'alg': 'none'})}.{body}."
        case "hs256":
            signing_input = f"{encoded({**header, 'alg': 'HS256'})}.{body}"
            for secret in (base64.urlsafe_b64decode(public["x"] + "="), json.dumps(public).encode()):
                digest = hmac.digest(secret, signing_input.encode(), "sha256")
                token = f"{signing_input}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"
                assert desk.stranger.stranger(token).get("/v1/me").status_code == 401
        case "tenant":
            token = f"{head}.{encoded({**claims, 'tenant': 'globex'})}.{signature}"
        case "role":
            token = f"{head}.{encoded({**claims, 'role': 'owner', 'sub': 'user:eve'})}.{signature}"
        case _:
            mine = OKPKey.generate_key("Ed25519")
            token = jwt.encode(header, claims, mine, algorithms=["Ed25519"])
    assert desk.stranger.stranger(token).get("/v1/me").status_code == 401
    assert ada.client.get("/v1/me").status_code == 200


def test_what_is_no_access_token_is_none(desk: Desk) -> None:
    ada = desk.owner()
    made = key_of(ada)
    for credential in (ada.refresh_token, made["secret"], desk.mails()[-1].token):
        assert desk.stranger.stranger(credential).get("/v1/me").status_code == 401


def test_tokens_from_the_data_directory_hold_as_well(desk: Desk) -> None:
    ada = desk.owner()
    developer = desk.stranger.stranger(desk.signer.issue("acme", f"user:{ada.member['id']}", "owner"))
    assert developer.get("/v1/me").status_code == 200


# -- enumeration -----------------------------------------------------------------------------------------------


def work_of(call: Callable[[], Any]) -> tuple[Any, list[str]]:
    """What a call answers, and every statement that it has run."""
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        return call(), statements
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def same(answers: list[Any]) -> None:
    own = ("X-Request-Id", "traceparent")
    shown = [
        (
            one.status_code,
            one.data.replace(one.headers["X-Request-Id"].encode(), b""),
            sorted((name, value) for name, value in one.headers if name not in own),
        )
        for one in answers
    ]
    assert all(each == shown[0] for each in shown), shown


def test_asking_for_a_link_tells_nothing(desk: Desk) -> None:
    ada = desk.owner("ada@acme.com")
    desk.member(ada, email="eve@example.com")
    disabled = desk.member(ada, email="bob@example.com")
    ada.client.post(f"/v1/members/{disabled.member['id']}/disable")
    asked = [
        {"email": "ada@acme.com"},
        {"email": "ada@acme.com", "workspace": "acme"},
        {"email": "bob@example.com", "workspace": "acme"},
        {"email": "nobody@example.com"},
        {"email": "nobody@example.com", "workspace": "acme"},
        {"email": "eve@example.com", "workspace": "nowhere"},
        {"email": "eve@example.com", "workspace": "system"},
    ]
    done = [work_of(lambda body=body: desk.stranger.post("/v1/links", body)) for body in asked]  # type: ignore[misc]
    same([answer for answer, _ in done])
    assert done[0][0].status_code == 202
    assert all(statements == done[0][1] for _, statements in done)
    assert done[0][1]
    before = len(desk.mails())
    desk.service.drain()
    sent = [(mail.email, mail.tenant_id) for mail in desk.mails()[before:]]
    assert set(sent) == {("ada@acme.com", "acme")}


def test_the_limit_tells_nothing_either(desk: Desk) -> None:
    desk.owner("ada@acme.com")
    answers = {
        email: [desk.stranger.post("/v1/links", {"email": email}) for _ in range(7)]
        for email in ("ada@acme.com", "nobody@example.com")
    }
    codes = [[answer.status_code for answer in each] for each in answers.values()]
    assert codes[0] == codes[1] == [202] * 5 + [429] * 2
    assert all(0 < int(each[-1].headers["Retry-After"]) <= 180 for each in answers.values())
    desk.service.execute("UPDATE request_limits SET empty_at = empty_at - interval '200 seconds'")
    assert desk.stranger.post("/v1/links", {"email": "ADA@acme.com"}).status_code == 202


def test_clients_are_limited_whatever_the_address(desk: Desk) -> None:
    codes = [desk.stranger.post("/v1/links", {"email": f"{n}@example.com"}).status_code for n in range(35)]
    assert codes[:30] == [202] * 30
    assert set(codes[31:]) <= {202, 429}
    assert 429 in codes


@pytest.mark.parametrize("path", ["/v1/sessions", "/v1/sessions/refresh", "/v1/tokens"])
def test_whose_credentials_are_wrong_has_to_wait(desk: Desk, path: str) -> None:
    desk.owner()
    bodies = {
        "/v1/sessions": {"token": "x", "workspace": "acme"},
        "/v1/sessions/refresh": {"refresh_token": "br_acme_x.y"},
        "/v1/tokens": {"key": "bk_acme_x"},
    }
    codes = [desk.stranger.post(path, bodies[path]).status_code for _ in range(35)]
    assert codes[:30] == [401] * 30
    assert 429 in codes
    assert desk.stranger.post("/v1/sessions/refresh", {"refresh_token": "br_acme_a.b"}).status_code == 429


def test_wrong_credentials_tell_nothing_about_workspaces(desk: Desk) -> None:
    desk.owner()
    done = [
        work_of(lambda name=name: desk.stranger.post("/v1/tokens", {"key": f"bk_{name}_x"}))  # type: ignore[misc]
        for name in ("acme", "nowhere")
    ]
    same([answer for answer, _ in done])
    assert done[0][1] == done[1][1]


@pytest.mark.parametrize(
    ("proxies", "forwarded", "counted"),
    [
        (0, "6.6.6.6", "127.0.0.1"),
        (1, "6.6.6.6, 9.9.9.9", "9.9.9.9"),
        (2, "6.6.6.6, 9.9.9.9, 10.0.0.1", "9.9.9.9"),
        (2, "9.9.9.9", "9.9.9.9"),
        (1, "2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        (1, "::ffff:9.9.9.9", "9.9.9.9"),
        (1, "", "127.0.0.1"),
    ],
)
def test_clients_cannot_choose_where_they_come_from(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, proxies: int, forwarded: str, counted: str
) -> None:
    monkeypatch.setenv("WORKSPACES_TRUSTED_PROXIES", str(proxies))
    settings.cache_clear()
    with desk.web.test_request_context(
        "/", headers={"X-Forwarded-For": forwarded}, environ_base={"REMOTE_ADDR": "127.0.0.1"}
    ):
        assert limits.client() == counted


# -- the wall --------------------------------------------------------------------------------------------------


def test_no_row_is_seen_from_another_workspace(desk: Desk) -> None:
    ada = desk.owner("ada@acme.com")
    key_of(ada)
    desk.owner("bob@globex.com")
    for table in (Workspace, Member, Link, UserSession, ApiKey, AuditEntry):
        with use(tenant_id="globex"), unit_of_work() as session:
            assert {row.tenant_id for row in session.scalars(select(table))} <= {"globex"}
        with use(tenant_id="acme"), unit_of_work() as session:
            assert {row.tenant_id for row in session.scalars(select(table))} == {"acme"}


def test_every_table_has_the_wall(desk: Desk) -> None:
    rows = desk.service.query(
        "SELECT relname, relrowsecurity FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' "
        "AND relname IN ('workspaces', 'members', 'links', 'sessions', 'api_keys', 'signing_keys', 'request_limits', "
        "'audit_log')"
    )
    assert len(rows) == 8
    assert all(row.relrowsecurity for row in rows)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_log SET action = 'x'",
        "DELETE FROM audit_log",
        "DELETE FROM signing_keys",
        "UPDATE signing_keys SET signs_from = now()",
        "INSERT INTO signing_keys SELECT 'x', 'acme', '{}', '', now(), now()",
    ],
)
def test_what_serves_requests_rewrites_neither_history_nor_keys(desk: Desk, statement: str) -> None:
    desk.owner()
    with pytest.raises(ProgrammingError, match="permission denied"), use(tenant_id="acme"), unit_of_work() as session:
        session.execute(text(statement))


def test_nothing_that_a_request_does_needs_the_role_that_sees_all(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """An API may log in as a member of `backroom_app` alone."""
    everything = Database.system.fget
    assert everything is not None

    def system(self: Database) -> Engine:
        assert not current().in_request
        return everything(self)

    monkeypatch.setattr(Database, "system", property(system))
    ada = desk.owner()
    eve = desk.member(ada)
    made = key_of(ada)
    assert desk.stranger.post("/v1/links", {"email": "eve@example.com"}).status_code == 202
    assert desk.refresh(eve.refresh_token).status_code == 200
    assert desk.stranger.post("/v1/tokens", {"key": made["secret"]}).status_code == 200
    assert desk.stranger.post("/v1/tokens", {"key": "bk_acme_x"}).status_code == 401
    assert desk.stranger.get("/.well-known/jwks.json").status_code == 200
    assert ada.client.post(f"/v1/members/{eve.member['id']}/disable").status_code == 200
    for path in ("/v1/me", "/v1/members", "/v1/sessions", "/v1/api-keys", "/v1/audit", "/v1/workspace"):
        assert ada.client.get(path).status_code == 200


def test_neighbors_reach_nothing(desk: Desk) -> None:
    ada = desk.owner("ada@acme.com")
    eve = desk.member(ada)
    made = key_of(ada)
    bob = desk.owner("bob@globex.com").client
    for method, path in [
        ("GET", f"/v1/members/{eve.member['id']}"),
        ("PATCH", f"/v1/members/{eve.member['id']}"),
        ("POST", f"/v1/members/{eve.member['id']}/disable"),
        ("POST", f"/v1/members/{eve.member['id']}/enable"),
        ("POST", f"/v1/members/{eve.member['id']}/invitation"),
        ("DELETE", f"/v1/sessions/{ada.session_id}"),
        ("DELETE", f"/v1/api-keys/{made['id']}"),
    ]:
        body = {"name": "X"} if method == "PATCH" else None
        assert bob.request(method, path, body).status_code == 404, path
    for path in ("/v1/members", "/v1/sessions", "/v1/api-keys", "/v1/audit"):
        listed = bob.get(path).json
        assert listed is not None
        assert "acme" not in json.dumps(listed), path


def test_the_private_half_of_a_key_is_sealed(desk: Desk) -> None:
    (row,) = desk.service.query("SELECT public, private_sealed FROM signing_keys")
    assert "d" not in row.public
    assert json.loads(vault.open_(SYSTEM, "signing_key", row.private_sealed))["d"]
    assert keys.jwks() == {"keys": [row.public]}
