"""The keys of a process: given by settings, or made once and kept in the data directory (embedded mode)."""

from __future__ import annotations

import base64
import json
import os
import secrets as random_secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from shared.runtime.settings import Settings
from shared.web.auth import Signer
from shared.web.keys import KeySource

__all__ = ["Secrets"]


@dataclass(frozen=True)
class Secrets:
    """`signer` is set where we issue tokens ourselves, in embedded mode."""

    cursor_key: bytes
    encryption_keys: list[bytes]
    jwks: tuple[KeySource, ...]
    """Where the public keys of whoever issues tokens are."""
    signer: Signer | None = None

    def sensitive(self) -> list[str]:
        """Return what must never stand in a log, in the form in which it could."""
        return [base64.b64encode(key).decode() for key in (self.cursor_key, *self.encryption_keys)]

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Take what the settings give; make and keep the rest."""
        cursor = (
            settings.secret_key.get_secret_value() if settings.secret_key else _kept(settings.data_dir, "secret-key")
        )
        encryption = (
            settings.encryption_keys.get_secret_value()
            if settings.encryption_keys
            else _kept(settings.data_dir, "encryption-key")
        )
        signer = None if settings.jwks else _signer(settings.data_dir)
        return cls(
            cursor_key=base64.b64decode(cursor),
            encryption_keys=[base64.b64decode(part.strip()) for part in encryption.split(",")],
            jwks=(settings.jwks,) if settings.jwks else (signer.jwks(),) if signer else (),
            signer=signer,
        )


def _kept(directory: Path, name: str) -> str:
    return _keep(directory, name, lambda: base64.b64encode(random_secrets.token_bytes(32)).decode())


def _signer(directory: Path) -> Signer:
    return Signer(json.loads(_keep(directory, "signing-key.json", lambda: json.dumps(Signer().private_jwk()))))


def _keep(directory: Path, name: str, make: Any) -> str:
    """Read a secret of the data directory; make it first where there is none. Two processes agree on one."""
    directory = directory / "secrets"
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = directory / name
    if not path.exists():
        fresh = directory / f".{name}.{os.getpid()}.{random_secrets.token_hex(4)}"
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(make())
        try:
            os.link(fresh, path)
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return path.read_text().strip()
