"""Calls per minute and account, counted in fixed windows of one minute of the sandbox's clock."""

import threading

from .clock import Clock

WINDOW = 60.0


class RateLimits:
    """Counts calls. `scale` multiplies every allowance; 0 turns limits off. Refused calls do not count."""

    def __init__(self, clock: Clock, scale: float = 1.0):
        self.scale = scale
        self._clock = clock
        self._lock = threading.Lock()
        self._window = 0
        self._used: dict[tuple[str, tuple[str, str]], int] = {}

    def take(self, account: str, limit: tuple[str, str], allowance: int) -> float | None:
        """Count one call. None when it is within the limit, else the end of the window (epoch seconds)."""
        if self.scale <= 0:
            return None
        with self._lock:
            window = int(self._clock.now() // WINDOW)
            if window != self._window:
                self._window = window
                self._used.clear()
            used = self._used.get((account, limit), 0)
            if used >= max(1, round(allowance * self.scale)):
                return (window + 1) * WINDOW
            self._used[account, limit] = used + 1
            return None

    def reset(self) -> None:
        with self._lock:
            self._used.clear()
