"""Mails are what the standard library's parser reads, whatever people are called and whatever they write."""

from __future__ import annotations

import email
import email.policy
import re
import uuid
from datetime import UTC, datetime
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.utils import parseaddr
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifications.mail.address import BadAddress, normalized
from services.notifications.mail.message import Message, parse_sender

ID = uuid.UUID("0199a1b2-7c3d-7e4f-8a5b-6c7d8e9f0d1a")
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def message(**fields: Any) -> Message:
    plain: dict[str, Any] = {
        "id": ID,
        "sender": "no-reply@backroom.example",
        "sender_name": "Backroom",
        "recipient": "bob@example.com",
        "recipient_name": "Bob Example",
        "subject": "Hello",
        "text": "Hello\n",
        "html": "<p>Hello</p>\n",
        "date": NOW,
    }
    return Message(**{**plain, **fields})


def read(content: bytes) -> EmailMessage:
    parsed = email.message_from_bytes(content, policy=email.policy.default)
    assert isinstance(parsed, EmailMessage)
    return parsed


def body(parsed: EmailMessage, kind: str) -> str:
    part = parsed.get_body((kind,))
    assert part is not None
    return str(part.get_content()).replace("\r\n", "\n")


NAMES = st.text(st.characters(codec="utf-8"), max_size=80)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=400)


def expected(text: str) -> str:
    """The text of a header as it can stand on one line."""
    return " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", text).split())


@given(subject=NAMES, name=NAMES, text=TEXTS, html=TEXTS)
def test_what_was_written_is_what_is_read(subject: str, name: str, text: str, html: str) -> None:
    content = message(subject=subject, recipient_name=name, text=text, html=html).as_bytes()
    assert content.isascii()
    lines = content.split(b"\r\n")
    assert all(len(line) <= 998 for line in lines)
    assert not any(b"\n" in line or b"\r" in line for line in lines)
    parsed = read(content)
    assert not parsed.defects
    assert expected(str(parsed["Subject"] or "")) == expected(subject)
    # Not by `addresses`: that of Python 3.11 takes the space between two encoded words for a part of the name.
    encoded, address = parseaddr(email.message_from_bytes(content)["To"])
    assert address == parsed["To"].addresses[0].addr_spec == "bob@example.com"
    assert expected(str(make_header(decode_header(encoded)))) == expected(name)
    for kind, written in (("plain", text), ("html", html)):
        unified = re.sub(r"\r\n?", "\n", written)
        assert body(parsed, kind) == unified.removesuffix("\n") + "\n"
    assert set(parsed.keys()) == {
        "From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type",
    }  # fmt: skip


@pytest.mark.parametrize(
    "hostile",
    [
        "Bob\r\nBcc: all@example.com",
        "Bob\nSubject: won",
        'Bob" <evil@example.com>, "x',
        "Bob <evil@example.com>",
        "=?utf-8?q?evil?=",
        "\r\n\r\n<script>",
        "a" * 5000,
        "é" * 5000,
        "\u2028Bcc: x\u2029",
    ],
)
def test_no_name_and_no_subject_adds_a_header(hostile: str) -> None:
    parsed = read(message(recipient_name=hostile, sender_name=hostile, subject=hostile).as_bytes())
    assert parsed["Bcc"] is None
    assert len(parsed.get_all("Subject", [])) == 1
    assert [one.addr_spec for one in parsed["To"].addresses] == ["bob@example.com"]
    assert [one.addr_spec for one in parsed["From"].addresses] == ["no-reply@backroom.example"]
    assert body(parsed, "plain") == "Hello\n"


def test_no_text_ends_its_part() -> None:
    text = f"--=_{ID.hex}--\n.\nFrom me\n" + "x" * 2000 + "\n"
    parsed = read(message(text=text).as_bytes())
    assert body(parsed, "plain") == text
    assert body(parsed, "html") == "<p>Hello</p>\n"


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("bob@example.com", "bob@example.com"),
        (" Bob.O'Neil+x@EXAMPLE.com ", "Bob.O'Neil+x@example.com"),
        ("bob@bücher.example", "bob@xn--bcher-kva.example"),
        ("bob@例え.jp", "bob@xn--r8jz45g.jp"),
    ],
)
def test_good_addresses(given: str, sent: str) -> None:
    assert normalized(given) == sent


@pytest.mark.parametrize(
    "given",
    [
        "", "bob", "@example.com", "bob@", "bob@localhost", "bob@127.0.0.1", "bob@[127.0.0.1]", "bob@exa mple.com",
        "bob@example..com", "bob..o@example.com", ".bob@example.com", '"bob"@example.com', "a@b@example.com",
        "bob@-example.com", "bob@example.com\r\nRCPT TO:<x@example.com>", "bob\r\n@example.com", "bob@example.com>",
        "bob <bob@example.com>", "a" * 65 + "@example.com", "bob@" + "a" * 250 + ".com", "bob@ex\x00ample.com",
    ],
)  # fmt: skip
def test_bad_addresses(given: str) -> None:
    with pytest.raises(BadAddress) as refused:
        normalized(given)
    assert refused.value.code == "address_invalid"


def test_a_local_part_of_another_script_is_refused_with_its_reason() -> None:
    with pytest.raises(BadAddress) as refused:
        normalized("bücher@example.com")
    assert refused.value.code == "address_not_supported"


@pytest.mark.parametrize(
    ("text", "sender"),
    [
        ("Backroom <a@b.example>", ("Backroom", "a@b.example")),
        ('"Backroom, Inc." <a@b.example>', ("Backroom, Inc.", "a@b.example")),
        ("a@b.example", ("", "a@b.example")),
    ],
)
def test_senders(text: str, sender: tuple[str, str]) -> None:
    assert parse_sender(text) == sender
