"""Credentials at rest: sealed so that the database alone, or a copy of it, opens nothing.

AES-256-GCM. Tenant and purpose are authenticated with the ciphertext, so that a sealed text moved to
another tenant's row, or to another use, does not open. Several keys may be known: the first seals, all
open, each ciphertext names its own by a fingerprint. To rotate, put a new key in front, wait until the job
`reseal_secrets` of every service finds nothing more, then remove the old key.

A sealed text is `v1.<key id>.<base64url of nonce, ciphertext and tag>`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["Vault", "VaultError", "configure", "new_key", "newest", "open_", "seal"]

_VERSION: Final = "v1"
_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12


class VaultError(Exception):
    """A sealed text cannot be opened: altered, of another tenant or purpose, or its key is not known."""


def new_key() -> str:
    """Return a new random key in base64, for the settings."""
    return base64.b64encode(os.urandom(_KEY_BYTES)).decode()


class Vault:
    """Seals and opens with a set of keys. Holds them in memory, shows them nowhere."""

    def __init__(self, keys: Sequence[str]) -> None:
        """`keys` are 32 bytes each in base64, the one that seals first. Raises ValueError for anything else."""
        if not keys:
            raise ValueError("the vault needs a key: 32 random bytes in base64")
        self._keys: dict[str, AESGCM] = {}
        for number, key in enumerate(keys, start=1):
            try:
                raw = base64.b64decode(key.strip(), validate=True)
            except (binascii.Error, ValueError):
                raise ValueError(f"key {number} of the vault is not base64") from None
            if len(raw) != _KEY_BYTES:
                raise ValueError(f"key {number} of the vault has {len(raw)} bytes, not {_KEY_BYTES}")
            self._keys[hashlib.sha256(b"backroom vault key id" + raw).hexdigest()[:8]] = AESGCM(raw)
        self._first = next(iter(self._keys))

    def __repr__(self) -> str:
        return f"Vault(key ids: {', '.join(self._keys)})"

    def seal(self, tenant_id: str, purpose: str, plaintext: str) -> str:
        """Return the text sealed for this tenant and purpose (`shippo`, `salesforce.refresh_token`)."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._keys[self._first].encrypt(nonce, plaintext.encode(), _bound_to(self._first, tenant_id, purpose))
        return f"{_VERSION}.{self._first}.{base64.urlsafe_b64encode(nonce + sealed).decode().rstrip('=')}"

    def open_(self, tenant_id: str, purpose: str, sealed: str) -> str:
        """Return what was sealed. Raises VaultError."""
        version, _, rest = sealed.partition(".")
        key_id, _, body = rest.partition(".")
        if version != _VERSION or not body:
            raise VaultError("not a sealed text")
        key = self._keys.get(key_id)
        if key is None:
            raise VaultError(f"sealed with the key {key_id[:16]}, which is not among ours")
        try:
            raw = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
            return key.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], _bound_to(key_id, tenant_id, purpose)).decode()
        except (InvalidTag, ValueError):
            raise VaultError("altered, or sealed for another tenant or purpose") from None

    def newest(self) -> str:
        """Return how every text begins that was sealed with the key that seals now."""
        return f"{_VERSION}.{self._first}."


def _bound_to(key_id: str, tenant_id: str, purpose: str) -> bytes:
    # JSON, since a plain join would bind ("a", "b.c") and ("a.b", "c") to the same bytes.
    return json.dumps([_VERSION, key_id, tenant_id, purpose]).encode()


_vault: Vault | None = None


def configure(keys: Sequence[str]) -> None:
    """Set the keys of this process. Raises ValueError."""
    global _vault
    _vault = Vault(keys)


def seal(tenant_id: str, purpose: str, plaintext: str) -> str:
    """As `Vault.seal`, with the keys of this process. Raises RuntimeError before `configure`."""
    return _configured().seal(tenant_id, purpose, plaintext)


def open_(tenant_id: str, purpose: str, sealed: str) -> str:
    """As `Vault.open_`, with the keys of this process. Raises VaultError; RuntimeError before `configure`."""
    return _configured().open_(tenant_id, purpose, sealed)


def newest() -> str:
    """As `Vault.newest`, with the keys of this process."""
    return _configured().newest()


def _configured() -> Vault:
    if _vault is None:
        raise RuntimeError("the vault has no keys yet: call shared.outbound.vault.configure at the start")
    return _vault
