"""Uploaded files: where they lie, and how they are read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final
from uuid import UUID

from sqlalchemy.orm import Session

from services.imports.models import Import, Upload
from services.imports.reading.detect import Dialect
from services.imports.reading.kinds import KINDS, Kind
from services.imports.reading.table import stream_of
from shared import blobs

__all__ = ["HEAD", "Received", "Source", "open_source", "receive", "upload_key"]

HEAD: Final = 256 * 1024
"""Bytes of a file that are kept at hand, to show and to judge it by."""

_CHUNK: Final = 1 << 18


@dataclass(frozen=True)
class Source:
    """The file of an import, as it was chosen to be read."""

    import_: Import
    key: str
    dialect: Dialect
    kind: Kind

    def stream(self) -> BinaryIO:
        """Open the file from its beginning. Raises blobs.NoSuchBlob."""
        return stream_of(blobs.store().get(self.key))


def open_source(session: Session, row: Import) -> Source:
    """Return the file of an import."""
    upload = session.get(Upload, row.upload_id)
    key = upload.blob_key if upload is not None else ""
    if not key:
        raise blobs.NoSuchBlob(f"upload {row.upload_id} was cleaned up")
    return Source(row, key, Dialect(row.encoding, row.delimiter), KINDS[row.kind])


def upload_key(tenant_id: str, upload_id: UUID) -> str:
    """Return where the bytes of an upload lie. The name that it came with has no part in it."""
    return f"imports/{blobs.tenant_part(tenant_id)}/uploads/{upload_id}"


@dataclass(frozen=True)
class Received:
    """What is known of a file once it is stored."""

    size: int
    sha256: str
    head: bytes


def receive(key: str, file: BinaryIO) -> Received:
    """Store a file as it comes in; its bytes pass by once and are nowhere held."""
    digest, head = hashlib.sha256(), bytearray()

    def passing() -> Iterator[bytes]:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            if len(head) < HEAD:
                head.extend(chunk[: HEAD - len(head)])
            yield chunk

    size = blobs.receive(key, passing())
    return Received(size, digest.hexdigest(), bytes(head))
