"""From a URL to a store, and the store of this process."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from shared.blobs.directory import DirectoryStore
from shared.blobs.s3 import S3Store
from shared.blobs.store import BlobStore
from shared.outbound.guard import allowed

__all__ = ["configure", "open_store", "receive", "store"]

_store: BlobStore | None = None


def open_store(url: str) -> BlobStore:
    """Return the store at a URL; raises ValueError for any other kind.

    `file:///var/lib/backroom/blobs` is a directory, `s3://bucket/prefix?endpoint=…&region=…` a part of a
    bucket, both options being optional (see `shared.blobs.s3` for credentials).
    """
    parts = urlsplit(url)
    if parts.scheme == "s3":
        return S3Store(url)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost") or not parts.path.strip("/"):
        raise ValueError("a blob store is a directory or a bucket: file:///path/to/it, s3://bucket/prefix")
    return DirectoryStore(Path(unquote(parts.path)))


def configure(url: str) -> BlobStore:
    """Set the store of this process. Raises ValueError."""
    global _store
    _store = open_store(url)
    return _store


def store() -> BlobStore:
    """Return the store of this process; raises RuntimeError before `configure`."""
    if _store is None:
        raise RuntimeError("no blob store yet: call shared.blobs.configure at the start")
    return _store


def receive(key: str, content: Iterable[bytes]) -> int:
    """Store what a client is sending, from within its request; return how many bytes it has.

    The one use of a store on the network that a request may make: what is sent has to be somewhere before it can be
    said to be accepted, and the store is as much our own as the database. Raises what `put` raises.
    """
    with allowed("an upload goes into our own store as it comes in"):
        return store().put(key, content)
