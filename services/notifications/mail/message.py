"""Mails as bytes: multipart/alternative of text and HTML (RFC 5322, RFC 2045 to 2047), ready for DATA.

`email.message` takes a millisecond for each, most of it in folding headers. Ours are few and known, so that they are
written directly; the standard library's parser reads every one of them back, as the tests prove.
"""

from __future__ import annotations

import binascii
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from typing import Final

__all__ = ["Message", "parse_sender"]

_BREAKS: Final = re.compile(r"\r\n?|\n")
_UNSAFE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_ATOM: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]*")
_ENCODED: Final = 45
"""Bytes of UTF-8 in an encoded word, which may have 75 characters: 60 of base64 and 12 around them."""

_LINE: Final = 900
"""Characters of a header; a line may have 998, and none of ours is folded but between encoded words."""


@dataclass(frozen=True, slots=True)
class Message:
    """All that a mail says, to whom and from whom. Addresses are normalized ASCII."""

    id: uuid.UUID
    sender: str
    sender_name: str
    recipient: str
    recipient_name: str
    subject: str
    text: str
    html: str
    date: datetime
    headers: Mapping[str, str] = field(default_factory=dict)
    """Further ones, ASCII, such as List-Unsubscribe."""

    @property
    def message_id(self) -> str:
        """The Message-ID, the same in every try."""
        return f"<{self.id}@{self.sender.rpartition('@')[2]}>"

    def as_bytes(self) -> bytes:
        """Return it with CRLF line ends; lines have at most 998 bytes, all of them ASCII."""
        # No body of quoted-printable holds "=_", so that no text can end its part.
        boundary = f"=_{self.id.hex}"
        further = "".join(f"{name}: {_safe(value)}\r\n" for name, value in self.headers.items())
        head = (
            f"From: {_mailbox(self.sender_name, self.sender)}\r\n"
            f"To: {_mailbox(self.recipient_name, self.recipient)}\r\n"
            f"Subject: {_words(self.subject)}\r\n"
            f"Date: {format_datetime(self.date)}\r\n"
            f"Message-ID: {self.message_id}\r\n"
            f"Auto-Submitted: auto-generated\r\n"
            f"{further}"
            "MIME-Version: 1.0\r\n"
            f'Content-Type: multipart/alternative; boundary="{boundary}"\r\n'
            "\r\n"
        )
        parts = [_part(boundary, "plain", self.text), _part(boundary, "html", self.html)]
        return head.encode("ascii") + b"".join(parts) + f"--{boundary}--\r\n".encode()


def parse_sender(text: str) -> tuple[str, str]:
    """Return name and address of `Name <address>`, as settings have it. Raises ValueError."""
    found = re.fullmatch(r'\s*(?:"?([^"<>]*?)"?\s*<([^<>\s]+)>|([^<>\s]+))\s*', text)
    if found is None:
        raise ValueError("a sender is written as Name <address>")
    return found[1] or "", found[2] or found[3]


def _part(boundary: str, kind: str, body: str) -> bytes:
    # With a break at its end, from which b2a_qp knows what breaks look like.
    content = _BREAKS.sub("\r\n", body.removesuffix("\n") + "\n").encode("utf-8", "replace")
    # The break before the next boundary belongs to that.
    return (
        f"--{boundary}\r\nContent-Type: text/{kind}; charset=utf-8\r\n"
        "Content-Transfer-Encoding: quoted-printable\r\n\r\n"
    ).encode() + b"%b\r\n" % binascii.b2a_qp(content)


def _safe(text: str) -> str:
    return _UNSAFE.sub(" ", text)[:_LINE]


def _words(text: str) -> str:
    """Return unstructured text of a header: as it is where that is ASCII, else in encoded words (RFC 2047)."""
    text = _safe(text).strip()
    return text if text.isascii() and "=?" not in text else _encoded(text)


def _mailbox(name: str, address: str) -> str:
    name = " ".join(_safe(name).split())[:200]
    if not name:
        return address
    if not name.isascii() or "=?" in name:
        return f"{_encoded(name)} <{address}>"
    if _ATOM.fullmatch(name):
        return f"{name} <{address}>"
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}" <{address}>'


def _encoded(text: str) -> str:
    words: list[bytes] = []
    chunk = b""
    for character in text:
        more = character.encode("utf-8", "replace")
        if len(chunk) + len(more) > _ENCODED:
            words.append(chunk)
            chunk = b""
        chunk += more
    words.append(chunk)
    # What parts two encoded words is no part of the text.
    return "\r\n ".join(f"=?utf-8?b?{binascii.b2a_base64(word, newline=False).decode()}?=" for word in words)
