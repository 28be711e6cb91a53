"""Whatever the mail server does, no mail is lost, and what it says is understood."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.notifications import mail
from services.notifications.jobs import send_mail
from services.notifications.mail.models import Preference, Suppression
from services.notifications.providers.smtp import mailer
from shared.db import unit_of_work
from shared.events.contracts.notifications import MailFailed, MailSent
from tests.services.notifications.post import ALERT, Post

BOB = "bob@example.com"


def fault(post: Post, kind: str, step: str, **options: Any) -> None:
    post.sandbox.faults.add(kind, method="SMTP", path=step, **options)


def suppressed(post: Post) -> list[str]:
    return [address for (address,) in post.service.query("SELECT address FROM suppressions")]


def test_a_mail_is_sent_and_told_of(post: Post) -> None:
    mail_id = post.queue()
    assert post.run(mail_id).state == "succeeded"
    arrived = post.sandbox.mail(to=BOB)
    assert arrived["message_id"] == f"<{mail_id}@backroom.example>"
    assert arrived["headers"]["To"] == "Bob Example <bob@example.com>"
    row = post.mail(mail_id)
    assert (row.status, row.code, row.sent_at is not None) == ("sent", None, True)
    (event,) = post.service.published(MailSent.type)
    assert MailSent.model_validate(event.data).mail_id == mail_id


@pytest.mark.parametrize(
    ("kind", "step", "options"),
    [
        ("smtp_reply", "/hello", {"code": 421, "text": "4.3.2 Closing"}),
        ("smtp_reply", "/mail", {"code": 451}),
        ("smtp_reply", "/mail", {"code": 421}),
        ("smtp_reply", f"/rcpt/{BOB}", {"code": 450, "text": "4.2.0 Greylisted"}),
        ("smtp_reply", "/data", {"code": 451}),
        ("smtp_reply", f"/end/{BOB}", {"code": 452, "text": "4.3.1 Disk full"}),
        ("smtp_reply", f"/end/{BOB}", {"code": 421, "text": "4.3.2 Closing"}),
        ("smtp_drop", "/hello", {}),
        ("smtp_drop", "/mail", {}),
        ("smtp_drop", f"/rcpt/{BOB}", {}),
        ("smtp_drop", "/data", {}),
        ("smtp_hang", "/mail", {"seconds": 5}),
        ("smtp_hang", "/data", {"seconds": 5}),
    ],
)
def test_what_was_not_taken_is_sent_again_once_the_server_is_well(
    post: Post, kind: str, step: str, options: dict[str, Any]
) -> None:
    mail_id = post.queue()
    fault(post, kind, step, times=1, **options)
    job = post.run(mail_id)
    assert (job.state, job.waiting_for) == ("scheduled", "retry")
    assert post.sandbox.mails() == []
    assert post.run(mail_id).state == "succeeded"
    assert [one["to"] for one in post.sandbox.mails()] == [[BOB]]
    assert suppressed(post) == []


@pytest.mark.parametrize("kind", ["smtp_drop", "smtp_hang"])
def test_a_mail_that_was_taken_without_an_answer_is_sent_once_more_under_its_message_id(post: Post, kind: str) -> None:
    mail_id = post.queue()
    fault(post, kind, f"/end/{BOB}", times=1)
    assert post.run(mail_id).state == "scheduled"
    assert post.service.attempts(post.job(mail_id).id)[-1].outcome == "unknown"
    assert post.run(mail_id).state == "succeeded"
    assert [one["message_id"] for one in post.sandbox.mails()] == [f"<{mail_id}@backroom.example>"] * 2


def test_a_second_silence_is_put_before_a_person_who_may_send_it_again(post: Post) -> None:
    mail_id = post.queue()
    fault(post, "smtp_drop", f"/end/{BOB}")
    post.service.drain()
    assert len(post.sandbox.mails()) == 2
    assert (post.mail(mail_id).status, post.mail(mail_id).code) == ("failed", "mail_outcome_unknown")
    post.sandbox.faults.clear()
    post.service.retry(post.job(mail_id).id)
    post.service.drain()
    assert post.mail(mail_id).status == "sent"


@pytest.mark.parametrize(
    ("step", "code", "text"),
    [
        (f"/rcpt/{BOB}", 550, "5.1.1 No such user"),
        (f"/rcpt/{BOB}", 550, "No such user here"),
        (f"/rcpt/{BOB}", 552, "5.2.2 Mailbox full"),
        (f"/rcpt/{BOB}", 553, "5.1.3 Bad address"),
        (f"/end/{BOB}", 550, "5.1.1 No such user, as it turns out"),
    ],
)
def test_an_address_that_is_refused_is_not_written_to_again(post: Post, step: str, code: int, text: str) -> None:
    mail_id = post.queue(mail.Address("Bob@example.com"))
    fault(post, "smtp_reply", step.replace("bob", "Bob"), code=code, text=text)
    assert post.run(mail_id).state == "failed"
    row = post.mail(mail_id)
    assert (row.status, row.code) == ("failed", "mail_recipient_refused")
    assert text in row.reason
    assert suppressed(post) == [BOB]
    (event,) = post.service.published(MailFailed.type)
    assert event.data["code"] == "mail_recipient_refused"
    post.sandbox.faults.clear()
    another = post.queue()
    assert post.run(another).result == {"skipped": "address_refused"}
    assert post.mail(another).status == "suppressed"
    assert post.sandbox.mails() == []


@pytest.mark.parametrize(
    ("step", "code", "text"),
    [
        ("/mail", 550, "5.1.8 Bad sender"),
        ("/mail", 553, "Sender refused"),
        (f"/rcpt/{BOB}", 554, "5.7.1 Relay access denied"),
        (f"/rcpt/{BOB}", 550, "5.7.1 Blocked by policy"),
        (f"/rcpt/{BOB}", 550, "5.1.8 Bad sender"),
        ("/data", 554, "No valid recipients"),
        (f"/end/{BOB}", 554, "5.7.1 Spam"),
        (f"/end/{BOB}", 550, "Message refused"),
    ],
)
def test_a_refusal_that_is_not_about_the_address_suppresses_nobody(post: Post, step: str, code: int, text: str) -> None:
    mail_id = post.queue()
    fault(post, "smtp_reply", step, code=code, text=text)
    assert post.run(mail_id).state == "failed"
    assert post.mail(mail_id).code == "mail_refused"
    assert suppressed(post) == []
    post.sandbox.faults.clear()
    assert post.run(post.queue()).state == "succeeded"


def test_a_mail_that_is_too_large_fails_and_the_next_one_goes(post: Post) -> None:
    post.sandbox.smtp_size(500)
    mail_id = post.queue()
    assert post.run(mail_id).state == "failed"
    assert post.mail(mail_id).code == "mail_refused"
    assert suppressed(post) == []


def test_a_server_that_is_away_costs_ten_mails_a_try_and_the_others_none(fresh_post: Post) -> None:
    """Ten in a row open the circuit; what comes after waits, and all arrive when the server is back, each once."""
    post = fresh_post
    fault(post, "smtp_reply", "/hello", code=421, text="4.3.2 Not now")
    mails = [post.queue(mail.Address(f"p{number}@example.com")) for number in range(15)]
    for mail_id in mails:
        post.run(mail_id)
    waiting = [post.job(mail_id) for mail_id in mails]
    assert [job.runs for job in waiting] == [1] * 10 + [0] * 5
    assert {job.waiting_for for job in waiting[10:]} == {"provider_circuit_open"}
    assert post.service.query("SELECT provider, state FROM circuits") == [("smtp", "open")]
    assert len(post.service.published("backroom.notifications.circuit.opened.v1")) == 1
    post.sandbox.faults.clear()
    post.service.advance(3600)
    post.service.drain()
    assert sorted(one["to"][0] for one in post.sandbox.mails()) == sorted(
        f"p{number}@example.com" for number in range(15)
    )


def test_a_server_that_can_take_no_mail_at_all_is_away(fresh_post: Post) -> None:
    post = fresh_post
    fault(post, "smtp_reply", "/end", code=452, text="4.3.1 Disk full")
    mails = [post.queue(mail.Address(f"p{number}@example.com")) for number in range(11)]
    for mail_id in mails:
        post.run(mail_id)
    assert post.job(mails[-1]).waiting_for == "provider_circuit_open"


def test_greylisting_is_no_outage(post: Post) -> None:
    """The server asks each recipient's mail to come later: it is there, and the circuit stays closed."""
    fault(post, "smtp_reply", "/rcpt", code=450, text="4.2.0 Greylisted")
    mails = [post.queue(mail.Address(f"p{number}@example.com")) for number in range(12)]
    for mail_id in mails:
        post.run(mail_id)
    assert {post.job(mail_id).waiting_for for mail_id in mails} == {"retry"}
    assert post.service.query("SELECT 1 FROM circuits WHERE state <> 'closed'") == []


def test_a_mail_that_failed_for_good_says_so_once_and_not_by_mail(post: Post) -> None:
    mail_id = post.queue()
    fault(post, "smtp_reply", f"/rcpt/{BOB}", code=450, text="4.2.0 Later")
    post.service.drain()
    assert post.job(mail_id).runs == 4
    assert (post.mail(mail_id).status, post.mail(mail_id).code) == ("failed", "mail_deferred")
    assert len(post.service.published("backroom.notifications.job.failed.v1")) == 1
    assert len(post.service.query("SELECT id FROM mails")) == 1


def test_a_member_who_turned_a_kind_off_gets_the_others(post: Post) -> None:
    member = post.member()
    with unit_of_work() as session:
        session.add(Preference(tenant_id=member.tenant_id, member_id=member.id, kind="alert"))
    alert, bulk = post.queue(member), post.queue(member, kind="bulk")
    assert post.run(alert).result == {"skipped": "turned_off"}
    assert post.run(bulk).state == "succeeded"
    assert [post.mail(one).status for one in (alert, bulk)] == ["skipped", "sent"]


def test_a_member_who_is_disabled_is_told_nothing(post: Post) -> None:
    mail_id = post.queue(post.member(status="disabled"))
    assert post.run(mail_id).result == {"skipped": "member_inactive"}


def test_what_has_expired_is_not_sent(post: Post) -> None:
    mail_id = post.queue(expires_at=datetime.now(UTC) - timedelta(seconds=1))
    assert post.run(mail_id).result == {"skipped": "expired"}
    assert post.sandbox.mails() == []


def test_whoever_asks_for_a_link_gets_it_though_the_address_was_refused_and_is_written_to_again(post: Post) -> None:
    with unit_of_work() as session:
        session.add(Suppression(tenant_id="acme", address=BOB, reason="refused"))
    values = {"url": "https://acme.example/sign-in", "expires_at": "2026-03-01T12:15:00Z"}
    mail_id = post.queue(template="sign_in", kind="sign_in", values=values)
    assert post.run(mail_id).state == "succeeded"
    assert suppressed(post) == []


def test_a_cancelled_mail_is_not_sent(post: Post) -> None:
    mail_id = post.queue()
    post.service.cancel(post.job(mail_id).id)
    assert (post.mail(mail_id).status, post.mail(mail_id).code) == ("skipped", "cancelled")


def test_a_mail_that_was_sent_is_not_sent_by_a_second_job(post: Post) -> None:
    mail_id = post.queue()
    post.run(mail_id)
    again = post.service.run_job(send_mail, mail_id=mail_id, to=BOB)
    assert again.result == {"skipped": "already_sent"}
    assert len(post.sandbox.mails()) == 1


def test_values_that_do_not_fit_their_template_fail_at_once(post: Post) -> None:
    mail_id = post.queue(values={**ALERT, "count": "many"})
    assert post.run(mail_id).state == "failed"
    assert post.mail(mail_id).code == "mail_unreadable"


def test_connections_are_kept(post: Post) -> None:
    for number in range(100):
        post.queue(mail.Address(f"p{number}@example.com"))
    post.service.drain()
    counts = post.sandbox.smtp()
    assert (counts["mails"], counts["connections"]) == (100, 1)
    mailer().close()
    post.service.wait_until(lambda: post.sandbox.smtp()["open"] == 0)
