"""What shipping tells others is what it has promised."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import BaseModel

from shared.context import use
from shared.db import new_id, unit_of_work
from shared.events import publish
from shared.events.contracts import shipping as contracts
from tests.services.shipping.world import World

CONTRACTS: list[Any] = [getattr(contracts, name) for name in contracts.__all__]


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.__name__)
def test_each_has_a_type_and_an_example(contract: Any) -> None:
    assert issubclass(contract, BaseModel)
    assert re.fullmatch(r"backroom\.shipping\.[a-z_]+\.[a-z_]+\.v1", contract.type)
    example = contract.model_json_schema()["examples"][0]
    parsed = contract.model_validate(example)
    assert contract.model_validate_json(parsed.model_dump_json()) == parsed


def test_types_are_unique() -> None:
    assert len({contract.type for contract in CONTRACTS}) == len(CONTRACTS)


def test_everything_that_was_told_keeps_its_promise(world: World) -> None:
    order = world.order()
    label = world.bought(order)
    world.client().post(f"/v1/addresses/{order['address']['id']}/validate")
    world.client().post(f"/v1/labels/{label['id']}/refund")
    world.wait(lambda: world.sandbox.count("POST /refunds"))
    world.sandbox.settle()
    world.wait(lambda: world.label(label["id"])["status"] == "refunded")
    by_type = {contract.type: contract for contract in CONTRACTS}
    rows = world.sql("SELECT type, data, subject, sequence FROM outbox ORDER BY id")
    assert len({row.type for row in rows}) >= 7
    for row in rows:
        assert by_type[row.type].model_validate(row.data)
        assert row.subject
        assert row.sequence is not None


def test_an_event_is_the_change_or_is_not(bare: World) -> None:
    def change_and_fail() -> None:
        with use(service="shipping", tenant_id=bare.tenant), unit_of_work(database=bare.app.database) as session:
            event = contracts.ConnectionChanged(provider="shippo", status="connected")
            publish(session, event, subject=new_id(), sequence=1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        change_and_fail()
    assert bare.events("connection.changed") == []
