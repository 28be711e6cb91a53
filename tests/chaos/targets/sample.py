"""Chaos on the sample: durable jobs and the effect journal, with as little around them as can be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import psycopg

from tests.chaos.sample.service import service
from tests.chaos.targets.base import Answered, BackroomTarget, Purchase

if TYPE_CHECKING:
    from tests.chaos.clients import Caller
    from tests.chaos.world import World

__all__ = ["SampleTarget"]


class SampleTarget(BackroomTarget):
    """An order and its purchase."""

    name = "sample"
    service = service
    argument = "tests.chaos.sample"

    def environment(self, world: World) -> Mapping[str, str]:
        from tests.chaos.world import SETTLE, TOTAL

        return {
            "CHAOS_CARRIER_URL": world.sandbox_url,
            "CHAOS_TOTAL_SECONDS": str(TOTAL),
            "CHAOS_SETTLE_SECONDS": str(SETTLE),
        }

    def enroll(self, world: World, caller: Caller) -> None:
        """Any token of the sandbox is an account, so there is nothing to do."""

    def create(self, caller: Caller, number: str, key: str | None) -> str | None:
        answer = caller.post("/v1/orders", {"number": number}, key)
        return answer["id"] if answer else None

    def purchase(self, caller: Caller, order_id: str, key: str | None) -> Answered | None:
        answer = caller.post(f"/v1/orders/{order_id}/purchase", None, key)
        return Answered({order_id: answer["id"]}) if answer else None

    def purchase_many(self, caller: Caller, order_ids: Sequence[str], key: str | None) -> Answered | None:
        raise NotImplementedError("the sample knows no bulk purchases")

    def purchases(self, connection: psycopg.Connection[Any]) -> list[Purchase]:
        states = ("purchased", "failed", "needs_review")
        return [
            Purchase(
                str(order),
                f"order:{order}",
                state if state in states else "open",
                str(job) if job else None,
                transaction,
            )
            for order, state, job, transaction in connection.execute(
                "SELECT id, state, job_id, \"transaction\" FROM orders WHERE state <> 'new'"
            )
        ]

    def reference_of(self, entry: Mapping[str, Any]) -> str:
        return str(entry["metadata"])
