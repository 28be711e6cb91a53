"""What every store of files promises."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import Final, Protocol

__all__ = ["BadKey", "BlobStore", "NoSuchBlob", "check_key", "tenant_part"]

_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
_TENANT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_DEEPEST: Final = 8
_LONGEST: Final = 512


class BadKey(ValueError):
    """The key is not a path of plain names."""


class NoSuchBlob(LookupError):
    """There is no file under this key."""


class BlobStore(Protocol):
    """Safe to share between threads and processes. Methods raise BadKey, and OSError when the store is away.

    A store on the network is a third party: in a request its methods raise RuleViolation, but for `url_for`, and
    an upload goes in by `shared.blobs.receive`.
    """

    def put(self, key: str, content: Iterable[bytes]) -> int:
        """Store the content under the key, replacing what is there; return how many bytes it has.

        Atomic: whoever reads meanwhile gets the old file or the new one, and after a crash there is no half.
        """

    def get(self, key: str) -> Iterator[bytes]:
        """Return the content in chunks; raises NoSuchBlob at once, not at the first chunk."""

    def delete(self, key: str) -> None:
        """Remove the file. One that is not there is as good as removed."""

    def url_for(self, key: str, ttl: int, *, filename: str | None = None, media_type: str | None = None) -> str | None:
        """Return an address at which anybody may get the file for the next `ttl` seconds; None for a store without.

        The address answers with the media type, and as an attachment of that name; the name is a plain one,
        as the parts of keys. Asks nobody, not even whether the file is there, so that a request may ask for
        it. Raises ValueError for a time that the store cannot grant.
        """


def check_key(key: str) -> list[str]:
    """Return the parts of a key. Raises BadKey."""
    parts = key.split("/")
    if len(key) > _LONGEST or len(parts) > _DEEPEST or not all(_NAME.fullmatch(part) for part in parts):
        raise BadKey(f"no key of a blob: {key[:100]!r}")
    return parts


def tenant_part(tenant_id: str) -> str:
    """Return a tenant's part of a key: its id, or the hash of one that is no plain name."""
    return tenant_id if _TENANT.fullmatch(tenant_id) else hashlib.sha256(tenant_id.encode()).hexdigest()
