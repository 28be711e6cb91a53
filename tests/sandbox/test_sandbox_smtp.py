"""The stand-in for a mail server: it takes mails, shows them, and goes wrong in every way that it is asked to."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator

import pytest
import requests

from shared.sandbox import Sandbox, SandboxError

MAIL = (
    b"From: Backroom <me@example.com>\r\nTo: ada@example.com\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
    b"Message-ID: <1@example.com>\r\n\r\nOpen https://acme.example/sign-in?t=1 please.\r\n"
)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox.start(seed=1) as running:
        yield running


def dial(sandbox: Sandbox, timeout: float = 5.0) -> smtplib.SMTP:
    return smtplib.SMTP("127.0.0.1", sandbox.state()["smtp"], local_hostname="test", timeout=timeout)


def send(smtp: smtplib.SMTP, to: str = "ada@example.com") -> None:
    smtp.sendmail("me@example.com", [to], MAIL)


def test_what_is_sent_can_be_read(sandbox: Sandbox) -> None:
    with dial(sandbox) as smtp:
        send(smtp)
        send(smtp, "bob@example.com")
    assert [one["to"] for one in sandbox.mails()] == [["bob@example.com"], ["ada@example.com"]]
    assert [one["to"] for one in sandbox.mails(to="ADA@example.com")] == [["ada@example.com"]]
    mail = sandbox.mail(to="ada@example.com")
    assert (mail["subject"], mail["from"], mail["message_id"]) == ("Grüße", "me@example.com", "<1@example.com>")
    assert mail["text"] == "Open https://acme.example/sign-in?t=1 please.\r\n"
    assert sandbox.mail(mail["id"]) == mail
    assert sandbox.mail_link("ada@example.com") == "https://acme.example/sign-in?t=1"
    shown = requests.get(f"{sandbox.url}/mail/{mail['id']}/html", timeout=5)
    assert (shown.status_code, shown.headers["Content-Security-Policy"].split(";")[0]) == (200, "sandbox")
    for missing in (lambda: sandbox.mail(99), lambda: sandbox.mail("x"), lambda: sandbox.mail_link("eve@example.com")):
        with pytest.raises(SandboxError, match="404"):
            missing()


def test_it_counts(sandbox: Sandbox) -> None:
    with dial(sandbox) as one, dial(sandbox) as other:
        send(one)
        send(one)
        send(other)
        assert sandbox.smtp() == {"connections": 2, "open": 2, "most_open": 2, "logins": 0, "mails": 3}
    sandbox.wait(lambda: sandbox.smtp()["open"] == 0)
    assert sandbox.count("SMTP /end", "ok") == 3
    sandbox.reset()
    assert sandbox.smtp()["mails"] == 0
    assert sandbox.mails() == []


@pytest.mark.parametrize(
    ("step", "code"), [("/mail", 451), ("/rcpt/ada@example.com", 550), ("/data", 554), ("/end/ada@example.com", 552)]
)
def test_it_says_no_at_every_step(sandbox: Sandbox, step: str, code: int) -> None:
    sandbox.faults.add("smtp_reply", method="SMTP", path=step, code=code, text="5.7.1 No", times=1)
    with dial(sandbox) as smtp:
        with pytest.raises(smtplib.SMTPException) as refused:
            send(smtp)
        assert str(code) in str(refused.value)
        smtp.rset()
        send(smtp)
    assert len(sandbox.mails()) == 1


def test_it_says_no_to_one_address(sandbox: Sandbox) -> None:
    sandbox.faults.add("smtp_reply", method="SMTP", path="/rcpt/bob@example.com", code=550)
    with dial(sandbox) as smtp:
        send(smtp)
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            send(smtp, "bob@example.com")


def test_with_421_it_hangs_up(sandbox: Sandbox) -> None:
    sandbox.faults.add("smtp_reply", method="SMTP", path="/rcpt", code=421, text="4.3.2 Closing", times=1)
    with dial(sandbox) as smtp:
        with pytest.raises(smtplib.SMTPException):
            send(smtp)
        with pytest.raises(smtplib.SMTPServerDisconnected):
            smtp.noop()


@pytest.mark.parametrize(("step", "taken"), [("/hello", 0), ("/mail", 0), ("/data", 0), ("/end", 1)])
@pytest.mark.parametrize("kind", ["smtp_drop", "smtp_hang"])
def test_it_drops_and_hangs_before_or_after_it_took_the_mail(
    sandbox: Sandbox, kind: str, step: str, taken: int
) -> None:
    sandbox.faults.add(kind, method="SMTP", path=step, times=1)
    smtp = dial(sandbox, timeout=0.3)
    with pytest.raises((smtplib.SMTPServerDisconnected, TimeoutError)):
        send(smtp)
    assert len(sandbox.mails()) == taken
    smtp.close()
    sandbox.wait(lambda: sandbox.smtp()["open"] == 0)
    with dial(sandbox) as again:
        send(again)
    assert len(sandbox.mails()) == taken + 1


def test_what_hangs_can_be_let_go(sandbox: Sandbox) -> None:
    sandbox.faults.add("smtp_hang", method="SMTP", path="/mail")
    smtp = dial(sandbox)
    smtp.ehlo()
    smtp.putcmd("MAIL FROM:<me@example.com>")
    sandbox.wait(sandbox.release)
    with pytest.raises((smtplib.SMTPServerDisconnected, ConnectionError)):
        smtp.getreply()


def test_it_is_slow_and_well(sandbox: Sandbox) -> None:
    sandbox.faults.add("smtp_slow", method="SMTP", path="/end", seconds=0.2)
    with dial(sandbox) as smtp:
        send(smtp)
    assert sandbox.calls(last=1)["last"][0]["seconds"] >= 0.2


def test_it_has_a_limit_on_size(sandbox: Sandbox) -> None:
    sandbox.smtp_size(100)
    with dial(sandbox) as smtp:
        smtp.ehlo_or_helo_if_needed()
        assert smtp.esmtp_features["size"] == "100"
        with pytest.raises(smtplib.SMTPException):
            send(smtp)


def test_faults_of_http_are_none_of_mail(sandbox: Sandbox) -> None:
    sandbox.faults.add("status", status=503)
    with dial(sandbox) as smtp:
        send(smtp)


def test_a_login_is_asked_for_where_one_was_arranged() -> None:
    with Sandbox.start(smtp_login=("me", "secret")) as sandbox:
        with dial(sandbox) as smtp, pytest.raises(smtplib.SMTPException):
            send(smtp)
        with dial(sandbox) as smtp:
            with pytest.raises(smtplib.SMTPAuthenticationError):
                smtp.login("me", "wrong")
            smtp.login("me", "secret")
            send(smtp)
        assert sandbox.smtp()["logins"] == 1


def test_when_it_stops_it_cuts_every_connection() -> None:
    sandbox = Sandbox.start()
    sandbox.faults.add("smtp_hang", method="SMTP", path="/mail")
    smtp = dial(sandbox)
    smtp.ehlo()
    smtp.putcmd("MAIL FROM:<me@example.com>")
    sandbox.wait(lambda: sandbox.calls()["open"])
    sandbox.stop()
    with pytest.raises((smtplib.SMTPServerDisconnected, ConnectionError)):
        smtp.getreply()
