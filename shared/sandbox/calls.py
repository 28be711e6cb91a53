"""What was called and how it ended: counts since the last reset, and the last calls one by one."""

import threading
from collections import Counter, deque
from typing import Any

#: How many single calls are kept; the counts have no bound.
KEPT = 2000


class CallLog:
    """Thread-safe. A call is {seq, time, method, path, route, account, metadata, outcome, fault, seconds}.

    `outcome` is the status of a whole answer ("201"), or "no answer" when the connection was closed, reset
    or given up. `fault` is the kind that was played, or None. `seconds` is how long the call took.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._counts: Counter[tuple[str, str, str | None]] = Counter()
        self._open = 0
        self._seq = 0

    def begin(self) -> None:
        with self._lock:
            self._open += 1

    def end(self, **call: Any) -> None:
        with self._lock:
            self._open -= 1
            self._seq += 1
            self._counts[call["route"], call["outcome"], call["fault"]] += 1
            self._last.append({"seq": self._seq, **call})

    def as_json(self, last: int = 0) -> dict[str, Any]:
        """{open, total, counts: [{route, outcome, fault, count}], last: newest first}."""
        with self._lock:
            counts = [
                {"route": route, "outcome": outcome, "fault": fault, "count": count}
                for (route, outcome, fault), count in sorted(self._counts.items(), key=str)
            ]
            newest = list(self._last)[::-1][: max(0, last)]
            return {"open": self._open, "total": self._seq, "counts": counts, "last": newest}

    def reset(self) -> None:
        with self._lock:
            self._last.clear()
            self._counts.clear()
            self._seq = 0
