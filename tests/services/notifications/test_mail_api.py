"""The log of mails, preferences, suppressions, and unsubscribing with one click."""

from __future__ import annotations

import uuid
from email.message import EmailMessage
from urllib.parse import urlsplit

import pytest

from services.notifications import mail
from services.notifications.mail import unsubscribing
from services.notifications.mail.models import Suppression
from services.notifications.models import Member
from shared.db import unit_of_work
from tests.services.notifications.post import Post


def test_managers_see_what_was_sent_and_what_was_not(post: Post) -> None:
    sent = post.queue(mail.Address("Bob@example.com"))
    post.run(sent)
    waiting, impossible = post.queue(), post.queue(mail.Address("nobody"))
    client = post.client("manager")
    ids = [one["id"] for one in client.get("/v1/mails").json["items"]]
    assert ids == [str(one) for one in (impossible, waiting, sent)]
    page = client.get("/v1/mails?limit=1")
    following = client.get(f"/v1/mails?limit=2&cursor={page.json['next_cursor']}")
    assert [one["id"] for one in following.json["items"]] == ids[1:]
    by_status = client.get("/v1/mails?status=failed").json["items"]
    assert [(one["id"], one["code"]) for one in by_status] == [(str(impossible), "address_invalid")]
    by_address = client.get("/v1/mails?to=BOB@example.com").json["items"]
    assert {one["id"] for one in by_address} == {str(sent), str(waiting)}
    whole = client.get(f"/v1/mails/{sent}").json
    assert whole["to"] == "Bob@example.com"
    assert whole["job_id"] == str(post.job(sent).id)
    assert "vars" not in whole


@pytest.mark.parametrize("path", ["/v1/mails", f"/v1/mails/{uuid.UUID(int=1)}", "/v1/suppressions"])
def test_others_do_not(post: Post, path: str) -> None:
    for role in ("sales", "fulfillment"):
        assert post.client(role).get(path).status_code == 403


def test_the_log_is_of_one_workspace(post: Post) -> None:
    mail_id = post.queue()
    stranger = post.client().of("globex")
    assert stranger.get("/v1/mails").json["items"] == []
    assert stranger.get(f"/v1/mails/{mail_id}").status_code == 404


def test_an_address_can_be_written_to_again(post: Post) -> None:
    with unit_of_work() as session:
        session.add_all(Suppression(tenant_id="acme", address=f"{one}@example.com", reason="refused") for one in "ab")
    client = post.client("manager")
    assert [one["address"] for one in client.get("/v1/suppressions").json["items"]] == [
        "a@example.com",
        "b@example.com",
    ]
    assert client.of("globex").delete("/v1/suppressions/a@example.com").status_code == 404
    assert client.delete("/v1/suppressions/A@example.com").status_code == 204
    assert client.delete("/v1/suppressions/a@example.com").status_code == 404
    assert [one["address"] for one in client.get("/v1/suppressions").json["items"]] == ["b@example.com"]


def test_everybody_chooses_for_himself(post: Post) -> None:
    eve, ada = post.member(), post.member("ada@example.com")
    client = post.client("sales", f"user:{eve.id}")
    assert client.get("/v1/preferences").json == {"shipping": True, "alert": True, "bulk": True}
    assert client.put("/v1/preferences", {"alert": False, "bulk": False}).status_code == 200
    assert client.get("/v1/preferences").json == {"shipping": True, "alert": False, "bulk": False}
    assert client.put("/v1/preferences", {"bulk": False}).status_code == 200
    assert client.get("/v1/preferences").json == {"shipping": True, "alert": True, "bulk": False}
    assert post.client("sales", f"user:{ada.id}").get("/v1/preferences").json["bulk"] is True
    assert post.client("owner", "key:1").get("/v1/preferences").status_code == 409


def unsubscribe_url(post: Post, member: Member) -> str:
    """The path that a mail program would post to."""
    post.run(post.queue(member, kind="bulk"))
    headers = post.sandbox.mail()["headers"]
    assert headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    message = EmailMessage()
    message["List-Unsubscribe"] = headers["List-Unsubscribe"]
    url = urlsplit(str(message["List-Unsubscribe"]).strip("<>"))
    assert url.geturl() in post.sandbox.mail()["links"]
    return f"{url.path}?{url.query}"


def test_one_click_ends_a_kind_of_mail(post: Post) -> None:
    member = post.member()
    path = unsubscribe_url(post, member)
    stranger = post.client().stranger()
    shown = stranger.get(path)
    assert (shown.status_code, shown.mimetype) == (200, "text/html")
    assert "form-action 'self'" in shown.headers["Content-Security-Policy"]
    assert post.service.query("SELECT kind FROM preferences") == [], "looking at it does nothing"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for _ in range(2):
        answer = stranger.post(path, b"List-Unsubscribe=One-Click", headers=form)
        assert (answer.status_code, answer.json) == (200, {"unsubscribed": "bulk"})
    assert post.client("sales", f"user:{member.id}").get("/v1/preferences").json["bulk"] is False
    assert post.run(post.queue(member, kind="bulk")).result == {"skipped": "turned_off"}


def test_nobody_else_can(post: Post) -> None:
    member = post.member()
    token = unsubscribing.url("acme", member.id, "bulk").partition("token=")[2]
    stranger = post.client().stranger()
    tenant, _, sealed = token.partition("%2F")
    for bad in ("", "x", sealed, f"globex%2F{sealed}", token[:-2], f"{tenant}%2F", f"system%2F{sealed}", "%00%2F%00"):
        assert stranger.post(f"/v1/unsubscribe?token={bad}", b"").status_code == 400, bad
    assert stranger.post("/v1/unsubscribe", b"").status_code == 400
    assert post.service.query("SELECT kind FROM preferences") == []


@pytest.mark.parametrize("kind", ["sign_in", "billing", "shipping"])
def test_mails_that_somebody_waits_for_offer_no_such_thing(post: Post, kind: mail.Kind) -> None:
    post.run(post.queue(post.member(), kind=kind))
    assert "List-Unsubscribe" not in post.sandbox.mail()["headers"]
