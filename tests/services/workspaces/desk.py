"""Somebody before the door of workspaces: signs up, reads the mails that would go out, signs in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from flask import Flask
from werkzeug.test import TestResponse

from services.workspaces import links
from services.workspaces.jobs import rotate_signing_keys
from shared.context import SYSTEM
from shared.outbound import vault
from shared.testing.service import ServiceUnderTest
from shared.web import Signer
from shared.web.testing import Client

__all__ = ["Admitted", "Desk", "Mail"]


@dataclass
class Mail:
    """A link as it goes out."""

    tenant_id: str
    email: str
    purpose: str
    token: str
    invited_by: str


@dataclass
class Admitted:
    """Somebody who has signed in."""

    client: Client
    tenant_id: str
    refresh_token: str
    session_id: str
    member: dict[str, Any]


class Desk:
    """The service, its app, and what strangers do with it."""

    def __init__(self, service: ServiceUnderTest, web: Flask, signer: Signer) -> None:
        self.service = service
        self.web = web
        self.signer = signer

    def open(self) -> None:
        """Begin anew, with a key that signs."""
        self.service.clear()
        self.service.run_job(rotate_signing_keys, tenant_id=SYSTEM)
        self.web.extensions["backroom"].keys.refresh()

    @property
    def stranger(self) -> Client:
        return Client(self.web, self.signer, token="")

    def sign_up(self, email: str = "ada@acme.com", **fields: Any) -> TestResponse:
        return self.stranger.post(
            "/v1/workspaces", {"name": "Acme Packaging", "email": email, "owner_name": "Ada Example", **fields}
        )

    def mails(self) -> list[Mail]:
        """Every link that was issued, opened as whoever mails it would."""
        found = []
        for row in self.service.published("backroom.workspaces.link.issued.v1"):
            url = vault.open_(row.tenant_id, links.URL, row.data["url_sealed"])
            fragment = re.fullmatch(r"http://127\.0\.0\.1:8000/sign-in#token=([\w-]{43})&workspace=(.*)", url)
            assert fragment is not None, url
            assert fragment[2] == row.tenant_id
            mail = row.data["email"], row.data["purpose"], fragment[1], row.data["invited_by"]
            found.append(Mail(row.tenant_id, *mail))
        return found

    def follow(self, mail: Mail, **headers: str) -> TestResponse:
        return self.stranger.post("/v1/sessions", {"token": mail.token, "workspace": mail.tenant_id}, headers=headers)

    def admitted(self, answer: TestResponse, tenant_id: str) -> Admitted:
        assert answer.status_code in (200, 201), answer.json
        body = answer.json
        assert body is not None
        client = Client(self.web, self.signer, token=body["access_token"], tenant_id=tenant_id)
        return Admitted(client, tenant_id, body["refresh_token"], body["session_id"], body["member"])

    def sign_in(self) -> Admitted:
        """Follow the link that was issued last."""
        mail = self.mails()[-1]
        return self.admitted(self.follow(mail), mail.tenant_id)

    def owner(self, email: str = "ada@acme.com", **fields: Any) -> Admitted:
        """Sign up and in."""
        answer = self.sign_up(email, **fields)
        assert answer.status_code == 201, answer.json
        return self.sign_in()

    def member(self, owner: Admitted, role: str = "sales", email: str = "eve@example.com") -> Admitted:
        """Invite somebody who then signs in."""
        answer = owner.client.post("/v1/members", {"email": email, "name": "Eve Example", "role": role})
        assert answer.status_code == 201, answer.json
        return self.sign_in()

    def refresh(self, token: str) -> TestResponse:
        return self.stranger.post("/v1/sessions/refresh", {"refresh_token": token})

    def revoked(self) -> list[tuple[str, str]]:
        rows = self.service.published("backroom.workspaces.credential.revoked.v1")
        return [(row.data["kind"], row.data["credential_id"]) for row in rows]

    def actions(self, tenant_id: str) -> list[str]:
        rows = self.service.query(
            "SELECT action FROM audit_log WHERE tenant_id = :tenant ORDER BY id", tenant=tenant_id
        )
        return [row.action for row in rows]
