"""A few jobs at a time at one place that they share, over all workers and all workspaces: a host, an endpoint.

    with place_at(host, most=2, due=since, busy="host_busy"):
        fetch(…)

A place is an advisory lock of a connection of its own, held while the work lasts: a worker that is killed, or a
machine that is cut off, gives it back by losing its connection. What is locked is a number made from the
name; two names with the same number wait for each other now and then, and nothing else comes of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from shared.db.database import current_database
from shared.jobs.outcomes import Snooze

__all__ = ["pause_after", "place_at"]

_LOCK_SPACE: Final = 0x6968  # the first key of the two-key advisory locks of places
_SHORTEST_WAIT: Final = 2.0
_LONGEST_WAIT: Final = 300.0


@contextlib.contextmanager
def place_at(name: str, *, most: int, due: datetime, busy: str = "host_busy") -> Iterator[None]:
    """Hold one of the places of this name. Raises Snooze with the code `busy` when all are taken.

    `due` is since when the caller waits: who has waited long comes back less often, so that a hundred thousand
    pictures of one host do not ask for a place all day long.
    """
    with current_database().connect() as connection:
        for place in range(most):
            row = connection.execute("SELECT pg_try_advisory_lock(%s, %s)", (_LOCK_SPACE, _number(name, place)))
            if row.fetchone() == (True,):
                break
        else:
            raise Snooze(busy, delay=pause_after(datetime.now(UTC) - due))
        yield


def pause_after(waited: timedelta) -> float:
    """Return how many seconds to stay away: a quarter of what it has waited, so that not all come back at once."""
    return random.uniform(0.5, 1.5) * min(max(waited.total_seconds() / 4, _SHORTEST_WAIT), _LONGEST_WAIT)


def _number(name: str, place: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{name}#{place}".encode()).digest()[:4], signed=True)
