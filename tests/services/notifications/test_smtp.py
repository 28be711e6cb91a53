"""Connections to the mail server: kept, replaced when they are dead, encrypted, and never shared with a child."""

from __future__ import annotations

import datetime as dt
import os
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from services.notifications.mail.server import Server, server
from services.notifications.providers.smtp import Mailer
from shared.context import use
from shared.outbound import RuleViolation, Unavailable
from shared.sandbox import Sandbox
from shared.testing.service import ServiceUnderTest, wait_until

MESSAGE = b"Subject: x\r\n\r\n.\r\n..\r\nx\r\n"
Make = Callable[..., Mailer]


@pytest.fixture
def make(notifications: ServiceUnderTest) -> Iterator[Make]:
    """Make a mailer; the database is for its circuit."""
    made: list[Mailer] = []

    def make(url: str, **options: float) -> Mailer:
        mailer = Mailer(server(url), **{"timeout": 1.0, "most_mails": 1000, "idle": 60.0, **options})  # type: ignore[arg-type]
        made.append(mailer)
        return mailer

    yield make
    for mailer in made:
        mailer.close()


def send(mailer: Mailer, to: str = "bob@example.com") -> None:
    mailer.send("me@example.com", to, MESSAGE)


def test_one_connection_is_enough_for_one_thread(make: Make) -> None:
    with Sandbox.start() as sandbox:
        mailer = make(sandbox.smtp_url)
        for _ in range(200):
            send(mailer)
        assert (sandbox.smtp()["mails"], sandbox.smtp()["connections"]) == (200, 1)


def test_threads_have_a_connection_each_and_no_more(make: Make, notifications: ServiceUnderTest) -> None:
    with Sandbox.start() as sandbox:
        mailer = make(sandbox.smtp_url)
        notifications.concurrently(4, lambda _: [send(mailer) for _ in range(50)])
        assert sandbox.smtp()["mails"] == 200
        assert sandbox.smtp()["connections"] <= 4


def test_a_connection_ends_after_so_many_mails_and_after_a_pause(make: Make) -> None:
    with Sandbox.start() as sandbox:
        mailer = make(sandbox.smtp_url, most_mails=10)
        for _ in range(25):
            send(mailer)
        assert sandbox.smtp()["connections"] == 3
        impatient = make(sandbox.smtp_url, idle=0.0)
        for _ in range(3):
            send(impatient)
        assert sandbox.smtp()["connections"] == 6


def test_a_connection_that_the_server_has_closed_costs_no_mail_and_no_try(make: Make) -> None:
    with Sandbox.start() as sandbox:
        mailer = make(sandbox.smtp_url)
        send(mailer)
        sandbox.faults.add("smtp_reply", method="SMTP", path="/mail", code=421, text="4.4.2 Idle too long", times=1)
        send(mailer)
        sandbox.faults.add("smtp_drop", method="SMTP", path="/mail", times=1)
        send(mailer)
        assert (sandbox.smtp()["mails"], sandbox.smtp()["connections"]) == (3, 3)


def test_after_a_refusal_the_connection_is_used_again(make: Make) -> None:
    with Sandbox.start() as sandbox:
        mailer = make(sandbox.smtp_url)
        sandbox.faults.add("smtp_reply", method="SMTP", path="/rcpt", code=550, text="5.1.1 No", times=1)
        with pytest.raises(Exception, match="No"):
            send(mailer)
        send(mailer)
        assert (sandbox.smtp()["mails"], sandbox.smtp()["connections"]) == (1, 1)


def test_lines_with_dots_arrive(make: Make) -> None:
    with Sandbox.start() as sandbox:
        send(make(sandbox.smtp_url))
        assert sandbox.mail()["text"].splitlines() == [".", "..", "x"]


def test_a_child_does_not_speak_on_its_parents_connections(make: Make) -> None:
    with Sandbox.start() as sandbox:
        mailer = make(sandbox.smtp_url)
        send(mailer)
        kept = mailer._kept[0]
        mailer._pid = os.getpid() + 1  # as it looks from a child
        send(mailer)
        assert kept not in mailer._kept
        assert sandbox.smtp()["connections"] == 2


def test_nobody_sends_in_a_request(make: Make) -> None:
    with Sandbox.start() as sandbox:
        mailer = make(sandbox.smtp_url)
        with use(in_request=True), pytest.raises(RuleViolation):
            send(mailer)
        assert sandbox.smtp()["connections"] == 0


def certificate(directory: Path) -> Path:
    """A certificate of its own for localhost, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = directory / "localhost.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return file


@pytest.fixture
def secure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A mail server with a certificate that this process trusts, and a password."""
    file = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with Sandbox.start(smtp_tls=context, smtp_login=("backroom", "p@ss word")) as sandbox:
        yield sandbox


def test_starttls_and_login(make: Make, secure: Sandbox) -> None:
    port = secure.state()["smtp"]
    send(make(f"smtp://backroom:p%40ss%20word@localhost:{port}?tls=start"))
    assert (secure.smtp()["mails"], secure.smtp()["logins"]) == (1, 1)


def test_a_wrong_password_makes_mails_wait(make: Make, secure: Sandbox) -> None:
    port = secure.state()["smtp"]
    with pytest.raises(Unavailable, match="535") as refused:
        send(make(f"smtp://backroom:wrong@localhost:{port}?tls=start"))
    assert refused.value.code == "mail_server_away"
    assert "wrong" not in str(refused.value)
    wait_until(lambda: secure.smtp()["open"] == 0)


def test_a_certificate_of_another_name_is_refused(make: Make, secure: Sandbox) -> None:
    port = secure.state()["smtp"]
    with pytest.raises(Unavailable, match="certificate"):
        send(make(f"smtp://backroom:p%40ss%20word@127.0.0.1:{port}?tls=start"))


def test_a_server_without_tls_gets_nothing_where_tls_is_due(make: Make) -> None:
    with Sandbox.start() as sandbox:
        with pytest.raises(Unavailable):
            send(make(f"{sandbox.smtp_url}?tls=start"))
        assert sandbox.smtp()["mails"] == 0


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp://mail.example", Server("mail.example", 587, "start")),
        ("smtp://mail.example?tls=never", Server("mail.example", 587, "never")),
        ("smtps://u%40x:p@mail.example", Server("mail.example", 465, "always", "u@x", "p")),
        ("smtp://127.0.0.1:1025", Server("127.0.0.1", 1025, "never")),
        ("smtp://localhost:25?tls=start", Server("localhost", 25, "start")),
    ],
)
def test_servers(url: str, expected: Server) -> None:
    assert server(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "http://x", "smtp://", "mail.example:25", "smtp://x/y", "smtp://x?tls=maybe", "smtp://x?y=1",
        "smtps://x?tls=never", "smtp://x:99999",
    ],
)  # fmt: skip
def test_no_servers(url: str) -> None:
    with pytest.raises(ValueError, match=r"must be|knows no|Port"):
        server(url)


def test_a_password_is_not_shown() -> None:
    assert "secret" not in repr(server("smtp://me:secret@mail.example"))
