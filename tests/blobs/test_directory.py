"""What a directory adds: nothing left behind, no address of its own, and the URLs by which it is opened."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.blobs import open_store

KEY = "shipping/acme/labels/1042.pdf"


def test_a_put_that_breaks_off_leaves_no_file(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise ConnectionResetError

    store = open_store((tmp_path / "blobs").as_uri())
    store.put(KEY, [b"whole"])
    with pytest.raises(ConnectionResetError):
        store.put(KEY, broken())
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["1042.pdf"]


def test_it_has_no_addresses(tmp_path: Path) -> None:
    assert open_store((tmp_path / "blobs").as_uri()).url_for(KEY, 60) is None


@pytest.mark.parametrize("url", ["gs://bucket", "file://", "file:///", "file://elsewhere/path", "/plain/path"])
def test_other_stores_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="blob store"):
        open_store(url)
