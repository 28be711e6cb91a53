"""A mail is queued if and only if what wants it commits, and once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from services.notifications import mail
from services.notifications.jobs import prune_mails
from shared.context import SYSTEM, use
from shared.db import new_id, unit_of_work, uuid7_floor
from shared.events.contracts.notifications import MailFailed
from shared.outbound import vault
from tests.services.notifications.post import ALERT, Post


def test_a_key_is_one_mail_for_ever(post: Post) -> None:
    first = post.queue(key="alert:1")
    assert first is not None
    assert post.queue(key="alert:1") is None
    post.service.drain()
    assert post.queue(key="alert:1") is None
    assert len(post.service.jobs(queue="mail")) == 1
    with use(tenant_id="globex"):
        assert post.queue(key="alert:1") is not None, "another tenant's keys are its own"


def test_what_is_rolled_back_was_never_queued(post: Post) -> None:
    def fail() -> None:
        with unit_of_work() as session:
            mail.queue(session, "alert", mail.Address("bob@example.com"), ALERT, dedupe_key="1", kind="alert")
            raise RuntimeError("after all not")

    with pytest.raises(RuntimeError, match="after all not"):
        fail()
    assert post.service.query("SELECT id FROM mails") == []
    assert post.service.jobs() == []


def test_many_are_queued_in_one_statement_each(post: Post) -> None:
    everybody = [mail.NewMail(mail.Address(f"p{n}@example.com"), ALERT, f"many:{n // 2}") for n in range(10)]
    with unit_of_work() as session:
        assert len(mail.queue_many(session, "alert", everybody, kind="bulk")) == 5
        assert mail.queue_many(session, "alert", everybody, kind="bulk") == []
        assert mail.queue_many(session, "alert", [], kind="bulk") == []
    assert len(post.service.jobs(queue="mail")) == 5


def test_sign_in_goes_before_shipping_before_alerts_before_bulk(post: Post) -> None:
    kinds: list[mail.Kind] = ["bulk", "alert", "shipping", "sign_in"]
    jobs = {kind: post.job(post.queue(kind=kind)) for kind in kinds}
    assert sorted(kinds, key=lambda kind: jobs[kind].priority) == kinds[::-1]
    assert len({job.priority for job in jobs.values()}) == 4


def test_what_is_about_being_a_customer_has_a_job_of_its_own(post: Post) -> None:
    """So that the work of a suspended workspace can be held back without these."""
    kinds: list[mail.Kind] = ["sign_in", "billing", "shipping", "alert", "bulk"]
    actors = [post.job(post.queue(kind=kind)).actor for kind in kinds]
    assert actors == ["send_account_mail", "send_account_mail", "send_mail", "send_mail", "send_mail"]


@pytest.mark.parametrize(
    ("address", "code"), [("bob", "address_invalid"), ("bücher@example.com", "address_not_supported")]
)
def test_an_impossible_address_fails_its_mail_and_not_the_caller(post: Post, address: str, code: str) -> None:
    mail_id = post.queue(mail.Address(address))
    row = post.mail(mail_id)
    assert (row.status, row.code, row.recipient) == ("failed", code, address)
    assert post.service.jobs() == []
    (event,) = post.service.published(MailFailed.type)
    assert event.data["code"] == code


def test_a_mail_that_cannot_be_written_is_refused_at_once(post: Post) -> None:
    with pytest.raises(ValueError, match="lacks count"):
        post.queue(values={key: value for key, value in ALERT.items() if key != "count"})
    with pytest.raises(LookupError, match="no template none"):
        post.queue(template="none")


def test_a_link_is_sealed_until_it_is_sent_and_gone_afterwards(post: Post) -> None:
    url = "https://acme.example/sign-in?token=secret"
    values = {"url_sealed": vault.seal("acme", "link.url", url), "expires_at": "2026-03-01T12:15:00Z"}
    mail_id = post.queue(template="sign_in", kind="sign_in", values=values)
    assert "secret" not in str(post.mail(mail_id)) + str(post.job(mail_id))
    post.run(mail_id)
    assert post.sandbox.mail_link("bob@example.com") == url
    assert "url_sealed" not in post.mail(mail_id).vars


def test_a_link_of_another_tenant_does_not_open(post: Post) -> None:
    sealed = vault.seal("globex", "link.url", "https://globex.example/sign-in")
    values = {"url_sealed": sealed, "expires_at": "2026-03-01T12:15:00Z"}
    mail_id = post.queue(template="sign_in", kind="sign_in", values=values)
    assert post.run(mail_id).state == "failed"
    assert post.mail(mail_id).code == "mail_unreadable"


@pytest.mark.parametrize(
    ("days", "left"),
    [
        (10, {"sent": True, "skipped": True, "suppressed": True, "failed": True, "queued": True}),
        (40, {"sent": False, "skipped": False, "suppressed": False, "failed": False, "queued": True}),
        (100, {"failed": False, "queued": True}),
        (200, {"queued": True}),
    ],
)
def test_the_log_is_pruned(post: Post, days: int, left: dict[str, bool]) -> None:
    """What is left after so many days, and whether it still knows what it said."""
    for status in ("sent", "skipped", "suppressed", "failed", "queued"):
        born = uuid7_floor(datetime.now(UTC) - timedelta(days=days)).int + new_id().int % (1 << 62)
        post.service.execute(
            "UPDATE mails SET status = :status, id = CAST(:born AS uuid) WHERE id = :id",
            status=status,
            born=f"{born:032x}",
            id=post.queue(),
        )
    post.service.run_job(prune_mails, tenant_id=SYSTEM)
    rows = post.service.query("SELECT status, vars <> '{}' AS whole FROM mails")
    assert {row.status: row.whole for row in rows} == left
