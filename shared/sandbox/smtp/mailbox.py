"""What the mail server has taken, and what it counted."""

import email
import email.message
import email.policy
import itertools
import re
import threading
from collections import deque
from dataclasses import dataclass
from functools import cached_property
from typing import Any

#: How many mails are kept; the counts have no bound.
KEPT = 20_000


@dataclass
class Letter:
    """A mail as it came: envelope, bytes, and the number of the connection. Parsed when somebody looks."""

    id: int
    time: str
    sender: str
    to: list[str]
    content: bytes
    connection: int

    @cached_property
    def message(self) -> email.message.EmailMessage:
        parsed = email.message_from_bytes(self.content, policy=email.policy.default)
        assert isinstance(parsed, email.message.EmailMessage)
        return parsed

    def body(self, kind: str) -> str:
        """The text of this kind (`plain` or `html`), empty without one."""
        part = self.message.get_body((kind,))
        return "" if part is None else str(part.get_content())

    def links(self) -> list[str]:
        """The links of the text, in order."""
        return re.findall(r"https?://[^\s<>\"]+", self.body("plain"))

    def summary(self) -> dict[str, Any]:
        """{id, time, from, to, subject, message_id, size, connection}; `to` is of the envelope."""
        return {
            "id": self.id,
            "time": self.time,
            "from": self.sender,
            "to": self.to,
            "subject": str(self.message["Subject"]),
            "message_id": str(self.message["Message-ID"]),
            "size": len(self.content),
            "connection": self.connection,
        }

    def as_json(self) -> dict[str, Any]:
        """The summary, and {headers: {name: value}, text, html, links}."""
        headers = {name: str(value) for name, value in self.message.items()}
        whole = {"headers": headers, "text": self.body("plain"), "html": self.body("html"), "links": self.links()}
        return {**self.summary(), **whole}


class Mailbox:
    """All mails and all counts. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self.reset()

    def reset(self) -> None:
        with self._lock:
            self._letters: deque[Letter] = deque(maxlen=KEPT)
            self._counts = {"connections": 0, "open": 0, "most_open": 0, "logins": 0, "mails": 0}

    def opened(self) -> int:
        """Count a connection, and return its number."""
        with self._lock:
            counts = self._counts
            counts["connections"] += 1
            counts["open"] += 1
            counts["most_open"] = max(counts["most_open"], counts["open"])
            return counts["connections"]

    def closed(self) -> None:
        with self._lock:
            # Those of before a reset were forgotten with it.
            self._counts["open"] = max(0, self._counts["open"] - 1)

    def logged_in(self) -> None:
        with self._lock:
            self._counts["logins"] += 1

    def take(self, time: str, sender: str, to: list[str], content: bytes, connection: int) -> Letter:
        with self._lock:
            letter = Letter(next(self._numbers), time, sender, to, content, connection)
            self._letters.append(letter)
            self._counts["mails"] += 1
            return letter

    def find(self, to: str | None = None) -> list[Letter]:
        """The mails to this address (without regard to case), or all; the newest first."""
        with self._lock:
            letters = list(self._letters)
        wanted = to and to.lower()
        return [one for one in reversed(letters) if wanted is None or wanted in map(str.lower, one.to)]

    def get(self, number: int) -> Letter | None:
        with self._lock:
            return next((one for one in self._letters if one.id == number), None)

    def counts(self) -> dict[str, int]:
        """{connections, open, most_open, logins, mails}, since the last reset."""
        with self._lock:
            return dict(self._counts)
