"""What tests of imports do as people do it: upload a file, import it, look at what came of it."""

from __future__ import annotations

import uuid
from typing import Any
from uuid import UUID

from flask import Flask
from werkzeug.test import TestResponse

from services.imports.reading.export import write_csv
from shared.testing.service import ServiceUnderTest
from shared.web import Signer
from shared.web.testing import Client

__all__ = ["SAMPLES", "Desk", "csv"]

SAMPLES = {"title": 0, "sku": 1, "category": 2, "image_url": 3}


def csv(*rows: list[str], header: tuple[str, ...] = ("Title", "SKU", "Category", "Image URL")) -> bytes:
    """Return a file with these rows."""
    return b"".join(write_csv(list(header), rows))


class Desk:
    """An owner's client, and the service behind it."""

    def __init__(self, under_test: ServiceUnderTest, web: Flask, signer: Signer) -> None:
        self.service = under_test
        self.web = web
        self.signer = signer
        self.client = Client(web, signer, tenant_id=under_test.tenant_id)

    def upload(self, content: bytes, file_name: str = "catalog.csv") -> dict[str, Any]:
        """Upload a file; return what is known of it."""
        answer = self.send_file(content, file_name)
        assert answer.status_code == 201, answer.text
        view: dict[str, Any] = answer.json
        return view

    def send_file(self, content: bytes, file_name: str = "catalog.csv", **headers: str) -> TestResponse:
        """Send a file; return the answer."""
        return self.web.test_client().post(
            "/v1/uploads",
            query_string={"file_name": file_name},
            data=content,
            headers={"Authorization": f"Bearer {self.client.token}", "Content-Type": "text/csv", **headers},
        )

    def start(self, upload_id: str, **options: Any) -> dict[str, Any]:
        """Start an import; return the import as it stands."""
        body = {"upload_id": upload_id, "kind": "samples", "mapping": SAMPLES, **options}
        answer = self.client.post("/v1/imports", body, headers={"Idempotency-Key": str(uuid.uuid4())})
        assert answer.status_code == 202, answer.text
        return self.read(answer.json["links"]["import"])

    def bring(self, content: bytes, **options: Any) -> dict[str, Any]:
        """Upload and import a file to its end; return the import."""
        started = self.start(self.upload(content)["id"], **options)
        return self.finish(started)

    def finish(self, started: dict[str, Any]) -> dict[str, Any]:
        """Run the import's job to its end; return the import."""
        job_id = UUID(started["job_id"])
        while self.service.job(job_id).state == "scheduled":
            self.service.run(job_id)
        return self.read(started["links"]["self"])

    def read(self, path: str) -> dict[str, Any]:
        """GET what must be there."""
        answer = self.client.get(path)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json
        return found

    def titles(self) -> list[str]:
        """Return the titles of all samples, in the order of their birth."""
        return [title for (title,) in self.service.query("SELECT title FROM samples ORDER BY id")]
