"""How often each picture was asked for, and by how many at once: whether somebody was polite."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Counts:
    """Thread-safe. A request is open from its arrival until its answer was sent, or given up."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all = _Count()
        self._paths: dict[str, _Count] = {}

    @contextmanager
    def request(self, path: str) -> Iterator[None]:
        with self._lock:
            counts = (self._all, self._paths.setdefault(path, _Count()))
            for count in counts:
                count.begin()
        try:
            yield
        finally:
            with self._lock:
                for count in counts:
                    count.open -= 1

    def of(self, path: str) -> int:
        """How many requests a path has had, the one that is open included."""
        with self._lock:
            return self._paths[path].requests if path in self._paths else 0

    def as_json(self) -> dict[str, Any]:
        """{requests, open, most_open, paths: {path: {requests, open, most_open}}}."""
        with self._lock:
            paths = {path: count.as_json() for path, count in sorted(self._paths.items())}
            return {**self._all.as_json(), "paths": paths}

    def reset(self) -> None:
        """Requests that are open go on, and are counted no more."""
        with self._lock:
            self._all = _Count()
            self._paths.clear()


class _Count:
    def __init__(self) -> None:
        self.requests = self.open = self.most_open = 0

    def begin(self) -> None:
        self.requests += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)

    def as_json(self) -> dict[str, int]:
        return {"requests": self.requests, "open": self.open, "most_open": self.most_open}
