"""The journal against a provider's books: whatever goes wrong, the books never show an effect twice."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from shared.context import use
from shared.db.database import Database, unit_of_work
from shared.outbound import (
    CircuitOpen,
    NotAuthorized,
    RateLimited,
    Refused,
    Superseded,
    Unavailable,
    UnknownOutcome,
    Unsettled,
    effects,
)
from shared.outbound.guard import RuleViolation
from shared.telemetry.testing import captured_logs

SETTLE = 60.0


class Crash(BaseException):
    """Stands for a process that is gone: nothing after it runs."""


class World:
    """A provider with books, and a clock that the test moves."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 1, 12, tzinfo=UTC)
        self.books: list[str] = []
        self.calls = 0
        self.looks = 0
        self.plan: list[Callable[[], Any]] = []
        self.look_plan: list[Callable[[], Any]] = []

    def clock(self) -> datetime:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def charge(self) -> dict[str, Any]:
        self.books.append(f"tx{len(self.books) + 1}")
        return {"id": self.books[-1]}

    def call(self) -> Any:
        self.calls += 1
        return self.plan.pop(0)() if self.plan else self.charge()

    def look_up(self) -> Any:
        self.looks += 1
        if self.look_plan:
            return self.look_plan.pop(0)()
        return {"id": self.books[0]} if self.books else None

    def once(self, key: str = "label") -> Any:
        return effects.once(key, call=self.call, look_up=self.look_up, settle=SETTLE, clock=self.clock)


def failing(error: BaseException, before: Callable[[], Any] | None = None) -> Callable[[], Any]:
    def step() -> Any:
        if before is not None:
            before()
        raise error

    return step


@pytest.fixture
def world(tenant: str) -> World:
    return World()


def state(key: str = "label") -> str | None:
    effect = effects.find(key)
    return effect and effect.state


def test_the_answer_is_stored_and_returned_ever_after(world: World) -> None:
    assert world.once() == {"id": "tx1"}
    assert world.once() == {"id": "tx1"}
    assert (world.calls, world.looks, state()) == (1, 0, "done")


def test_the_first_answer_has_the_shape_of_the_stored_one(world: World) -> None:
    world.plan = [lambda: {"pair": (1, 2), 3: None}]
    assert world.once() == world.once() == {"pair": [1, 2], "3": None}


def test_the_intent_is_committed_before_the_call(world: World, database: Database) -> None:
    seen: list[Any] = []

    def call() -> Any:
        with database.system.connect() as other:
            seen.append(other.execute(text("SELECT state FROM effects WHERE key = 'before'")).scalar())
        return 1

    effects.once("before", call=call, look_up=world.look_up, settle=SETTLE)
    assert seen == ["intent"]


def test_a_lost_answer_is_looked_for_and_adopted(world: World) -> None:
    world.plan = [failing(UnknownOutcome("cut off"), before=world.charge)]
    with pytest.raises(UnknownOutcome):
        world.once()
    assert state() == "unknown"
    world.pass_(10)
    with pytest.raises(Unsettled) as wait:
        world.once()
    assert wait.value.until == datetime(2026, 3, 1, 12, 1, tzinfo=UTC)
    assert (world.calls, world.looks) == (1, 0), "it is too early to look"
    world.pass_(50)
    assert world.once() == {"id": "tx1"}
    assert world.once() == {"id": "tx1"}
    assert (world.calls, world.looks, world.books) == (1, 1, ["tx1"])


def test_a_lost_request_is_sent_again_once_settled(world: World) -> None:
    world.plan = [failing(UnknownOutcome("cut off"))]
    with pytest.raises(UnknownOutcome):
        world.once()
    world.pass_(SETTLE)
    assert world.once() == {"id": "tx1"}
    assert (world.calls, world.looks, world.books) == (2, 1, ["tx1"])


def test_a_second_unknown_waits_again_from_its_own_start(world: World) -> None:
    world.plan = [failing(UnknownOutcome("1")), failing(UnknownOutcome("2"), before=world.charge)]
    with pytest.raises(UnknownOutcome):
        world.once()
    world.pass_(SETTLE)
    with pytest.raises(UnknownOutcome):
        world.once()
    world.pass_(SETTLE - 1)
    with pytest.raises(Unsettled):
        world.once()
    world.pass_(1)
    assert world.once() == {"id": "tx1"}
    assert world.calls == 2


@pytest.mark.parametrize("charged", [True, False])
def test_a_crash_between_intent_and_answer(world: World, charged: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    # A dead process notes nothing.
    monkeypatch.setattr(effects._Journal, "settle", lambda *_: None)
    world.plan = [failing(Crash(), before=world.charge if charged else None)]
    with pytest.raises(Crash):
        world.once()
    monkeypatch.undo()
    assert state() == "intent"
    with pytest.raises(Unsettled):
        world.once()
    world.pass_(SETTLE)
    assert world.once() == {"id": "tx1"}
    assert world.books == ["tx1"]


def test_a_database_away_after_the_call_leaves_an_intent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise OperationalError("", {}, Exception("gone"))

    monkeypatch.setattr(effects._Journal, "finish", away)
    with pytest.raises(OperationalError):
        world.once()
    monkeypatch.undo()
    assert state() == "intent"
    world.pass_(SETTLE)
    assert world.once() == {"id": "tx1"}
    assert world.calls == 1


def test_the_providers_error_outranks_a_database_that_is_away(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise OperationalError("", {}, Exception("gone"))

    monkeypatch.setattr(effects._Journal, "settle", away)
    world.plan = [failing(Refused("no"))]
    with pytest.raises(Refused):
        world.once()
    monkeypatch.undo()
    assert state() == "intent"


@pytest.mark.parametrize("error", [Refused("no"), NotAuthorized("who")])
def test_a_definite_no_is_kept_and_may_be_tried_anew(world: World, error: Exception) -> None:
    world.plan = [failing(error)]
    with pytest.raises(type(error)):
        world.once()
    assert state() == "refused"
    assert world.once() == {"id": "tx1"}
    assert world.looks == 0


@pytest.mark.parametrize(
    "error",
    [
        Unavailable("no route"),
        RateLimited("slow", retry_after=1),
        CircuitOpen("down", retry_at=datetime.now(UTC)),
    ],
)
def test_what_was_never_sent_needs_no_waiting(world: World, error: Exception) -> None:
    world.plan = [failing(error)]
    with pytest.raises(type(error)):
        world.once()
    assert state() is None
    assert world.once() == {"id": "tx1"}
    assert world.looks == 0


def test_never_sent_does_not_hide_an_earlier_try(world: World) -> None:
    world.plan = [failing(UnknownOutcome("cut off")), failing(Unavailable("no route"))]
    with pytest.raises(UnknownOutcome):
        world.once()
    world.pass_(SETTLE)
    with pytest.raises(Unavailable):
        world.once()
    assert state() == "unknown"
    world.charge()  # the first request was carried out after all, absurdly late
    assert world.once() == {"id": "tx1"}
    assert world.calls == 2, "it looked again, without waiting"


def test_a_call_not_marked_as_an_effect_is_still_unknown(world: World) -> None:
    world.plan = [failing(Unavailable("time-out", unanswered=True), before=world.charge)]
    with pytest.raises(Unavailable):
        world.once()
    assert state() == "unknown"
    world.pass_(SETTLE)
    world.once()
    assert world.books == ["tx1"]


def test_an_unforeseen_error_is_unknown(world: World) -> None:
    world.plan = [failing(KeyError("oops"), before=world.charge)]
    with pytest.raises(KeyError):
        world.once()
    assert state() == "unknown"


def test_a_look_up_that_fails_settles_nothing(world: World) -> None:
    world.plan = [failing(UnknownOutcome("cut off"), before=world.charge)]
    world.look_plan = [failing(Unavailable("down"))]
    with pytest.raises(UnknownOutcome):
        world.once()
    world.pass_(SETTLE)
    with pytest.raises(Unavailable):
        world.once()
    assert state() == "unknown"
    assert world.once() == {"id": "tx1"}
    assert world.calls == 1


def test_a_suspended_process_does_not_call(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effects._Moment, "gap", lambda _: SETTLE / 2 + 1)
    with pytest.raises(UnknownOutcome, match="suspended"):
        world.once()
    assert (world.calls, state()) == (0, "unknown")


def test_gaps_show_on_either_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = effects._Moment()
    assert moment.gap() < 1
    real = effects.time.time()
    monkeypatch.setattr(effects.time, "time", lambda: real + 100)
    assert moment.gap() > 99
    monkeypatch.undo()
    boot = effects.time.clock_gettime(effects._BOOT)
    monkeypatch.setattr(effects.time, "clock_gettime", lambda _: boot + 100)
    assert moment.gap() > 99


def test_it_refuses_to_run_in_a_transaction(world: World) -> None:
    with unit_of_work(), pytest.raises(RuleViolation):
        world.once()
    assert world.calls == 0


def test_a_superseded_run_is_stopped(world: World) -> None:
    job = str(uuid.uuid4())
    world.plan = [failing(UnknownOutcome("cut off"))]
    with use(job_id=job, dispatch=6), pytest.raises(UnknownOutcome):
        world.once()
    world.pass_(SETTLE)
    with use(job_id=job, dispatch=5), pytest.raises(Superseded):
        world.once()
    assert world.looks == 0
    with use(job_id=job, dispatch=7):
        assert world.once() == {"id": "tx1"}


def test_another_job_may_take_it_up(world: World) -> None:
    world.plan = [failing(UnknownOutcome("cut off"))]
    with use(job_id=str(uuid.uuid4()), dispatch=9), pytest.raises(UnknownOutcome):
        world.once()
    world.pass_(SETTLE)
    with use(job_id=str(uuid.uuid4()), dispatch=1):
        assert world.once() == {"id": "tx1"}


def test_of_two_who_looked_and_found_nothing_one_calls(world: World) -> None:
    world.plan = [failing(UnknownOutcome("cut off"))]
    with pytest.raises(UnknownOutcome):
        world.once()
    world.pass_(SETTLE)

    def other_is_faster() -> None:
        assert world.once() == {"id": "tx1"}

    world.look_plan = [other_is_faster]
    with pytest.raises(Unsettled):
        world.once()
    assert world.books == ["tx1"]
    assert world.once() == {"id": "tx1"}


def test_an_answer_that_comes_after_a_takeover_is_kept(world: World) -> None:
    """The late caller's answer is proof; the one who took over finds it, or says that it doubled."""

    def slow() -> Any:
        answer = world.charge()
        world.pass_(SETTLE)
        world.look_plan = [lambda: None]  # an inconsistent listing: the residual window
        world.plan = [failing(UnknownOutcome("cut off"))]
        with pytest.raises(UnknownOutcome):
            world.once()
        return answer

    world.plan = [slow]
    assert world.once() == {"id": "tx1"}
    assert state() == "done"
    assert world.once() == {"id": "tx1"}


def test_forget_starts_over(world: World) -> None:
    world.once()
    assert effects.forget("label")
    assert not effects.forget("label")
    assert world.once() == {"id": "tx2"}


def test_tenants_have_journals_of_their_own(world: World) -> None:
    world.once()
    with use(tenant_id="somebody-else"):
        assert state() is None
        assert world.once() == {"id": "tx2"}


def test_of_many_at_once_one_calls(world: World, tenant: str, database: Database) -> None:
    barrier = threading.Barrier(8)
    outcomes: list[str] = []

    def run() -> None:
        database.bind()
        barrier.wait()
        with use(tenant_id=tenant):
            try:
                world.once()
                outcomes.append("done")
            except Unsettled:
                outcomes.append("wait")

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert world.books == ["tx1"]
    assert len(outcomes) == 8
    assert "done" in outcomes


STEPS = st.lists(
    st.sampled_from(["ok", "lost_request", "lost_answer", "crash_before", "crash_after", "refused", "unsent"]),
    max_size=8,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, waits=st.lists(st.sampled_from([0.0, 10.0, 60.0, 600.0]), min_size=9, max_size=9))
def test_no_sequence_of_mishaps_doubles_an_effect(tenant: str, steps: list[str], waits: list[float]) -> None:
    world, key = World(), uuid.uuid4().hex
    plans: dict[str, Callable[[], Any]] = {
        "ok": world.charge,
        "lost_request": failing(UnknownOutcome("lost")),
        "lost_answer": failing(UnknownOutcome("lost"), before=world.charge),
        "crash_before": failing(Crash()),
        "crash_after": failing(Crash(), before=world.charge),
        "refused": failing(Refused("no")),
        "unsent": failing(Unavailable("no route")),
    }
    world.plan = [plans[step] for step in steps]
    settle = effects._Journal.settle
    for wait in [*waits, SETTLE, SETTLE, SETTLE, SETTLE]:
        try:
            # A crash notes nothing, all else does.
            effects._Journal.settle = lambda self, tries, state, previous=None: (
                None
                if steps and steps[min(world.calls, len(steps)) - 1].startswith("crash")
                else settle(self, tries, state, previous)
            )
            world.once(key)
        except (Crash, UnknownOutcome, Unsettled, Refused, Unavailable):
            pass
        finally:
            effects._Journal.settle = settle
        assert len(world.books) <= 1
        world.pass_(wait)
    effect = effects.find(key)
    if effect is not None and effect.state == "done":
        assert effect.answer == {"id": "tx1"}


def test_an_effect_that_doubled_is_reported(world: World) -> None:
    def slow() -> Any:
        answer = world.charge()
        world.pass_(SETTLE)
        world.look_plan = [lambda: None]  # the listing misses what exists: a residual window
        assert world.once() == {"id": "tx2"}
        return answer

    world.plan = [slow]
    with captured_logs() as logs:
        assert world.once() == {"id": "tx2"}, "the first to be stored stays the answer"
    assert [line["event"] for line in logs if line["level"] == "error"] == ["effect_doubled"]
