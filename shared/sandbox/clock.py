"""Time as the sandbox sees it, which can be shifted, and a thread that does things a little later."""

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime


class Clock:
    """Wall time plus an offset in seconds. Ages of rates, expiry of links and rate-limit windows use it."""

    def __init__(self) -> None:
        self.offset = 0.0

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time() + self.offset

    def iso(self) -> str:
        """Now as the providers write it: 2026-01-31T10:00:00.123456Z."""
        return iso(self.now())


def iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def seconds_of(stamp: str) -> float:
    """The inverse of `iso`."""
    return datetime.fromisoformat(stamp).timestamp()


class Scheduler:
    """Runs functions after a delay, one at a time, on one thread. What is due when it stops is not run."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="sandbox-scheduler", daemon=True)
        self._thread.start()

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        with self._changed:
            heapq.heappush(self._due, (time.monotonic() + seconds, next(self._order), action))
            self._changed.notify()

    def run_all_now(self) -> int:
        """Do everything that waits, in its order, on the calling thread; how many were done."""
        with self._changed:
            actions = [action for _, _, action in sorted(self._due, key=lambda item: item[:2])]
            self._due.clear()
        for action in actions:
            action()
        return len(actions)

    def clear(self) -> None:
        with self._changed:
            self._due.clear()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._stopped:
                    return
                if not self._due:
                    self._changed.wait()
                    continue
                delay = self._due[0][0] - time.monotonic()
                if delay > 0:
                    self._changed.wait(delay)
                    continue
                action = heapq.heappop(self._due)[2]
            action()
