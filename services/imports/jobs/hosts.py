"""A few fetches of one host at a time, over all workers and all workspaces.

    with place_at(host, most=2):
        fetch(…)

A place is an advisory lock of a connection of its own, held while the fetch lasts: a worker that is killed, or a
machine that is cut off, gives it back by losing its connection. What is locked is a number made from the host's
name; two hosts with the same number wait for each other now and then, and nothing else comes of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from shared.db import current_database
from shared.jobs import Snooze

__all__ = ["LOCK_SPACE", "place_at"]

LOCK_SPACE: Final = 0x6968  # "ih": the first key of the two-key advisory locks of hosts
_SHORTEST_WAIT: Final = 2.0
_LONGEST_WAIT: Final = 300.0


@contextlib.contextmanager
def place_at(host: str, *, most: int, due: datetime) -> Iterator[None]:
    """Hold one of the host's places. Raises Snooze with the code `host_busy` when all are taken.

    `due` is since when the caller waits: who has waited long comes back less often, so that a hundred thousand
    pictures of one host do not ask for a place all day long.
    """
    with current_database().connect() as connection:
        for place in range(most):
            row = connection.execute("SELECT pg_try_advisory_lock(%s, %s)", (LOCK_SPACE, _number(host, place)))
            if row.fetchone() == (True,):
                break
        else:
            raise Snooze("host_busy", delay=_wait(datetime.now(UTC) - due))
        yield


def _number(host: str, place: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{host}#{place}".encode()).digest()[:4], signed=True)


def _wait(waited: timedelta) -> float:
    """A quarter of what it has waited, give or take, so that they do not all come back at once."""
    return random.uniform(0.5, 1.5) * min(max(waited.total_seconds() / 4, _SHORTEST_WAIT), _LONGEST_WAIT)
