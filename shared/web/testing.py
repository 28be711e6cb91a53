"""A client for tests of a service's API: signed in, speaking JSON.

    client = Client(app, signer)                       # owner of the tenant "acme"
    answer = client.post("/v1/orders", {"number": "1042"})
    assert answer.status_code == 201
    client.role("sales").get("/v1/orders")             # another of the same tenant
    client.of("globex").get("/v1/orders")              # the neighbor

Requests go through the app as WSGI calls, in the thread of the test.
"""

from __future__ import annotations

import uuid
from typing import Any

from flask import Flask
from werkzeug.test import TestResponse

from shared.web.auth import Signer

__all__ = ["Client"]


class Client:
    """One principal of one tenant. `token=""` stands for somebody who is not signed in."""

    def __init__(
        self,
        app: Flask,
        signer: Signer,
        *,
        tenant_id: str = "acme",
        principal: str = "user:ada",
        role: str = "owner",
        token: str | None = None,
    ) -> None:
        self.app = app
        self.signer = signer
        self.tenant_id, self.principal, self.role_name = tenant_id, principal, role
        self.token = signer.issue(tenant_id, principal, role) if token is None else token
        self._client = app.test_client()

    def role(self, role: str, principal: str | None = None) -> Client:
        """Return a client of the same tenant in another role."""
        return Client(
            self.app,
            self.signer,
            tenant_id=self.tenant_id,
            principal=principal or self.principal,
            role=role,
        )

    def of(self, tenant_id: str) -> Client:
        """Return a client in the same role of another tenant."""
        return Client(self.app, self.signer, tenant_id=tenant_id, principal=self.principal, role=self.role_name)

    def stranger(self, token: str = "") -> Client:
        """Return a client which sends this token, or none."""
        return Client(self.app, self.signer, token=token)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | uuid.UUID | None = None,
        headers: dict[str, str] | None = None,
    ) -> TestResponse:
        """Send a request. `body` goes as JSON, bytes as they are; `key` is the Idempotency-Key."""
        sent = dict(headers or {})
        if self.token:
            sent.setdefault("Authorization", f"Bearer {self.token}")
        if key is not None:
            sent["Idempotency-Key"] = str(key)
        content: dict[str, Any] = {"data": body} if isinstance(body, bytes) else {"json": body}
        if body is None:
            content = {}
        return self._client.open(path, method=method, headers=sent, **content)

    def get(self, path: str, **options: Any) -> TestResponse:
        """Send a GET."""
        return self.request("GET", path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> TestResponse:
        """Send a POST."""
        return self.request("POST", path, body, **options)

    def put(self, path: str, body: Any = None, **options: Any) -> TestResponse:
        """Send a PUT."""
        return self.request("PUT", path, body, **options)

    def patch(self, path: str, body: Any = None, **options: Any) -> TestResponse:
        """Send a PATCH."""
        return self.request("PATCH", path, body, **options)

    def delete(self, path: str, **options: Any) -> TestResponse:
        """Send a DELETE."""
        return self.request("DELETE", path, **options)
