"""Files in a directory of this machine, or of a volume that several mount."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from shared.blobs.store import NoSuchBlob, check_key

__all__ = ["DirectoryStore"]

_CHUNK: Final = 1 << 16


class DirectoryStore:
    """Keeps each blob as a file below `root`, which is made on first use."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, key: str, content: Iterable[bytes]) -> int:
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # No key starts with a dot, so a file that is being written is never taken for one that is there.
        fresh = path.with_name(f".{secrets.token_hex(8)}.part")
        size = 0
        try:
            with fresh.open("xb") as file:
                for chunk in content:
                    file.write(chunk)
                    size += len(chunk)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        _sync(path.parent)
        return size

    def get(self, key: str) -> Iterator[bytes]:
        try:
            file = self._path(key).open("rb")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise NoSuchBlob(key) from None
        return _chunks(file)

    def delete(self, key: str) -> None:
        with suppress(FileNotFoundError, NotADirectoryError):
            self._path(key).unlink()

    def url_for(self, key: str, ttl: int, *, filename: str | None = None, media_type: str | None = None) -> str | None:
        check_key(key)
        return None  # a request reads the file itself

    def _path(self, key: str) -> Path:
        return self.root.joinpath(*check_key(key))


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _sync(directory: Path) -> None:
    """Make the new name last over a power failure, as fsync of the file alone does not (POSIX)."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
