"""What every store of files promises: whole files or none, each under its own key, and no way out of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.blobs import BadKey, BlobStore, NoSuchBlob, check_key

KEY = "shipping/acme/labels/1042.pdf"


def content(store: BlobStore, key: str = KEY) -> bytes:
    return b"".join(store.get(key))


def test_what_was_put_is_got_until_it_is_deleted(store: BlobStore) -> None:
    assert store.put(KEY, [b"one", b"two"]) == 6
    assert content(store) == b"onetwo"
    assert store.put(KEY, [b"three"]) == 5
    assert content(store) == b"three"
    store.delete(KEY)
    store.delete(KEY)
    with pytest.raises(NoSuchBlob):
        store.get(KEY)


def test_an_empty_file_is_a_file(store: BlobStore) -> None:
    assert store.put(KEY, []) == store.put(KEY, [b"", b""]) == 0
    assert content(store) == b""


def test_keys_do_not_meet(store: BlobStore) -> None:
    for key in (KEY, f"{KEY}2", "shipping/other/labels/1042.pdf"):
        store.put(key, [key.encode()])
    store.delete(KEY)
    for key in (f"{KEY}2", "shipping/other/labels/1042.pdf"):
        assert content(store, key) == key.encode()
    for missing in ("shipping/acme/labels", "shipping/acme", f"{KEY}2/x"):
        with pytest.raises(NoSuchBlob):
            store.get(missing)


def test_large_files_come_in_chunks(store: BlobStore) -> None:
    store.put(KEY, (bytes([number]) * 100_000 for number in range(10)))
    chunks = list(store.get(KEY))
    assert len(chunks) > 10
    assert b"".join(chunks) == b"".join(bytes([number]) * 100_000 for number in range(10))


def test_a_put_that_breaks_off_leaves_what_was_there(store: BlobStore) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise ConnectionResetError

    store.put(KEY, [b"whole"])
    with pytest.raises(ConnectionResetError):
        store.put(KEY, broken())
    assert content(store) == b"whole"


def test_readers_see_whole_files_while_others_write(store: BlobStore) -> None:
    store.put(KEY, [b"a" * 1000])
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            for letter in (b"a", b"b"):
                store.put(KEY, [letter * 500, letter * 500])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert all(content(store) in (b"a" * 1000, b"b" * 1000) for _ in range(60))
    finally:
        stop.set()
        writer.join()


@pytest.mark.parametrize(
    "key",
    ["", "/etc/passwd", "../secret", "a/../b", "a//b", "a/", "a/.hidden", "a\\b", "a\x00b", "a/b c", "é", "x" * 600],
)
def test_no_key_leads_elsewhere(store: BlobStore, key: str) -> None:
    for act in (
        lambda: store.put(key, [b"x"]),
        lambda: store.get(key),
        lambda: store.delete(key),
        lambda: store.url_for(key, 60),
    ):
        with pytest.raises(BadKey):
            act()


@given(st.text(max_size=60))
def test_every_key_that_is_taken_stays_below_the_root(key: str) -> None:
    try:
        parts = check_key(key)
    except BadKey:
        return
    root = Path("/root/of/blobs")
    assert root in Path(*root.parts, *parts).resolve().parents
