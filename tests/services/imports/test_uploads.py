"""Uploads: any bytes are taken as they come, shown as we read them, and bounded."""

from __future__ import annotations

import hashlib
import socket
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from services.imports.jobs import clean_up_uploads
from services.imports.settings import settings
from shared.context import SYSTEM
from shared.web.serve import serve
from tests.services.imports.desk import Desk, csv


def files(desk: Desk) -> list[Path]:
    return [path for path in Path(desk.service.settings.data_dir).rglob("uploads/*") if path.is_file()]


def test_an_upload_is_described(desk: Desk) -> None:
    content = "Titel;Preis\r\nBüchse;5\r\n".encode("cp1252")
    upload = desk.upload(content, "katalog.csv")

    assert (upload["encoding"], upload["delimiter"]) == ("cp1252", ";")
    assert (upload["size"], upload["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert upload["imported_as"] == []


def test_a_preview_shows_rows_and_proposes_the_columns(desk: Desk) -> None:
    upload = desk.upload(csv(["Box", "B-1", "Boxes", ""], header=("Product name", "SKU", "Category", "Weight")))

    seen = desk.read(f"/v1/uploads/{upload['id']}/preview")

    assert seen["header"] == ["Product name", "SKU", "Category", "Weight"]
    assert seen["rows"] == [["Box", "B-1", "Boxes", ""]]
    assert seen["mapping"]["sku"] == 1
    assert desk.read(f"/v1/uploads/{upload['id']}/preview?kind=customers")["missing"] == ["email"]


def test_another_encoding_and_delimiter_can_be_tried(desk: Desk) -> None:
    upload = desk.upload("a|b\r\nü|1\r\n".encode())

    seen = desk.read(f"/v1/uploads/{upload['id']}/preview?encoding=cp1252&delimiter=%7C")
    assert seen["rows"] == [["Ã¼", "1"]]
    wrong = desk.client.get(f"/v1/uploads/{upload['id']}/preview?encoding=utf-16")
    assert wrong.status_code == 400
    assert "encoding" in wrong.json["detail"]


def test_the_same_file_is_recognized(desk: Desk) -> None:
    content = csv(["Box", "", "", ""])
    done = desk.bring(content)

    assert desk.upload(content, "again.csv")["imported_as"] == [done["id"]]


def test_wrong_columns_are_named(desk: Desk) -> None:
    upload = desk.upload(csv(["Box", "", "", ""]))
    answer = desk.client.post(
        "/v1/imports",
        {"upload_id": upload["id"], "kind": "samples", "mapping": {"sku": 99, "nonsense": 0}},
        headers={"Idempotency-Key": "one"},
    )
    assert answer.status_code == 422
    assert {error["pointer"] for error in answer.json["errors"]} >= {"/mapping/sku", "/mapping/nonsense"}


def test_starting_twice_with_one_key_is_one_import(desk: Desk) -> None:
    upload = desk.upload(csv(["Box", "", "", ""]))
    body = {"upload_id": upload["id"], "kind": "samples", "mapping": {"title": 0}}

    answers = [desk.client.post("/v1/imports", body, headers={"Idempotency-Key": "k"}) for _ in range(2)]

    assert answers[0].json["id"] == answers[1].json["id"]
    assert len(desk.read("/v1/imports")["items"]) == 1
    assert desk.client.post("/v1/imports", body).status_code == 400, "it wants a key"


def test_an_empty_file_is_refused(desk: Desk) -> None:
    assert desk.send_file(b"").status_code == 400


@pytest.mark.parametrize("declared", [True, False])
def test_too_large_is_refused_early_and_leaves_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, declared: bool
) -> None:
    """Two gigabytes: by what the request says of itself early, else soon after the first byte too many."""
    monkeypatch.setenv("IMPORTS_MAX_FILE_BYTES", "1000000")
    settings.cache_clear()
    web = desk.service.app.web()
    server = serve(web, "127.0.0.1", 0, threads=2)
    head = f"POST /v1/uploads HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {desk.client.token}\r\n"
    head += "Content-Length: 2000000000\r\n" if declared else "Transfer-Encoding: chunked\r\n"
    sent = 0
    try:
        with socket.create_connection((server.host, server.port), timeout=20) as connection:
            connection.sendall(f"{head}Content-Type: text/csv\r\n\r\n".encode())

            def send() -> None:
                nonlocal sent
                block = b"x" * 65536
                with suppress(OSError):
                    while sent < 2_000_000_000:
                        connection.sendall(block if declared else b"10000\r\n" + block + b"\r\n")
                        sent += len(block)

            sender = threading.Thread(target=send, daemon=True)
            sender.start()
            answer = connection.recv(65536)
        sender.join(20)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert sent < 20_000_000, "what is in buffers, and no more"
        assert files(desk) == []
        assert desk.service.query("SELECT count(*) FROM uploads") == [(0,)]
    finally:
        server.stop()
        web.extensions["backroom"].close()


def test_old_uploads_are_cleaned_up(desk: Desk) -> None:
    """The file goes, what it became stays; and it is said when somebody asks for it."""
    upload = desk.upload(csv(["Box", "", "", ""]))
    kept = desk.upload(csv(["Other", "", "", ""]))
    desk.service.query(
        "UPDATE uploads SET created_at = now() - interval '31 days' WHERE id = :id RETURNING id", id=upload["id"]
    )
    assert len(files(desk)) == 2

    job = desk.service.run_job(clean_up_uploads, tenant_id=SYSTEM)

    assert job.result == {"files": 1}
    assert [path.name for path in files(desk)] == [kept["id"]]
    assert desk.client.get(f"/v1/uploads/{upload['id']}").status_code == 200
    assert "cleaned up" in desk.client.get(f"/v1/uploads/{upload['id']}/preview").json["detail"]
