"""Waiting for a condition, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable

#: Short enough to be unnoticed by a person, long enough to cost no processor time worth naming.
INTERVAL = 0.02


def wait_until(condition: Callable[[], bool], timeout: float, interval: float = INTERVAL) -> bool:
    """Return True as soon as the condition holds, False when the time has passed without it."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(interval)
    return True
