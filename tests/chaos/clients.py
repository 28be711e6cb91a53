"""Clients as they ought to be: they repeat a request, with its key, until there is a definite answer.

What was answered with 2xx is written down here, outside of the system. It is one half of the judgment; the
ledger of the sandbox is the other.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import requests

if TYPE_CHECKING:
    from tests.chaos.pace import Pace
    from tests.chaos.targets.base import Answered, Target
    from tests.chaos.world import World

__all__ = ["Accepted", "Books", "Caller", "load"]

_PATIENCE = 180.0
_AGAIN = {408, 425, 429}
"""Statuses below 500 that ask to come back, whatever their body says."""


@dataclass
class Accepted:
    """A purchase that was answered with 2xx at least once."""

    order_id: str
    number: str
    tenant: str
    job_ids: set[str] = field(default_factory=set)
    """What the answers named; more than one is a doubled job."""
    answers: int = 0


class Books:
    """What the harness saw: accepted orders and purchases, refusals, and how often clients had to repeat."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.orders: dict[str, tuple[str, str]] = {}
        """Accepted orders: number and tenant by id."""
        self.purchases: dict[str, Accepted] = {}
        self.parents: dict[str, str] = {}
        """Accepted bulk purchases: tenant by job."""
        self.refused: list[str] = []
        self.unanswered: list[str] = []
        self.repeats: Counter[str] = Counter()
        self.requests = 0
        self.closed = threading.Event()
        """Set when a run is broken off: clients then give up at once."""

    def order(self, order_id: str, number: str, tenant: str) -> None:
        with self._lock:
            self.orders[order_id] = number, tenant

    def purchase(self, tenant: str, answered: Answered) -> None:
        with self._lock:
            for order_id, job_id in answered.jobs.items():
                number, _ = self.orders[order_id]
                accepted = self.purchases.setdefault(order_id, Accepted(order_id, number, tenant))
                accepted.answers += 1
                if job_id is not None:
                    accepted.job_ids.add(job_id)
            if answered.parent is not None:
                self.parents[answered.parent] = tenant

    def repeated(self, why: str) -> None:
        with self._lock:
            self.repeats[why] += 1

    def asked(self) -> None:
        with self._lock:
            self.requests += 1

    def refuse(self, what: str) -> None:
        with self._lock:
            self.refused.append(what)

    def give_up(self, what: str) -> None:
        with self._lock:
            self.unanswered.append(what)


class Caller:
    """One thread's client of one tenant."""

    def __init__(self, world: World, tenant: str, books: Books) -> None:
        self.world, self.tenant, self._books = world, tenant, books
        self._http = requests.Session()
        self._http.trust_env = False
        self._http.headers["Authorization"] = f"Bearer {world.token(tenant)}"

    def post(self, path: str, body: Any, key: str | None, *, method: str = "POST") -> Any:
        """Send until a 2xx comes, and return its JSON; None for a definite refusal or when patience ends."""
        headers = {"Idempotency-Key": key} if key is not None else {}
        deadline = time.monotonic() + _PATIENCE
        pause = 0.1
        self._books.asked()
        while True:
            try:
                answer = self._http.request(
                    method, f"{self.world.url}{path}", json=body, headers=headers, timeout=(2, 15)
                )
            except requests.RequestException as error:
                why = type(error).__name__
            else:
                if answer.status_code < 300:
                    return answer.json() if answer.content else {}
                if answer.status_code < 500 and answer.status_code not in _AGAIN and not _retryable(answer):
                    self._books.refuse(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
                    return None
                why = str(answer.status_code)
            self._books.repeated(why)
            if time.monotonic() > deadline or self._books.closed.wait(pause):
                self._books.give_up(f"{method} {path}: {why}")
                return None
            pause = min(pause * 1.5, 1.0)

    def get(self, path: str) -> Any:
        """Read something; None when it cannot be read."""
        try:
            answer = self._http.get(f"{self.world.url}{path}", timeout=(2, 15))
        except requests.RequestException:
            return None
        return answer.json() if answer.status_code < 300 else None


def load(
    world: World, target: Target, books: Books, *, orders: int, tenants: list[str], seed: int, threads: int, pace: Pace
) -> None:
    """Create `orders` orders and have each bought, at the given pace; returns when each has its answer."""
    local = threading.local()

    def caller(tenant: str) -> Caller:
        known = local.__dict__.setdefault("callers", {})
        if tenant not in known:
            known[tenant] = Caller(world, tenant, books)
        return known[tenant]

    def create(number: int, tenant: str, chance: random.Random) -> str | None:
        name = f"{seed}-{number}"
        order_id = target.create(caller(tenant), name, _key(chance))
        if order_id is not None:
            books.order(order_id, name, tenant)
        return order_id

    def buy(order_id: str, tenant: str, key: str | None) -> None:
        answered = target.purchase(caller(tenant), order_id, key)
        if answered is not None:
            books.purchase(tenant, answered)

    def one(first: int, count: int) -> None:
        # Chance depends on the order alone, so that a seed gives the same requests however threads interleave.
        chance = random.Random(f"{seed}/{first}")
        tenant = chance.choice(tenants)
        created = [create(number, tenant, chance) for number in range(first, first + count)]
        made = [order_id for order_id in created if order_id is not None]
        if not made:
            return
        if count > 1:
            answered = target.purchase_many(caller(tenant), made, _key(chance))
            if answered is not None:
                books.purchase(tenant, answered)
            return
        key = _key(chance)
        match chance.random():
            case draw if draw < 0.7:
                buy(made[0], tenant, key)
            case draw if draw < 0.85:
                # A double click: the same request twice at the same time, with one key or without any.
                both = [twins.submit(buy, made[0], tenant, key) for _ in range(2)]
                for each in both:
                    each.result()
            case _:
                # An impatient person: again, as a new request, while the first is under way or done.
                buy(made[0], tenant, key)
                buy(made[0], tenant, _key(chance))

    with ThreadPoolExecutor(threads) as clients, ThreadPoolExecutor(threads * 2) as twins:
        try:
            running: list[Future[None]] = []
            number, chance = 0, random.Random(f"{seed}/bulk")
            while number < orders:
                count = 1
                if target.bulk and chance.random() < 0.03:
                    count = min(chance.randint(3, 12), orders - number)
                pace.wait_for_turn(number)
                running.append(clients.submit(one, number, count))
                number += count
                # No more than what the clients can work at: the pace is theirs too.
                while sum(not each.done() for each in running[-threads * 2 :]) >= threads * 2:
                    time.sleep(0.01)
            for each in running:
                each.result()
        except BaseException:
            # Broken off: nobody waits for answers, nor for faults, that do not matter any more.
            books.closed.set()
            pace.free()
            raise


def _retryable(answer: requests.Response) -> bool:
    try:
        return bool(answer.json().get("retryable"))
    except (ValueError, AttributeError):
        return False


def _key(chance: random.Random) -> str | None:
    """Two requests in three bear a key."""
    return str(uuid.UUID(int=chance.getrandbits(128))) if chance.random() < 0.67 else None
