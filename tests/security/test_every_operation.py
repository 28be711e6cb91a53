"""Every operation of every service refuses whoever may not call it.

Made from the documents that the services serve, so that a new operation is tested by being there. What asks for no
token at all is listed below, each with the reason why that is right.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import Callable
from typing import Any, Final

import psycopg
import pytest
from joserfc import jwt
from joserfc.jwk import OKPKey
from psycopg import sql
from werkzeug.test import TestResponse

from shared.web import Signer
from shared.web.auth import ROLES
from tests.security.conftest import ID, MARKER, OTHER, STATES, VICTIM, Served, tables

PUBLIC: Final[dict[tuple[str, str, str], str]] = {
    ("shipping", "POST", "/v1/webhooks/shippo/{tenant}"): "Shippo calls; the token in its address and the signature "
    "over the body say so. It stores what it is told, and looks at Shippo before it believes in a label.",
    ("imports", "PUT", "/v1/erp/{key_id}/samples"): "An ERP calls; the signature over method, path, time and body with "
    "the connection's secret says so.",
    ("imports", "PUT", "/v1/erp/{key_id}/stock"): "As for samples.",
    (
        "workspaces",
        "POST",
        "/v1/workspaces",
    ): "Who signs up has no token yet. It is limited per client and address, and "
    "lets nobody in before the link was followed.",
    ("workspaces", "POST", "/v1/links"): "Nor has who wants to sign in. The answer is the same for every address.",
    ("workspaces", "POST", "/v1/sessions"): "The token of the link says so, once.",
    ("workspaces", "POST", "/v1/sessions/refresh"): "The refresh token says so, once.",
    ("workspaces", "POST", "/v1/tokens"): "The API key says so.",
    ("workspaces", "POST", "/v1/webhooks/paddle"): "Paddle calls; the signature over the body says so.",
    ("workspaces", "GET", "/.well-known/jwks.json"): "Public keys, with which anybody may verify.",
    ("notifications", "GET", "/v1/unsubscribe"): "A page with a button for whoever has the mail. It changes nothing.",
    (
        "notifications",
        "POST",
        "/v1/unsubscribe",
    ): "Mail programs call (RFC 8058); the sealed token says whose mail it is, "
    "and can do nothing but turn that kind of mail off.",
}
"""Operations without a token, and why."""

EVE: Final = "0199a1b2-7c3d-7e4f-8a5b-6c7d8e9f0eee"
"""A member, though of nothing that the services here know."""

OWN: Final = {"/livez", "/readyz", "/metrics", "/openapi.json", "/problems", "/problems/<slug>"}
"""Routes of the kit. They say nothing of any workspace."""


# -- nothing is forgotten --------------------------------------------------------------------------------------


def test_what_asks_for_no_token_is_known_and_justified(served: Served) -> None:
    public = {
        (served.service.name, method, path)
        for method, path, declared in served.operations()
        if not declared["security"]
    }
    assert public == {key for key in PUBLIC if key[0] == served.service.name}


def test_every_route_is_in_the_document(served: Served) -> None:
    """Whatever else is served is the kit's own: no operation hides from the tests here."""
    documented = {path for _, path, _ in served.operations()}
    routes = {re.sub(r"<(?:[^:>]*:)?(\w+)>", r"{\1}", rule.rule): rule.rule for rule in served.web.url_map.iter_rules()}
    assert {rule for path, rule in routes.items() if path not in documented} == OWN


# -- whose token is none ---------------------------------------------------------------------------------------


def signed(signer: Signer, **changes: Any) -> str:
    """Return a token that is good but for the changes."""
    now = int(time.time())
    claims = {"aud": "backroom", "tenant": OTHER, "sub": f"user:{EVE}", "role": "owner", "iat": now, "exp": now + 60}
    return encode(signer, {**claims, "jti": "1", **changes})


def encode(signer: Signer, claims: dict[str, Any], key: OKPKey | None = None) -> str:
    ours = OKPKey.import_key(signer.private_jwk())
    return jwt.encode({"alg": "Ed25519", "kid": ours.kid}, claims, key or ours, algorithms=["Ed25519"])


def unsigned(signer: Signer, alg: str) -> str:
    """Return a good token with another algorithm: none at all, or our public key taken for a shared secret."""
    header, body, _ = signed(signer).split(".")
    header = base64.urlsafe_b64encode(json.dumps({"alg": alg}).encode()).rstrip(b"=").decode()
    secret = signer.jwks()["keys"][0]["x"].encode()
    made = hmac.new(secret, f"{header}.{body}".encode(), hashlib.sha256).digest() if alg == "HS256" else b""
    return f"{header}.{body}.{base64.urlsafe_b64encode(made).rstrip(b'=').decode()}"


def altered(signer: Signer) -> str:
    """Return a good token whose body was exchanged for that of another workspace."""
    header, _, signature = signed(signer).split(".")
    return f"{header}.{signed(signer, tenant=VICTIM).split('.')[1]}.{signature}"


NOW = int(time.time())
BAD: Final[dict[str, Callable[[Signer], str | None]]] = {
    "none": lambda signer: None,
    "empty": lambda signer: "Bearer ",
    "another scheme": lambda signer: "Basic dXNlcjpwYXNz",
    "garbage": lambda signer: "Bearer garbage",
    "garbage in three parts": lambda signer: "Bearer a.b.c",
    "expired": lambda signer: "Bearer " + signed(signer, iat=NOW - 600, exp=NOW - 60),
    "not yet valid": lambda signer: "Bearer " + signed(signer, iat=NOW + 600, exp=NOW + 900),
    "another audience": lambda signer: "Bearer " + signed(signer, aud="somebody-else"),
    "no such role": lambda signer: "Bearer " + signed(signer, role="admin"),
    "the tenant of the system": lambda signer: "Bearer " + signed(signer, tenant="system"),
    "another's key": lambda signer: "Bearer " + encode(Signer(), {}, OKPKey.generate_key("Ed25519")),
    "no algorithm": lambda signer: "Bearer " + unsigned(signer, "none"),
    "the public key as a secret": lambda signer: "Bearer " + unsigned(signer, "HS256"),
    "altered": lambda signer: "Bearer " + altered(signer),
    "a revoked session": lambda signer: "Bearer " + signed(signer, tenant="revoked", sid=str(ID)),
    "a revoked key": lambda signer: "Bearer " + signed(signer, tenant="revoked", sub=f"key:{ID}"),
    "a member's, from before": lambda signer: "Bearer " + signed(signer, tenant="revoked", sub=f"user:{ID}", iat=NOW),
}


@pytest.mark.parametrize("kind", BAD)
def test_credentials_that_are_none_are_refused(served: Served, kind: str) -> None:
    authorization = BAD[kind](served.signer)
    for method, path, _ in served.guarded():
        answer = call(served, method, path, authorization)
        assert (answer.status_code, answer.json["code"]) == (401, "unauthorized"), f"{method} {path}"  # type: ignore[index]


def test_good_credentials_are_not_refused_for_what_they_are(served: Served) -> None:
    """Else the tests above would hold for a service that refuses everybody."""
    for method, path, declared in served.guarded():
        role = declared.get("x-roles", ROLES)[0]
        token = signed(served.signer, tenant="revoked", sid="another", role=role, iat=int(time.time()) + 3)
        assert call(served, method, path, f"Bearer {token}").status_code not in (401, 403), f"{method} {path}"


# -- who may not -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_roles_that_are_not_named_are_refused(served: Served, role: str) -> None:
    for method, path, declared in served.guarded():
        if role not in declared.get("x-roles", ROLES):
            answer = call(served, method, path, f"Bearer {signed(served.signer, role=role)}")
            assert (answer.status_code, answer.json["code"]) == (403, "forbidden"), f"{method} {path}"  # type: ignore[index]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("role", ["owner", "manager"])
def test_workspaces_that_are_not_in_good_standing_are_refused(served: Served, state: str, role: str) -> None:
    for method, path, declared in served.guarded():
        if role not in declared.get("x-roles", ROLES):
            continue
        answer = call(served, method, path, f"Bearer {signed(served.signer, tenant=state, role=role)}")
        code = answer.json["code"] if answer.status_code == 403 and answer.json else None
        expected = f"workspace_{state}" if forbids(state, method, role, declared["x-standing"]) else None
        assert code == expected, f"{method} {path}: {answer.status_code}"


def forbids(state: str, method: str, role: str, standing: str) -> bool:
    """As docs/workspaces.md has it."""
    if state == "archived":
        return True
    if standing == "any":
        return False
    return method != "GET" or (state == "suspended" and role != "owner")


# -- whose data is not theirs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_nobody_sees_or_changes_what_is_another_workspaces(served: Served, role: str) -> None:
    """Every operation is called with the victim's ids: its data is in no answer, and is as it was afterwards."""
    before = everything(served)
    reached = 0
    for method, path, declared in served.guarded():
        body = example(served, declared)
        answer = call(served, method, path, f"Bearer {signed(served.signer, role=role)}", body)
        where = f"{method} {path}: {answer.status_code}"
        assert answer.status_code < 500, where
        if "{" in path and answer.status_code < 300:
            assert not answer.data, where
        if not answer.is_streamed or answer.content_type != "text/event-stream":
            assert MARKER not in answer.text, where
        answer.close()
        reached += answer.status_code != 400
    assert everything(served) == before
    assert reached, "some bodies at least must be good enough to be looked at"


def everything(served: Served) -> dict[str, list[Any]]:
    """Return all rows of the victim, table by table."""
    found = {}
    with psycopg.connect(served.url) as owner:
        for table, columns in tables(served.url).items():
            if any(name == "tenant_id" for name, *_ in columns):
                statement = sql.SQL("SELECT one::text FROM {} AS one WHERE tenant_id = %s ORDER BY 1")
                found[table] = owner.execute(statement.format(sql.Identifier(table)), (VICTIM,)).fetchall()
    assert all(found.values()), "the victim has a row in each"
    return found


def call(served: Served, method: str, path: str, authorization: str | None, body: Any = None) -> TestResponse:
    """Call an operation with the victim's id in its path."""
    headers = {"Idempotency-Key": str(ID), **({} if authorization is None else {"Authorization": authorization})}
    return served.web.test_client().open(
        re.sub(r"\{(\w+)\}", str(ID), path), method=method, headers=headers, json=body, buffered=False
    )


def example(served: Served, declared: dict[str, Any]) -> Any:
    """Return a body: the document's example, or the least that its schema asks for, with the victim's id for ids."""
    content = declared.get("requestBody", {}).get("content", {}).get("application/json", {})
    if "example" in content:
        return content["example"]
    document = served.web.test_client().get("/openapi.json").json
    assert document is not None
    return least(content.get("schema", {}), document["components"]["schemas"]) if content else None


def least(schema: dict[str, Any], known: dict[str, Any]) -> Any:
    """Return the least value that a schema allows, as far as its patterns do."""
    if "$ref" in schema:
        return least(known[schema["$ref"].rpartition("/")[2]], known)
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in schema:
            return least(schema[choice][0], known)
    if "const" in schema or "enum" in schema:
        return schema.get("const", schema.get("enum", [None])[0])
    kind = schema.get("type")
    if kind == "object":
        return {name: least(schema["properties"][name], known) for name in schema.get("required", ())}
    if kind == "array":
        return [least(schema.get("items", {}), known)] * max(1, schema.get("minItems", 1))
    if kind == "string":
        return str(ID) if schema.get("format") == "uuid" else "a" * max(1, schema.get("minLength", 1))
    return {"integer": schema.get("minimum", 1), "number": schema.get("minimum", 1), "boolean": True}.get(kind or "")
