"""What tests of ERPs do as an owner and as an ERP do it: connect, send, pull, look into the log."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from werkzeug.test import TestResponse

from services.imports.erp.signing import SIGNATURE_HEADER, sign
from tests.services.imports.desk import Desk

__all__ = ["TOKEN", "Erp"]

TOKEN = "erp-test-token-7d1f/+c'0"


class Erp:
    """A connection, from both of its ends."""

    def __init__(self, desk: Desk, base_url: str = "https://erp.example.com/api", **options: Any) -> None:
        self.desk = desk
        body = {"name": "Main ERP", "base_url": base_url, "token": TOKEN, **options}
        answer = desk.client.post("/v1/erp/connections", body)
        assert answer.status_code == 201, answer.text
        self.secret: str = answer.json["secret"]
        self.view: dict[str, Any] = answer.json["connection"]
        self.id = UUID(self.view["id"])
        self.key_id: str = self.view["key_id"]
        self.path = answer.headers["Location"]

    def send(
        self,
        entity: str,
        items: list[Any] | bytes,
        *,
        secret: str | None = None,
        key_id: str | None = None,
        signed_as: str | None = None,
        signed_body: bytes | None = None,
        now: datetime | None = None,
        header: str | None = None,
    ) -> TestResponse:
        """Send a feed; by default as one should."""
        body = items if isinstance(items, bytes) else json.dumps({"items": items}).encode()
        key_id = key_id or self.key_id
        if header is None:
            signed = body if signed_body is None else signed_body
            header = sign(secret or self.secret, key_id, signed_as or entity, signed, now or datetime.now(UTC))
        return self.desk.web.test_client().put(
            f"/v1/erp/{key_id}/{entity}",
            data=body,
            headers={SIGNATURE_HEADER: header, "Content-Type": "application/json"},
        )

    def feed(self, entity: str, items: list[Any], **options: Any) -> str:
        """Send a feed that is taken, and have it applied; return its receipt."""
        answer = self.send(entity, items, **options)
        assert answer.status_code == 202, answer.text
        self.desk.service.drain(queues=["default"])
        receipt: str = answer.json["receipt_id"]
        return receipt

    def log(self, **filters: str) -> list[dict[str, Any]]:
        """Return the log, the latest first."""
        query = "&".join(f"{name}={value}" for name, value in filters.items())
        items: list[dict[str, Any]] = self.desk.read(f"{self.path}/log?{query}")["items"]
        return items
