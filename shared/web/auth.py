"""Who asks: bearer tokens, verified without asking anybody.

A token is a JWT signed with Ed25519 or ES256, valid for minutes, made by the workspaces service (or by
`Signer` in development and tests) and verified against the public keys that `shared.web.keys` has read.
Nothing is fetched, and no database asked, while a request is served.

The seam for other credentials (API keys) is `Authenticator`: any callable from the Authorization header's
scheme and credentials to an `Identity`, or None when they are not of its kind.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from joserfc import jws, jwt
from joserfc.errors import ExpiredTokenError, JoseError
from joserfc.jwk import OKPKey

from shared.db import new_id
from shared.web.keys import Keys
from shared.web.problems import Unauthorized, Unavailable

__all__ = [
    "AUDIENCE",
    "ROLES",
    "Authenticator",
    "Identity",
    "Signer",
    "TokenVerifier",
    "first_of",
]

AUDIENCE: Final = "backroom"
ROLES: Final = ("owner", "manager", "sales", "fulfillment")

# The header's `alg` only ever picks among these; all are asymmetric, so a public key can never be taken
# for a shared secret, and `none` is no member. "Ed25519" is RFC 9864's name for what was "EdDSA".
_ALGORITHMS: Final = ("Ed25519", "ES256")
_LEEWAY: Final = 5  # seconds that the clocks of two of our machines may differ
_MAX_TOKEN: Final = 4096  # bytes; ours have about 400
_MAX_VERIFIED: Final = 2048  # tokens remembered per process, some 1 MB


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks, for which tenant, in which role."""

    tenant_id: str
    principal: str
    """`user:<id>`, `key:<id>` or `service:<name>`."""
    role: str
    """One of `ROLES`."""
    token_id: str | None = None
    expires_at: int | None = None
    """Seconds since the epoch; long answers (SSE) end by then."""
    issued_at: int | None = None
    """Seconds since the epoch."""
    session_id: str | None = None
    """The session or API key from which the token comes, by which it can be revoked."""
    scopes: frozenset[str] | None = None
    """`<service>:read` and `<service>:write`: to what an API key is limited. None: to nothing."""


Authenticator = Callable[[str, str], Identity | None]
"""From an Authorization header's scheme (lower case) and credentials to who it is.

Returns None for credentials that are not of its kind. Raises `Unauthorized` for such that are, but bad.
"""


class TokenVerifier:
    """The authenticator of bearer tokens. `keys` are `Keys`, or a JSON Web Key Set with public keys only."""

    def __init__(self, keys: Keys | dict[str, Any], *, clock: Callable[[], float] = time.time) -> None:
        self._keys = keys if isinstance(keys, Keys) else Keys(keys)
        self._clock = clock
        self._verified: dict[bytes, Identity] = {}
        self._verified_with = self._keys.current

    def __call__(self, scheme: str, credentials: str) -> Identity | None:
        if scheme != "bearer" or credentials.count(".") != 2:
            return None
        if len(credentials) > _MAX_TOKEN:
            raise Unauthorized("The token is too long.")
        # A client sends the same token for minutes, and a signature takes as long to check as the rest of a
        # small request. Its digest stands for it, so that no token lies about in memory.
        digest = hashlib.sha256(credentials.encode("utf-8", "replace")).digest()
        if self._verified_with is not self._keys.current:  # a key that is gone vouches for nothing
            self._verified, self._verified_with = {}, self._keys.current
        known = self._verified.get(digest)
        if known is not None and known.expires_at is not None and known.expires_at > self._clock():
            return known
        identity = self._verify(credentials)
        if len(self._verified) >= _MAX_VERIFIED:
            self._verified = {}
        self._verified[digest] = identity
        return identity

    def _verify(self, credentials: str) -> Identity:
        keys = self._keys.current
        if not keys.keys:
            raise Unavailable("The keys that tokens are verified with are not here yet.")
        try:
            token = jwt.decode(credentials, keys, algorithms=list(_ALGORITHMS))
            self._check(token.claims)
        except ExpiredTokenError:
            raise Unauthorized("The token has expired.") from None
        except (JoseError, ValueError, TypeError, KeyError, RecursionError):
            # The library raises plain ValueErrors for tokens that are garbage in a novel way.
            if _key_id(credentials) not in {key.kid for key in keys.keys}:
                self._keys.hurry()
            raise Unauthorized("The token is not valid.") from None
        claims = token.claims
        scope = claims.get("scope")
        return Identity(
            claims["tenant"],
            claims["sub"],
            claims["role"],
            token_id=claims["jti"],
            expires_at=claims["exp"],
            issued_at=claims["iat"],
            session_id=claims.get("sid"),
            scopes=None if scope is None else frozenset(scope.split()),
        )

    def _check(self, claims: dict[str, Any]) -> None:
        for name in ("tenant", "sub", "role", "jti"):
            value = claims[name]
            if not isinstance(value, str) or not value or "\x00" in value:
                raise ValueError(name)
        for name in ("sid", "scope"):
            if name in claims and not isinstance(claims[name], str):
                raise ValueError(name)
        for name in ("exp", "iat"):
            if type(claims[name]) is not int:
                raise ValueError(name)
        if claims["role"] not in ROLES:
            raise ValueError("role")
        audience = claims["aud"]
        if AUDIENCE not in (audience if isinstance(audience, list) else [audience]):
            raise ValueError("aud")
        now = self._clock()
        if claims["exp"] + _LEEWAY <= now:
            raise ExpiredTokenError("exp")
        if max(claims["iat"], claims.get("nbf", 0)) > now + _LEEWAY:
            raise ValueError("iat")


def _key_id(credentials: str) -> str | None:
    """The key that a token names in its unproven head."""
    try:
        return jws.extract_compact(credentials.encode()).headers().get("kid")
    except (JoseError, ValueError, TypeError, KeyError, RecursionError):
        return None


def first_of(*authenticators: Authenticator) -> Authenticator:
    """Try each until one knows the credentials."""

    def authenticate(scheme: str, credentials: str) -> Identity | None:
        for each in authenticators:
            identity = each(scheme, credentials)
            if identity is not None:
                return identity
        return None

    return authenticate


def parse_authorization(header: str | None) -> tuple[str, str] | None:
    """Split an Authorization header into its scheme, in lower case, and its credentials."""
    if not header:
        return None
    scheme, _, credentials = header.strip().partition(" ")
    credentials = credentials.strip()
    return (scheme.lower(), credentials) if credentials else None


def check_roles(roles: Sequence[str]) -> tuple[str, ...]:
    """Return the roles as a tuple; raises ValueError for one that does not exist."""
    unknown = set(roles) - set(ROLES)
    if unknown:
        raise ValueError(f"no such role: {', '.join(sorted(unknown))} (there are {', '.join(ROLES)})")
    return tuple(roles)


class Signer:
    """Makes tokens: in development, in embedded mode and in tests. Holds a private key; keep it so.

    `private_jwk` is an Ed25519 key as a JWK (RFC 8037); without one a fresh key is made.
    """

    def __init__(self, private_jwk: dict[str, Any] | None = None) -> None:
        key = OKPKey.import_key(private_jwk) if private_jwk else OKPKey.generate_key("Ed25519")
        key.ensure_kid()
        self._key = key

    def issue(
        self,
        tenant_id: str,
        principal: str,
        role: str,
        ttl: float = 900,
        *,
        session_id: str | None = None,
        scopes: Iterable[str] | None = None,
    ) -> str:
        """Return a token for `principal` in that role of the tenant, valid for `ttl` seconds.

        `session_id` and `scopes` become what `Identity` has under these names.
        """
        now = int(time.time())
        claims: dict[str, Any] = {
            "aud": AUDIENCE,
            "tenant": tenant_id,
            "sub": principal,
            "role": role,
            "iat": now,
            "exp": int(now + ttl),
            "jti": str(new_id()),
        }
        if session_id is not None:
            claims["sid"] = session_id
        if scopes is not None:
            claims["scope"] = " ".join(sorted(scopes))
        return jwt.encode({"alg": "Ed25519", "kid": self._key.kid}, claims, self._key, algorithms=["Ed25519"])

    @property
    def key_id(self) -> str:
        """The `kid` of what this signs: the key's thumbprint (RFC 7638)."""
        return str(self._key.kid)

    def jwks(self) -> dict[str, Any]:
        """The key set with which others verify what this signs."""
        return {"keys": [{**self._key.as_dict(private=False), "use": "sig", "alg": "Ed25519"}]}

    def private_jwk(self) -> dict[str, Any]:
        """The private key, to keep it over a restart."""
        return dict(self._key.as_dict(private=True))
