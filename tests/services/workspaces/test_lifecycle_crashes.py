"""Each step is crashed at every point there is, one after the other, and happens once all the same."""

from __future__ import annotations

import pytest

from services.workspaces.jobs import advance_cancellations
from shared.context import SYSTEM
from tests.services.workspaces.shop import DAYS, STEPS, Shop, run_and_crash


def crashed_everywhere(shop: Shop, actor: str, again: object = None) -> int:
    """Run the job of an actor, crashed ever later, until it gets through; return how often it crashed."""
    for after in range(200):
        jobs = shop.service.jobs(actor=actor, state="scheduled")
        if not jobs:
            # Its tries are used up, or it was done at the last commit; the next tick finds what is left to do.
            assert callable(again)
            again()
            jobs = shop.service.jobs(actor=actor, state="scheduled")
        if not jobs or not run_and_crash(shop.service, jobs[0].id, after):
            return after
    raise AssertionError("it never gets through")


@pytest.mark.parametrize("step", STEPS)
def test_a_step(shop: Shop, step: str) -> None:
    bought = shop.subscribe()
    shop.change(bought, status="canceled")
    shop.deliver()
    before = STEPS[: STEPS.index(step)]
    for earlier in before:
        shop.tick(shop.day(DAYS[earlier]))

    def tick() -> None:
        shop.service.run_job(advance_cancellations, tenant_id=SYSTEM, as_of=shop.day(DAYS[step]))

    tick()
    points = crashed_everywhere(shop, "advance_cancellation", tick)
    assert points > 8, "there are as many points at which it can crash"
    assert shop.steps() == [(one, "done") for one in (*before, step)]
    told = [*shop.mails(), *shop.states()]
    assert told == [*[one for one in ("winback_1", "winback_2") if one in (*before, step)], *_states(step)]


def _states(step: str) -> list[str]:
    states = {"freeze": "frozen", "suspend": "suspended", "archive": "archived"}
    return ["canceled", *[states[one] for one in STEPS[: STEPS.index(step) + 1] if one in states]]


def test_the_end_of_a_subscription_and_the_return(shop: Shop) -> None:
    bought = shop.subscribe()
    shop.deliver()
    for act, told in (
        (lambda: shop.change(bought, status="canceled"), ["canceled"]),
        (lambda: shop.subscribe(), ["canceled", "active"]),
    ):
        act()
        # One of the two webhooks about it is enough.
        assert shop.post(shop.told()[-1]) == 200

        def retry() -> None:
            for job in shop.service.jobs(actor="process_webhook", state="failed"):
                shop.service.retry(job.id)

        assert crashed_everywhere(shop, "process_webhook", retry) > 8
        assert shop.states() == told
    assert [outcome for _, outcome in shop.steps()] == ["cancelled"] * 5
