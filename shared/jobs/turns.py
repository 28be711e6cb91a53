"""Whose turn it is in a worker: the order in which its threads take the messages that it has at hand.

Dramatiq takes them as they came, so that a tenant whose jobs fill the window would make everybody else wait for
all of them. Here a free thread takes the most urgent; among equals, a job of the tenant for whom the fewest
threads of this worker run already; among those, what came first. Nobody starves: whoever is passed over has
more threads than who passes, and as they come free it has fewer.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from itertools import count
from queue import Queue
from typing import Any

__all__ = ["Turns"]


class Turns(Queue[Any]):
    """The queue between Dramatiq's consumers and its threads, to be put in the place of its own.

    A thread that asks for the next item is done with the one before.
    """

    def _init(self, maxsize: int) -> None:
        self._lines: dict[tuple[int, str | None], deque[tuple[int, Any]]] = {}
        self._numbers = count()
        self._size = 0
        self._running: Counter[str | None] = Counter()
        self._has: dict[int, str | None] = {}

    def _qsize(self) -> int:
        return self._size

    def _put(self, item: Any) -> None:
        arguments = item.message.args
        tenant_id = getattr(arguments[0], "tenant_id", None) if arguments else None
        self._lines.setdefault((item.priority, tenant_id), deque()).append((next(self._numbers), item))
        self._size += 1

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        with self.mutex:
            self._let_go()
        return super().get(block, timeout)

    def _get(self) -> Any:
        chosen = min(self._lines, key=lambda line: (line[0], self._running[line[1]], self._lines[line][0][0]))
        line = self._lines[chosen]
        _, item = line.popleft()
        if not line:
            del self._lines[chosen]
        self._size -= 1
        self._running[chosen[1]] += 1
        self._has[threading.get_ident()] = chosen[1]
        return item

    def _let_go(self) -> None:
        me = threading.get_ident()
        if me in self._has:
            tenant_id = self._has.pop(me)
            self._running[tenant_id] -= 1
            if not self._running[tenant_id]:
                del self._running[tenant_id]
