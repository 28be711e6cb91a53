"""Plans, and how much of what each allows. The one place where these numbers are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final, Literal, get_args

__all__ = ["DEFAULT_PLAN", "PLANS", "Plan", "PlanName", "limits_of", "plan_of"]

PlanName = Literal["starter", "team", "business"]
DEFAULT_PLAN: Final = "starter"


@dataclass(frozen=True, slots=True)
class Plan:
    """The most of each kind that a workspace may have."""

    members: int
    samples: int


PLANS: Final[Mapping[str, Plan]] = {
    "starter": Plan(members=5, samples=2_000),
    "team": Plan(members=25, samples=50_000),
    "business": Plan(members=250, samples=500_000),
}
assert set(PLANS) == set(get_args(PlanName))


def plan_of(name: str) -> Plan:
    """Return a plan by name; one that is sold no longer counts as the smallest."""
    return PLANS.get(name, PLANS[DEFAULT_PLAN])


def limits_of(name: str) -> dict[str, int]:
    """Return the limits of a plan as events tell them."""
    return asdict(plan_of(name))
