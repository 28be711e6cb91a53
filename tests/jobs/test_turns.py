"""The order in which the threads of a worker take what it has at hand, and who is given places by the relay."""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass
from queue import Empty
from typing import Any

import pytest

from shared.jobs.actor import Dispatch
from shared.jobs.pick import Gates, QueueLimits, _choose
from shared.jobs.turns import Turns
from shared.jobs.wire import decode, encode_dispatch


@dataclass
class Item:
    """What Dramatiq's consumers put: a priority and a message."""

    priority: int
    message: Any


@dataclass
class Message:
    args: tuple[Any, ...]
    name: str


def item(name: str, tenant_id: str | None, priority: int = 5) -> Item:
    return Item(priority, Message((Dispatch([], tenant_id=tenant_id),), name))


def take(turns: Turns, threads: int) -> list[str]:
    """Let so many threads take an item each and keep at it; return what they took, in order."""
    taken: list[str] = []

    def work(begun: threading.Event) -> None:
        taken.append(turns.get(timeout=1).message.name)
        begun.set()
        # It stays at work: a thread that ended would leave its number to the next, which then seems to be done.
        threading.Event().wait()

    for _ in range(threads):
        begun = threading.Event()
        threading.Thread(target=work, args=(begun,), daemon=True).start()
        assert begun.wait(10)
    return taken


def test_who_has_fewer_threads_goes_first() -> None:
    """A job that came last goes before the many of a tenant who keeps the threads busy."""
    turns = Turns()
    for number in range(6):
        turns.put(item(f"many{number}", "many"))
    assert take(turns, 2) == ["many0", "many1"]

    turns.put(item("one", "few"))

    assert take(turns, 3) == ["one", "many2", "many3"]


def test_the_urgent_goes_first_whoever_has_the_threads() -> None:
    turns = Turns()
    turns.put(item("many0", "many"))
    take(turns, 1)
    turns.put(item("few", "few", priority=5))
    turns.put(item("urgent", "many", priority=0))

    assert take(turns, 2) == ["urgent", "few"]


def test_what_came_first_goes_first_among_equals() -> None:
    turns = Turns()
    for name in ("b", "a", "c"):
        turns.put(item(name, name))

    assert take(turns, 3) == ["b", "a", "c"]


def test_a_thread_that_asks_again_has_let_go() -> None:
    """The threads of a tenant are counted while they run, not for ever."""
    turns = Turns()
    turns.put(item("a0", "a"))
    turns.get()
    turns.put(item("a1", "a"))
    turns.put(item("b0", "b"))

    assert [turns.get().message.name for _ in range(2)] == ["a1", "b0"]
    with pytest.raises(Empty):
        turns.get(timeout=0.01)
    assert turns.qsize() == 0


def test_events_have_no_tenant_and_wait_like_others() -> None:
    turns = Turns()
    turns.put(Item(0, Message((), "event")))

    assert take(turns, 1) == ["event"]


def test_a_message_says_whose_it_is() -> None:
    job = uuid.uuid4()
    for tenant_id in ("acme", None):
        message = decode("work", encode_dispatch("write", [(job, 1)], tenant_id=tenant_id), redelivered=False)
        assert message.args[0] == Dispatch([(job, 1)], tenant_id=tenant_id)


def test_who_was_given_much_lately_comes_after_who_was_not() -> None:
    """A burst of whoever asks for little goes before more for whoever took everything in the last seconds."""
    rows = [(uuid.uuid4(), tenant, "lease", 5) for tenant in ("large", "small") for _ in range(8)]

    def chosen(lately: dict[str, float]) -> list[str]:
        picked = _choose(rows, QueueLimits(200), Gates(), {}, {"lease": 25}, lately, 200)
        return sorted(tenant for _, tenant, _ in picked)

    assert chosen({}) == ["large"] * 4 + ["small"] * 4
    assert chosen({"large": 1000.0}) == ["small"] * 8
