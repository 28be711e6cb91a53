"""`Prefer: wait=N` (RFC 7240): the client would rather wait a little than ask again.

Waiting holds a thread of the server, so both how long and how many are limited; beyond that the answer
comes at once, which the RFC allows and clients must expect.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import flask

__all__ = ["LONGEST", "Waiters", "wait_seconds"]

LONGEST: Final = 25
"""Seconds. Below the 30 after which many proxies give up on a silent connection."""

_WAIT: Final = re.compile(r'(?:^|,)\s*wait\s*=\s*"?(\d{1,9})"?\s*(?=$|[,;])', re.IGNORECASE)


def wait_seconds(request: flask.Request) -> int:
    """Return how many seconds the client would wait, at most `LONGEST`; 0 without such a preference.

    Of several the first counts; what is malformed is ignored (RFC 7240 §2).
    """
    found = _WAIT.search(",".join(request.headers.getlist("Prefer")))
    return min(int(found[1]), LONGEST) if found else 0


class Waiters:
    """Those who wait in this process, at most `limit` at a time."""

    def __init__(self, limit: int) -> None:
        self._places = threading.BoundedSemaphore(limit) if limit else None

    @contextmanager
    def place(self) -> Iterator[bool]:
        """Yield whether there is a place to wait; it is given back at the end."""
        taken = self._places is not None and self._places.acquire(blocking=False)
        try:
            yield taken
        finally:
            if taken and self._places is not None:
                self._places.release()
