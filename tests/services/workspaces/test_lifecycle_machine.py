"""Whatever happens, in whatever order: no step of a cancellation twice, none missing, none out of order.

Hypothesis makes up histories of customers who leave and return, webhooks that are lost, doubled and out of order,
a clock that jumps, outages of us and of Paddle, and crashes after any statement and around any commit. It runs
over the real database, the real jobs, and Paddle's stand-in over real HTTP.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from services.workspaces.jobs import advance_cancellations
from services.workspaces.service import service
from shared.context import SYSTEM
from shared.testing.service import ServiceUnderTest, Templates
from tests.services.workspaces.shop import DAYS, SELLER, STEPS, Shop, new_event_id, paddle, run_and_crash

STATE_OF = {"freeze": "frozen", "suspend": "suspended", "archive": "archived"}
START = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Machine(RuleBasedStateMachine):
    """A workspace, its customer, and everybody who can go wrong."""

    shop: Shop

    @initialize(seed=st.integers(0, 2**16))
    def open(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.shop.service.clear()
        self.shop.sandbox.reset()
        self.shop.delivered = 0
        self.shop.open()
        self.now = START
        self.on_the_way: list[dict[str, Any]] = []
        self.taken: list[tuple[str, str]] = []
        """(cancellation, step) as they were written, to see that none ever goes away."""
        self.subscription = self._buy()
        self._deliver(list(self.on_the_way))

    # -- what the customer does --------------------------------------------------------------------------------

    @precondition(lambda self: self._pays())
    @rule()
    def leave(self) -> None:
        self._at_paddle(lambda: self.shop.change(self.subscription, status="canceled"))

    @precondition(lambda self: not self._pays())
    @rule()
    def return_(self) -> None:
        self.subscription = self._buy()

    @precondition(lambda self: self._pays())
    @rule(status=st.sampled_from(["past_due", "paused", "active"]))
    def waver(self, status: str) -> None:
        self._at_paddle(lambda: self.shop.change(self.subscription, status=status))

    # -- what becomes of webhooks ------------------------------------------------------------------------------

    @precondition(lambda self: self.on_the_way)
    @rule()
    def deliver_in_any_order(self) -> None:
        self.chance.shuffle(self.on_the_way)
        self._deliver(list(self.on_the_way))

    @precondition(lambda self: self.on_the_way)
    @rule()
    def deliver_one_twice(self) -> None:
        one = self.chance.choice(self.on_the_way)
        self._deliver([one, one, {**one, "event_id": new_event_id()}])

    @precondition(lambda self: self.on_the_way)
    @rule()
    def lose_all(self) -> None:
        self.on_the_way.clear()

    @precondition(lambda self: self.on_the_way)
    @rule(after=st.integers(0, 12))
    def crash_while_one_is_processed(self, after: int) -> None:
        one = self.chance.choice(self.on_the_way)
        assert self.shop.post(one) == 200
        self.on_the_way.remove(one)
        self._run_and_crash("process_webhook", after)

    # -- what time does ----------------------------------------------------------------------------------------

    @rule(days=st.sampled_from([0, 1, 3, 4, 7, 16]))
    def wait(self, days: int) -> None:
        for _ in range(days):
            self.now += timedelta(days=1)
            self._tick()
        self.now += HOUR
        self._tick()

    @rule(days=st.sampled_from([2, 5, 30, 95]))
    def be_away(self, days: int) -> None:
        """Nothing of ours runs for so long."""
        self.now += timedelta(days=days)
        self._tick()

    @rule(days=st.sampled_from([1, 10, 60]))
    def see_the_clock_go_back(self, days: int) -> None:
        before = self._steps()
        self.now -= timedelta(days=days)
        self._tick()
        self._tick()
        late = [row for row in self._steps()[len(before) :] if row.outcome != "cancelled" and row.due_at > self.now]
        assert late == []
        self.now += timedelta(days=days)

    # -- what goes wrong ---------------------------------------------------------------------------------------

    @rule(days=st.sampled_from([0, 3, 14]), kind=st.sampled_from(["reset_before", "garbage_json", "status"]))
    def find_paddle_down(self, days: int, kind: str) -> None:
        self.now += timedelta(days=days)
        before = self.shop.state
        self.shop.sandbox.faults.add(kind, path="/subscriptions")
        self._tick()
        self.shop.sandbox.faults.clear()
        assert self.shop.state == before, "nobody loses anything while Paddle is silent"
        self.shop.service.execute("DELETE FROM circuits")

    @rule(days=st.sampled_from([3, 7, 16, 60]), after=st.integers(0, 30))
    def crash(self, days: int, after: int) -> None:
        """The program ends after any statement, or just before or after any commit, of a run."""
        self.now += timedelta(days=days)
        self.shop.service.run_job(advance_cancellations, tenant_id=SYSTEM, as_of=self.now)
        self._run_and_crash("advance_cancellation", after)

    # -- what must hold ----------------------------------------------------------------------------------------

    @invariant()
    def steps_are_a_row_without_gaps_or_doubles(self) -> None:
        if not hasattr(self, "now"):
            return
        rows = self._steps()
        taken = [(str(row.cancellation_id), row.step) for row in rows]
        assert taken[: len(self.taken)] == self.taken, "what was written stays, and nothing comes before it"
        self.taken = taken
        for cancellation in self._cancellations():
            mine = [row for row in rows if row.cancellation_id == cancellation.id]
            assert tuple(row.step for row in mine) == STEPS[: len(mine)]
            for row in mine:
                assert row.due_at == cancellation.canceled_at + timedelta(days=DAYS[row.step])
                assert row.outcome == "cancelled" or row.done_at >= row.due_at, "never early"
            outcomes = [row.outcome for row in mine]
            if cancellation.reactivated_at is not None:
                assert len(mine) == 5
                first = outcomes.index("cancelled")
                assert set(outcomes[first:]) == {"cancelled"}, "nothing after a reactivation"
            else:
                assert "cancelled" not in outcomes

    @invariant()
    def each_step_was_told_of_once(self) -> None:
        if not hasattr(self, "now"):
            return
        rows = self.shop.service.query("SELECT type, data FROM outbox ORDER BY id")
        told = [
            (row.data["cancellation_id"], row.data.get("step") or row.data["state"])
            for row in rows
            if "winback_due" in row.type or row.data.get("reason") == "lifecycle"
        ]
        done = [
            (str(row.cancellation_id), STATE_OF.get(row.step, row.step))
            for row in self._steps()
            if row.outcome == "done"
        ]
        assert told == done

    @invariant()
    def the_state_is_what_the_steps_say(self) -> None:
        if not hasattr(self, "now"):
            return
        expected = "active"
        latest = next(reversed(self._cancellations()), None)
        if latest is not None and latest.reactivated_at is None:
            expected = "canceled"
            for row in self._steps():
                if row.cancellation_id == latest.id and row.outcome == "done":
                    expected = STATE_OF.get(row.step, expected)
        states = self.shop.states()
        assert self.shop.state == expected == (states[-1] if states else "active")

    def teardown(self) -> None:
        """In the end everything arrives, and nothing that is due is missing."""
        if not hasattr(self, "now"):
            return
        self._deliver(list(self.on_the_way))
        for _ in range(8):
            self.now += HOUR
            self._tick()
        self.steps_are_a_row_without_gaps_or_doubles()
        self.each_step_was_told_of_once()
        self.the_state_is_what_the_steps_say()
        due = [
            step
            for cancellation in self._cancellations()
            for step, day in DAYS.items()
            if cancellation.canceled_at + timedelta(days=day) <= self.now or cancellation.reactivated_at is not None
        ]
        if self._pays():
            assert self.shop.state in ("active", "archived")
        assert len(self._steps()) == len(due), "none missing"

    # -- how -----------------------------------------------------------------------------------------------------

    def _pays(self) -> bool:
        return self.shop.sandbox.call("GET", f"/paddle/{SELLER}/events")["events"][-1]["data"]["status"] != "canceled"

    def _buy(self) -> str:
        return str(self._at_paddle(self.shop.subscribe))

    def _at_paddle(self, act: Any) -> Any:
        """Do something at Paddle at the present of this history."""
        self.now += timedelta(seconds=1)
        offset = self.now.timestamp() - datetime.now(UTC).timestamp()
        self.shop.sandbox.call("POST", "/clock", {"offset": offset})
        done = act()
        self.on_the_way += self.shop.told()
        return done

    def _deliver(self, events: list[dict[str, Any]]) -> None:
        for one in events:
            assert self.shop.post(one) == 200
            if one in self.on_the_way:
                self.on_the_way.remove(one)
        self.shop.service.drain()

    def _tick(self) -> None:
        before = self.shop.state
        self.shop.tick(self.now)
        if self.shop.state != before and self.shop.state in STATE_OF.values():
            assert not self._pays(), "nothing is taken from somebody who pays"

    def _run_and_crash(self, actor: str, after: int) -> None:
        """Run the jobs of an actor, one of which crashes; then whatever is to be run again."""
        sut = self.shop.service
        for job in sut.jobs(actor=actor, state="scheduled"):
            run_and_crash(sut, job.id, after)
        sut.drain()

    def _cancellations(self) -> list[Any]:
        return self.shop.service.query("SELECT * FROM cancellations ORDER BY id")

    def _steps(self) -> list[Any]:
        return self.shop.service.query("SELECT * FROM cancellation_steps ORDER BY id")


@pytest.fixture
def machine(_templates: Templates) -> Iterator[type[Machine]]:
    with _templates.fresh(service) as url, ServiceUnderTest(service, url) as sut, paddle() as sandbox:
        shop = Shop(sut, sandbox)
        yield type("Machine", (Machine,), {"shop": shop})
        shop.web.extensions["backroom"].close()


@pytest.mark.timeout(300)
def test_no_step_twice_none_missing_none_out_of_order(machine: type[Machine]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=12,
            stateful_step_count=20,
            deadline=None,
            # A history takes a second: to find a shorter one that fails as well would take minutes.
            phases=(Phase.explicit, Phase.reuse, Phase.generate),
            suppress_health_check=list(HealthCheck),
        ),
    )
