"""One pace for load and faults: neither runs ahead of the other.

Fault number j happens while the orders around its share of all orders are being accepted. So a fault
always meets work, on a fast machine and on a slow one.
"""

from __future__ import annotations

import threading

__all__ = ["Pace"]


class Pace:
    """Couples `orders` orders and `faults` faults."""

    def __init__(self, orders: int, faults: int) -> None:
        self._orders, self._faults = orders, faults
        self._started = 0
        self._struck = 0
        self._changed = threading.Condition()

    def wait_for_turn(self, order: int) -> None:
        """Wait until the faults that belong before this order have begun."""
        due = order * self._faults // self._orders
        with self._changed:
            self._changed.wait_for(lambda: self._struck >= due)
            self._started = max(self._started, order + 1)
            self._changed.notify_all()

    def wait_for_work(self, fault: int) -> None:
        """Wait until the orders that belong before this fault have begun."""
        due = (2 * fault + 1) * self._orders // (2 * self._faults)
        with self._changed:
            self._changed.wait_for(lambda: self._started >= due)

    def struck(self) -> None:
        """A fault has begun."""
        with self._changed:
            self._struck += 1
            self._changed.notify_all()

    def free(self) -> None:
        """One side is at its end: whoever waits for it goes on."""
        with self._changed:
            self._struck, self._started = self._faults + 1, self._orders + 1
            self._changed.notify_all()
