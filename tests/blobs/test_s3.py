"""What a bucket adds: parts of large files, signed addresses, and no call out of a request."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator

import pytest
import requests

from shared.blobs import BadKey, NoSuchBlob, open_store
from shared.blobs.s3 import S3Store
from shared.context import use
from shared.outbound.guard import RuleViolation
from tests.outbound.raw_server import Server

KEY = "imports/acme/uploads/catalog.csv"
PART = 8 << 20


@pytest.fixture
def store(s3_url: str) -> S3Store:
    store = open_store(s3_url)
    assert isinstance(store, S3Store)
    return store


def uploads(store: S3Store) -> int:
    """How many uploads in parts are begun and not ended, of all in the bucket."""
    return len(store._client.list_multipart_uploads(Bucket=store.bucket).get("Uploads", []))


@pytest.mark.parametrize("size", [PART - 1, PART, PART + 1, 2 * PART])
def test_around_the_size_of_a_part(store: S3Store, size: int) -> None:
    whole = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    assert store.put(KEY, (whole[at : at + 100_000] for at in range(0, size, 100_000))) == size
    assert b"".join(store.get(KEY)) == whole
    assert store.put(KEY, [whole]) == size
    assert b"".join(store.get(KEY)) == whole
    assert uploads(store) == 0


def test_a_large_file_is_never_held_as_a_whole(store: S3Store) -> None:
    """Measured in this process by what the store itself holds: the server's memory is not counted."""
    held = []

    class Client:
        """Takes parts and forgets them."""

        def create_multipart_upload(self, **_: object) -> dict[str, str]:
            return {"UploadId": "1"}

        def upload_part(self, Body: bytes, **_: object) -> dict[str, str]:
            held.append(tracemalloc.get_traced_memory()[0])
            return {"ETag": "x"}

        def complete_multipart_upload(self, **_: object) -> None:
            pass

    store._client = Client()
    tracemalloc.start()
    try:
        assert store.put(KEY, (bytes(1 << 16) for _ in range(16 * 64))) == 64 << 20
    finally:
        tracemalloc.stop()
    assert len(held) == 8
    assert max(held) < 4 * PART


def test_a_broken_upload_of_parts_leaves_nothing(store: S3Store) -> None:
    def broken() -> Iterator[bytes]:
        yield bytes(2 * PART + 5)
        yield bytes(PART)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        store.put(KEY, broken())
    with pytest.raises(NoSuchBlob):
        store.get(KEY)
    assert uploads(store) == 0


def test_an_address_is_good_for_a_while(store: S3Store) -> None:
    store.put(KEY, [b"name\n"])
    url = store.url_for(KEY, 60, filename="catalog-1.csv", media_type="text/csv")
    assert url is not None
    answer = requests.get(url, timeout=5)
    assert answer.content == b"name\n"
    assert answer.headers["Content-Type"] == "text/csv"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="catalog-1.csv"'
    assert "X-Amz-Expires=60" in url
    assert "not-a-secret" not in url
    plain = store.url_for(KEY, 1)
    assert plain is not None
    assert requests.get(plain, timeout=5).content == b"name\n"


@pytest.mark.parametrize("ttl", [0, -1, 7 * 24 * 3600 + 1])
def test_no_address_is_good_for_ever(store: S3Store, ttl: int) -> None:
    with pytest.raises(ValueError, match="seconds"):
        store.url_for(KEY, ttl)


@pytest.mark.parametrize("name", ['a".html', "a/b", "a\r\nX: y", "", "é"])
def test_no_name_of_a_file_breaks_out_of_its_header(store: S3Store, name: str) -> None:
    with pytest.raises(BadKey):
        store.url_for(KEY, 60, filename=name)


def test_a_request_gets_addresses_and_makes_no_call(store: S3Store) -> None:
    with use(in_request=True):
        assert store.url_for(KEY, 60)
        for call in (lambda: store.put(KEY, [b"x"]), lambda: store.get(KEY), lambda: store.delete(KEY)):
            with pytest.raises(RuleViolation):
                call()


def test_a_store_that_is_away_is_an_oserror(store: S3Store, s3_endpoint: str) -> None:
    missing = open_store(f"s3://no-such-bucket?endpoint={s3_endpoint}")
    gone = open_store("s3://files?endpoint=http://127.0.0.1:9&region=eu-central-1")
    for away in (missing, gone):
        for call in (lambda: away.put(KEY, [b"x"]), lambda: away.get(KEY), lambda: away.delete(KEY)):  # noqa: B023 - called at once
            with pytest.raises(OSError, match="blob store"):
                call()


def test_an_answer_that_breaks_off_is_an_oserror(s3_url: str) -> None:
    def half(connection: socket.socket, _: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        connection.shutdown(socket.SHUT_RDWR)

    server = Server()
    server.handler = half
    try:
        chunks = open_store(f"s3://files?endpoint={server.url}").get(KEY)
        with pytest.raises(OSError, match="blob store"):
            list(chunks)
    finally:
        server.close()


def test_a_forked_child_shares_no_connection(store: S3Store) -> None:
    store.put(KEY, [b"x"])
    before, store._owner = store._client, -1
    assert b"".join(store.get(KEY)) == b"x"
    assert store._client is not before


@pytest.mark.parametrize(
    "url",
    ["s3://", "s3:///prefix", "s3://key:secret@bucket", "s3://bucket:9000/x", "s3://bucket/../x", "s3://bucket/a b",
     "s3://bucket/x?acl=public", "s3://bucket/x#y"],
)  # fmt: skip
def test_other_addresses_are_refused(s3_url: str, url: str) -> None:
    with pytest.raises(ValueError, match="blob"):
        open_store(url)


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_credentials_are_asked_of_nobody(s3_url: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(name)
    started = time.monotonic()
    with pytest.raises(ValueError, match="AWS_ACCESS_KEY_ID"):
        open_store(s3_url)
    assert time.monotonic() - started < 1


def test_who_keeps_files_in_a_directory_needs_no_boto3(s3_url: str) -> None:
    program = (
        "import sys; sys.modules['boto3'] = None\n"
        "from shared.blobs import open_store\n"
        "open_store('file:///tmp/blobs')\n"
        "try: open_store(sys.argv[1])\n"
        "except ValueError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program, s3_url], capture_output=True, text=True, check=True)
    assert "backroom[s3]" in done.stdout
