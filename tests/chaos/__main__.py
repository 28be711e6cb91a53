"""The chaos test from the command line.

python -m tests.chaos --jobs 500 --faults 20 --seed 7
python -m tests.chaos --long
python -m tests.chaos --target sample --jobs 50 --faults 3 --keep logs/
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import click

from tests.chaos.harness import Plan, run
from tests.chaos.report import report
from tests.chaos.targets.base import Target
from tests.chaos.targets.sample import SampleTarget
from tests.chaos.targets.shipping import ShippingTarget
from tests.chaos.targets.stock import StockTarget

TARGETS: dict[str, type[Target]] = {"sample": SampleTarget, "shipping": ShippingTarget, "stock": StockTarget}


@click.command()
@click.option("--jobs", type=int, help="Orders whose purchase is asked for.")
@click.option("--faults", type=int, help="Faults of the infrastructure; the sandbox misbehaves besides.")
@click.option("--seed", type=int, help="Seed of the schedule; without it one is drawn, and shown.")
@click.option("--long", "long_form", is_flag=True, help="20,000 orders, and 510 faults: a few find nobody to strike.")
@click.option("--target", type=click.Choice(sorted(TARGETS)), default="shipping", show_default=True)
@click.option("--only", multiple=True, help="Only faults of this kind; may be given several times.")
@click.option("--keep", type=click.Path(file_okay=False, path_type=Path), help="Keep the logs in this directory.")
def main(
    jobs: int | None,
    faults: int | None,
    seed: int | None,
    long_form: bool,
    target: str,
    only: tuple[str, ...],
    keep: Path | None,
) -> None:
    """Break everything while orders are being bought, and judge by the ledger. Ends 1 when anything was lost,
    charged twice, or did not end."""
    orders = jobs if jobs is not None else (20_000 if long_form else 500)
    strikes = faults if faults is not None else (510 if long_form else 20)
    options = {"kinds": dict.fromkeys(only, 1)} if only else {}
    plan = Plan(
        orders=orders,
        faults=strikes,
        seed=random.SystemRandom().randrange(1_000_000) if seed is None else seed,
        gap=2.5 if long_form else 1.0,
        rest=3600.0 if long_form else 600.0,
        directory=keep.resolve() if keep else None,
        **options,
    )
    outcome = run(TARGETS[target](), plan)
    report(outcome)
    sys.exit(0 if outcome.holds else 1)


if __name__ == "__main__":
    main()
