"""Who is told what by mail, once each, in whatever order and however often the news come."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.events.contracts.imports import ImportCompleted, ImportFailed
from shared.events.contracts.shipping import MilestoneReached
from shared.events.contracts.workspaces import LinkIssued, MemberChanged, WinbackDue, WorkspaceCreated
from shared.outbound import vault
from shared.testing.events import deliver
from tests.services.notifications.post import Post

SOON = datetime.now(UTC) + timedelta(hours=1)
URL = "https://acme.example/sign-in?token=abc"


def arrive(post: Post, event: Any, **attributes: Any) -> None:
    deliver(post.service, event, **attributes)
    post.service.drain()


def link(post: Post, **fields: Any) -> LinkIssued:
    sealed = vault.seal(post.service.tenant_id, "link.url", URL)
    return LinkIssued.example().model_copy(update={"url_sealed": sealed, "expires_at": SOON, **fields})


@pytest.mark.parametrize("status", ["active", "invited"])
def test_a_link_is_mailed_to_whom_it_lets_in(post: Post, status: str) -> None:
    issued = link(post)
    arrive(post, MemberChanged.example().model_copy(update={"status": status}), sequence=1)
    for _ in range(2):
        arrive(post, issued)
    assert post.sandbox.mail_link("eve@example.com") == URL
    (mail,) = post.sandbox.mails()
    assert mail["subject"] == "Your link to sign in to Acme Packaging"
    assert "List-Unsubscribe" not in post.sandbox.mail()["headers"]
    assert post.service.jobs(actor="mail_link")[0].priority == 0
    assert post.service.jobs(actor="send_account_mail")[0].priority == 0


def test_an_invitation_names_who_invites(post: Post) -> None:
    arrive(post, link(post, purpose="invitation", invited_by="Ada"))
    assert post.sandbox.mail()["subject"] == "Ada invites you to Acme Packaging"


def test_a_link_that_has_expired_is_not_mailed(post: Post) -> None:
    arrive(post, link(post, expires_at=datetime.now(UTC) - timedelta(minutes=1)))
    assert post.sandbox.mails() == []
    assert post.service.query("SELECT status, code FROM mails") == [("skipped", "expired")]


@pytest.mark.parametrize("step", ["winback_1", "winback_2"])
def test_an_owner_is_asked_back_once_per_step(post: Post, step: str) -> None:
    due = WinbackDue.example().model_copy(update={"step": step})
    for _ in range(2):
        arrive(post, due)
    (mail,) = post.sandbox.mails()
    assert "Acme Packaging" in mail["subject"]
    assert "15 March 2026" in post.sandbox.mail()["text"]


@pytest.mark.parametrize("milestone", ["label_created", "in_transit", "delivered"])
def test_recipient_and_rep_are_told_of_a_milestone_once(post: Post, milestone: str) -> None:
    rep = post.member("ada@example.com", name="Ada Example", role="sales")
    arrive(post, WorkspaceCreated.example())
    reached = MilestoneReached.example().model_copy(update={"milestone": milestone, "created_by": f"user:{rep.id}"})
    for _ in range(2):
        arrive(post, reached)
    assert sorted(one["to"][0] for one in post.sandbox.mails()) == ["ada@example.com", "bob@example.com"]
    to_rep, to_recipient = post.sandbox.mail(to="ada@example.com"), post.sandbox.mail(to="bob@example.com")
    assert "Order 1042" in to_rep["subject"]
    assert "Acme Packaging" in to_recipient["subject"]
    assert "1042" not in to_recipient["subject"] + to_recipient["text"]
    for one in (to_rep, to_recipient):
        assert "9205590164917312751089" in one["text"]
    arrive(post, reached.model_copy(update={"tracking_number": "another parcel"}))
    assert len(post.sandbox.mails()) == 2, "once per order and milestone"


@pytest.mark.parametrize("created_by", ["user:ada", "key:0199a1b2-7c3d-7e4f-8a5b-6c7d8e9f0c1a", "service:imports"])
def test_nobody_is_told_who_is_no_member_or_has_no_address(post: Post, created_by: str) -> None:
    reached = MilestoneReached.example()
    nobody = reached.recipient.model_copy(update={"email": ""})
    arrive(post, reached.model_copy(update={"created_by": created_by, "recipient": nobody}))
    assert post.service.query("SELECT id FROM mails") == []


def test_a_rep_who_does_not_want_to_know_is_not_told_and_the_recipient_is(post: Post) -> None:
    rep = post.member("ada@example.com")
    answer = post.client("sales", f"user:{rep.id}").put("/v1/preferences", {"shipping": False})
    assert answer.json == {"shipping": False, "alert": True, "bulk": True}
    arrive(post, MilestoneReached.example().model_copy(update={"created_by": f"user:{rep.id}"}))
    assert [one["to"] for one in post.sandbox.mails()] == [["bob@example.com"]]


def test_whoever_brought_a_file_is_told_what_became_of_it(post: Post) -> None:
    importer = post.member()
    arrive(post, ImportCompleted.example().model_copy(update={"requested_by": f"user:{importer.id}"}))
    mail = post.sandbox.mail()
    assert mail["subject"] == "catalog.csv: 4870 imported, 30 to mend"
    assert mail["links"][0].startswith("http://127.0.0.1:8000/imports/")
    failed = ImportFailed.example().model_copy(update={"requested_by": f"user:{importer.id}"})
    arrive(post, failed)
    assert post.sandbox.mail()["subject"] == "The import of catalog.csv stopped"
    arrive(post, failed.model_copy(update={"code": "cancelled", "import_id": importer.id}))
    assert len(post.sandbox.mails()) == 2, "who stops an import knows that it stopped"
