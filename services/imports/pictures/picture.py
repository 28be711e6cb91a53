"""What is known of a picture once it was looked at."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from services.imports.pictures import child
from services.imports.pictures.signatures import HEAD, MediaType, sniff
from services.imports.pictures.texts import NotAPicture

__all__ = ["Picture", "Prepared", "examine", "prepare", "thumbnail"]

_CHUNK: Final = 1 << 16
_MOST_PIXELS: Final = 50_000_000


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that was decoded to its end. Width and height are those of the file, before any turning."""

    media_type: MediaType
    width: int
    height: int
    size: int
    """In bytes."""
    sha256: str
    """Of the bytes, in hexadecimal."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A picture, and its thumbnail: a WEBP that fits into 256 by 256 pixels, the right way up, without metadata."""

    picture: Picture
    thumbnail: bytes


def prepare(file: BinaryIO, *, max_pixels: int, max_bytes: int | None = None) -> Prepared:
    """Look at a picture in an open file on disk, from its beginning, once for both.

    Raises NotAPicture where the file is at fault, and DecoderTrouble where we are.
    """
    size, sha256, head = _measure(file)
    if max_bytes is not None and size > max_bytes:
        raise NotAPicture("image_too_large", f"{size} bytes")
    media_type = sniff(head)
    if media_type is None:
        raise NotAPicture("image_not_supported", f"begins with {head!r}")
    decoded = child.decode(file, media_type, max_pixels=max_pixels)
    return Prepared(Picture(media_type, decoded.width, decoded.height, size, sha256), decoded.thumbnail)


def examine(path: Path, *, max_pixels: int) -> Picture:
    """Return what a file is, as `prepare` does."""
    with path.open("rb") as file:
        return prepare(file, max_pixels=max_pixels).picture


def thumbnail(path: Path, *, max_pixels: int = _MOST_PIXELS) -> bytes:
    """Return the thumbnail of a file, as `prepare` does."""
    with path.open("rb") as file:
        return prepare(file, max_pixels=max_pixels).thumbnail


def _measure(file: BinaryIO) -> tuple[int, str, bytes]:
    file.seek(0)
    digest, size, head = hashlib.sha256(), 0, b""
    while chunk := file.read(_CHUNK):
        head = head or chunk[:HEAD]
        digest.update(chunk)
        size += len(chunk)
    return size, digest.hexdigest(), head
