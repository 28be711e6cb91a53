"""Everything breaks while labels are being bought: nothing is lost, nothing is bought twice, every job ends.

And the harness that says so is shown to see losses: pointed at stock Dramatiq, it finds some.
"""

from __future__ import annotations

import pytest

from shared.testing.servers import ServerMissing, skip_or_fail
from tests.chaos.faults import KINDS
from tests.chaos.harness import Outcome, Plan, run
from tests.chaos.report import report
from tests.chaos.targets.base import Target
from tests.chaos.targets.shipping import ShippingTarget
from tests.chaos.targets.stock import STOCK_KINDS, StockTarget


def ran(target: Target, plan: Plan) -> Outcome:
    try:
        outcome = run(target, plan)
    except ServerMissing as missing:
        skip_or_fail(missing)
    report(outcome)
    return outcome


@pytest.mark.timeout(400)
def test_shipping_loses_nothing_and_buys_nothing_twice() -> None:
    outcome = ran(ShippingTarget(), Plan(orders=500, faults=22, seed=20_26))
    assert outcome.verdict.violations == []
    assert outcome.verdict.figures["orders accepted"] == 500
    assert sum(outcome.faults.values()) >= 20
    assert set(outcome.faults) == set(KINDS)


@pytest.mark.timeout(300)
def test_the_same_harness_sees_what_stock_dramatiq_loses() -> None:
    """The carrier is well here, so that what is lost or bought twice is the queue's doing alone."""
    outcome = ran(StockTarget(), Plan(orders=200, faults=16, seed=1, kinds=STOCK_KINDS, sandbox_rules=[]))
    assert outcome.verdict.count("lost", "doubled") > 0
