"""The public keys with which every service verifies access tokens, for whoever wants them."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, Field

from services.workspaces import keys
from services.workspaces.api.base import api
from services.workspaces.jobs import rotate_signing_keys
from services.workspaces.names import PUBLIC
from shared.context import use
from shared.db import unit_of_work
from shared.web import Answer, etag
from shared.web.keys import JWKS_PATH

__all__: list[str] = []

# A new key is published an hour before it signs; a cache of a minute never shows it late.
_CACHED: Final = {"Cache-Control": "public, max-age=60"}


class KeySetView(BaseModel):
    """A JSON Web Key Set (RFC 7517)."""

    keys: list[dict[str, Any]] = Field(description="Public Ed25519 keys as JSON Web Keys (RFC 8037).")


@api.get(JWKS_PATH, public=True, headers={"Cache-Control": "For how long it may be kept."})
def read_keys() -> Answer[KeySetView]:
    """Read the public keys: of the one that signs, of the next one, and of those before whose tokens are still good."""
    found = keys.jwks()
    if not found["keys"]:
        # Of a new installation. Whoever verifies tokens asks again soon, and knows the first key before it is used.
        with use(tenant_id=PUBLIC), unit_of_work():
            rotate_signing_keys.send()
        return Answer(found, headers={"Cache-Control": "no-store"})
    return Answer(found, headers=_CACHED, etag=etag(*(key["kid"] for key in found["keys"])))
