"""Who asks: good tokens pass, every known attack on them does not, and roles hold."""

from __future__ import annotations

import base64
import hmac
import json
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from joserfc import jws, jwt
from joserfc.jwk import ECKey, OKPKey

from shared.web import Signer
from shared.web.auth import Identity, TokenVerifier, first_of
from shared.web.keys import read_jwks
from shared.web.problems import Unauthorized
from shared.web.testing import Client


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    good = {
        "aud": "backroom",
        "tenant": "acme",
        "sub": "user:ada",
        "role": "owner",
        "iat": now,
        "exp": now + 60,
        "jti": "1",
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def encoded(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def signed(signer: Signer, **changes: Any) -> str:
    key = OKPKey.import_key(signer.private_jwk())
    return jwt.encode({"alg": "Ed25519", "kid": key.kid}, claims(**changes), key, algorithms=["Ed25519"])


def refused(client: Client, token: str) -> None:
    answer = client.stranger(token).get("/v1/whoami")
    assert answer.status_code == 401, answer.data
    assert answer.content_type == "application/problem+json"
    assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="backroom"')


def test_good_token(client: Client, signer: Signer) -> None:
    assert client.stranger(signed(signer)).get("/v1/whoami").status_code == 200
    assert client.stranger(signed(signer, aud=["other", "backroom"])).get("/v1/whoami").status_code == 200


def test_nobody(client: Client) -> None:
    answer = client.stranger().get("/v1/whoami")
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="backroom"'


@pytest.mark.parametrize(
    "header", ["Bearer", "Bearer ", "Basic YTpi", "Bearer a.b", "Bearer a.b.c", "Bearer ..", "bearer x.y.z w"]
)
def test_odd_headers(client: Client, header: str) -> None:
    assert client.stranger().get("/v1/whoami", headers={"Authorization": header}).status_code == 401


# Times are those of the collection: the future ones must still lie ahead when a long run comes to this test.
@pytest.mark.parametrize(
    "changes",
    [
        {"exp": int(time.time()) - 60},
        {"exp": None},
        {"exp": "tomorrow"},
        {"exp": 1e300},
        {"exp": True},
        {"iat": int(time.time()) + 86_400},
        {"iat": None},
        {"nbf": int(time.time()) + 86_400},
        {"nbf": "x"},
        {"aud": "elsewhere"},
        {"aud": None},
        {"aud": {"backroom": 1}},
        {"role": "root"},
        {"role": ["owner"]},
        {"tenant": ""},
        {"tenant": None},
        {"tenant": 1},
        {"tenant": "system"},
        {"sub": "a\x00b"},
        {"jti": None},
        {"sid": 1},
        {"scope": ["shipping:read"]},
    ],
)
def test_claims_that_are_refused(client: Client, signer: Signer, changes: dict[str, Any]) -> None:
    refused(client, signed(signer, **changes))


def test_no_algorithm(client: Client) -> None:
    for name in ("none", "None", "NONE", ""):
        refused(client, f"{encoded({'alg': name})}.{encoded(claims())}.")


def test_public_key_as_shared_secret(client: Client, signer: Signer) -> None:
    public = signer.jwks()["keys"][0]
    raw = base64.urlsafe_b64decode(public["x"] + "=")
    pem = OKPKey.import_key(public).public_key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for secret in (raw, pem, json.dumps(public).encode()):
        for header in ({"alg": "HS256"}, {"alg": "HS256", "kid": public["kid"]}):
            signing_input = f"{encoded(header)}.{encoded(claims())}"
            digest = hmac.digest(secret, signing_input.encode(), "sha256")
            refused(client, f"{signing_input}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}")


def test_other_keys(client: Client, signer: Signer) -> None:
    refused(client, signed(Signer()))
    mine = OKPKey.generate_key("Ed25519")
    kid = signer.jwks()["keys"][0]["kid"]
    refused(client, jwt.encode({"alg": "Ed25519", "kid": kid}, claims(), mine, algorithms=["Ed25519"]))
    # A key that the token brings along is not looked at.
    carried = {"alg": "Ed25519", "jwk": mine.as_dict(private=False)}
    refused(client, jws.serialize_compact(carried, json.dumps(claims()), mine, algorithms=["Ed25519"]))
    curve = ECKey.generate_key("P-256")
    refused(client, jwt.encode({"alg": "ES256", "kid": kid}, claims(), curve, algorithms=["ES256"]))


def test_tampering(client: Client, signer: Signer) -> None:
    head, _, signature = signed(signer).split(".")
    refused(client, f"{head}.{encoded(claims(role='owner', tenant='globex'))}.{signature}")
    refused(client, signed(signer)[:-4] + "AAAA")
    refused(client, signed(signer, jti="x" * 5000))
    refused(client, f"{head}.{'[' * 1000}.{signature}")
    refused(client, f"{head}.{encoded([1])}.{signature}")


def test_es256_of_another_issuer() -> None:
    key = ECKey.generate_key("P-256")
    key.ensure_kid()
    verifier = TokenVerifier({"keys": [key.as_dict(private=False)]})
    token = jwt.encode({"alg": "ES256", "kid": key.kid}, claims(), key, algorithms=["ES256"])
    identity = verifier("bearer", token)
    assert identity is not None
    assert (identity.tenant_id, identity.principal, identity.role) == ("acme", "user:ada", "owner")


def test_expiry_by_the_clock(signer: Signer) -> None:
    token = signer.issue("acme", "user:ada", "owner", ttl=60)
    assert TokenVerifier(signer.jwks(), clock=lambda: time.time() + 62)("bearer", token) is not None
    with pytest.raises(Unauthorized, match="expired"):
        TokenVerifier(signer.jwks(), clock=lambda: time.time() + 66)("bearer", token)


def test_a_token_known_before_expires_too(signer: Signer) -> None:
    now = [time.time()]
    verifier = TokenVerifier(signer.jwks(), clock=lambda: now[0])
    token = signer.issue("acme", "user:ada", "owner", ttl=60)
    assert verifier("bearer", token) is verifier("bearer", token)
    now[0] += 66
    with pytest.raises(Unauthorized, match="expired"):
        verifier("bearer", token)
    for number in range(2100):
        assert verifier("bearer", signer.issue("acme", f"user:{number}", "owner")) is not None
    assert len(verifier._verified) <= 2048


def test_key_sets_with_secrets_are_refused(signer: Signer) -> None:
    with pytest.raises(ValueError, match="public"):
        TokenVerifier({"keys": [signer.private_jwk()]})
    with pytest.raises(ValueError, match="public"):
        TokenVerifier({"keys": [{"kty": "oct", "k": "c2VjcmV0"}]})


def test_reading_key_sets(signer: Signer, tmp_path: Any) -> None:
    text = json.dumps(signer.jwks())
    (tmp_path / "jwks.json").write_text(text)
    assert read_jwks(text) == read_jwks(str(tmp_path / "jwks.json")) == signer.jwks()
    for bad in ("{}", "{", str(tmp_path / "missing.json"), "http://127.0.0.1:9/jwks.json"):
        with pytest.raises(ValueError, match="cannot read"):
            read_jwks(bad)


def test_signer_keeps_its_key(signer: Signer) -> None:
    again = Signer(signer.private_jwk())
    assert again.jwks() == signer.jwks()
    assert "d" not in signer.jwks()["keys"][0]


def test_other_credentials_have_a_seam(signer: Signer) -> None:
    robot = Identity("acme", "key:1", "sales")
    both = first_of(
        TokenVerifier(signer.jwks()),
        lambda scheme, credentials: robot if (scheme, credentials) == ("bearer", "key-1") else None,
    )
    assert both("bearer", "key-1") is robot
    assert both("bearer", signer.issue("acme", "user:ada", "owner")) is not None
    assert both("bearer", "key-2") is None


def test_roles(client: Client) -> None:
    answer = client.role("sales").post("/v1/things", {"name": "Box"})
    assert answer.status_code == 403
    assert answer.json is not None
    assert answer.json["roles"] == ["owner", "manager"]
    assert "sales" in answer.json["detail"]
    assert client.role("manager").post("/v1/things", {"name": "Box"}).status_code == 201


def test_refusals_come_before_the_body_is_read(client: Client) -> None:
    assert client.stranger().post("/v1/things", b"x" * 100).status_code == 401
    assert client.role("sales").post("/v1/things", b"x" * 100).status_code == 403


@pytest.mark.parametrize(
    ("scopes", "reads", "writes"),
    [
        (["sample:read"], True, False),
        (["sample:write"], True, True),
        (["shipping:read", "shipping:write"], False, False),
        ([], False, False),
        (["sample:reader"], False, False),
    ],
    ids=str,
)
def test_scopes(client: Client, signer: Signer, scopes: list[str], reads: bool, writes: bool) -> None:
    robot = client.stranger(signer.issue("acme", "key:1", "owner", session_id="1", scopes=scopes))
    assert [
        robot.get("/v1/whoami").status_code == 200,
        robot.request("HEAD", "/v1/whoami").status_code == 200,
        robot.post("/v1/things", {"name": "Box"}).status_code == 201,
    ] == [reads, reads, writes]
    if not writes:
        answer = robot.post("/v1/things", {"name": "Box"})
        assert answer.status_code == 403
        assert answer.json is not None
        assert answer.json["scopes"] == ["sample:write"]
        assert "sample:write" in answer.json["detail"]


def test_what_a_token_comes_from_is_known(signer: Signer) -> None:
    token = signer.issue("acme", "key:1", "sales", session_id="k-1", scopes=["shipping:read"])
    identity = TokenVerifier(signer.jwks())("bearer", token)
    assert identity is not None
    assert (identity.session_id, identity.scopes) == ("k-1", {"shipping:read"})
    assert abs((identity.issued_at or 0) - time.time()) < 60
    plain = TokenVerifier(signer.jwks())("bearer", signer.issue("acme", "user:ada", "sales"))
    assert plain is not None
    assert plain.session_id is plain.scopes is None
