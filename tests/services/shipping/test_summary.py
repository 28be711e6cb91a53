"""What dashboards show of shipping is counted for all workspaces in one statement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event

from services.shipping import orders
from services.shipping.jobs import count_summary
from services.shipping.service import service
from shared.context import SYSTEM, use
from shared.db import unit_of_work
from shared.events.contracts.shipping import ShippingSummaryCounted
from shared.testing.service import ServiceUnderTest

ADDRESS = {"street1": "1 Broadway", "city": "New York", "state": "NY", "zip": "10004", "country": "US"}


@pytest.fixture
def shipping(service_app: Callable[..., ServiceUnderTest]) -> ServiceUnderTest:
    return service_app(service)


def enter(shipping: ServiceUnderTest, number: str, tenant: str = "acme", by: str = "user:ada", **fields: Any) -> None:
    """Enter an order, and make it look as `fields` say: SQL by column."""
    recipient = {"name": "Bob", "company": "", "email": ""}
    draft = {
        "number": number,
        **{f"recipient_{name}": value for name, value in recipient.items()},
        "address": {**ADDRESS, **recipient, "street2": "", "phone": ""},
        "lines": [],
        "parcels": [],
        "note": "",
    }
    with use(tenant_id=tenant, principal=by), unit_of_work() as session:
        orders.create(session, [draft])
    for name, value in fields.items():
        shipping.execute(
            f"UPDATE orders SET {name} = {value} WHERE number = :number AND tenant_id = :tenant",
            number=number,
            tenant=tenant,
        )


def label(shipping: ServiceUnderTest, number: str, amount: int, currency: str = "USD", **fields: str) -> None:
    values = {"status": "'purchased'", "purchased_at": "now()", **fields}
    shipping.execute(
        "INSERT INTO parcels SELECT gen_random_uuid(), tenant_id, id, 1, '1', '1', '1', 'in', '1', 'lb' FROM orders "
        "WHERE number = :number",
        number=number,
    )
    shipping.execute(
        "INSERT INTO labels (id, tenant_id, order_id, parcel_id, chosen, label_file_type, status, attempt, amount, "
        "currency, provider_id, error_fields, polls, purchased_at, version) "
        "SELECT gen_random_uuid(), orders.tenant_id, orders.id, parcels.id, false, 'pdf', "
        f"{values['status']}, 0, :amount, :currency, gen_random_uuid()::text, '{{}}', 0, {values['purchased_at']}, 1 "
        "FROM orders JOIN parcels ON parcels.order_id = orders.id WHERE orders.number = :number",
        number=number,
        amount=amount,
        currency=currency,
    )


def counted(shipping: ServiceUnderTest) -> dict[str, ShippingSummaryCounted]:
    """What was told last, by workspace."""
    rows = shipping.published(ShippingSummaryCounted.type)
    assert all(row.subject == row.tenant_id for row in rows)
    return {row.tenant_id: ShippingSummaryCounted.model_validate(row.data) for row in rows}


def test_every_figure(shipping: ServiceUnderTest) -> None:
    days = "now() - interval '{} days'".format
    enter(shipping, "1")
    enter(shipping, "2", state="'Processing'", created_at=days(4))
    enter(shipping, "3", state="'Processing'", created_at=days(4))
    enter(shipping, "4", state="'Shipped'", created_at=days(45), by="user:eve")
    enter(shipping, "5", state="'Delivered'", created_at=days(70), updated_at=days(69))
    enter(shipping, "6", tenant="globex", created_at=days(29), updated_at=days(2))
    # Only the third was moved of late.
    shipping.execute(
        "INSERT INTO order_transitions (id, tenant_id, order_id, from_state, to_state, reason) "
        "SELECT gen_random_uuid(), tenant_id, id, 'New', 'Processing', '' FROM orders WHERE number = '3'"
    )
    label(shipping, "1", 790)
    label(shipping, "2", 210)
    label(shipping, "3", 900, "EUR")
    label(shipping, "4", 5000, purchased_at=days(31))
    label(shipping, "5", 6000, status="'refunded'")
    job = shipping.run_job(count_summary, tenant_id=SYSTEM)
    assert job.result == {"workspaces": 2}
    found = counted(shipping)
    acme, globex = found["acme"], found["globex"]
    assert acme.orders_by_state == {"New": 1, "Processing": 2, "Shipped": 1, "Delivered": 1}
    assert (acme.stuck_orders, acme.orders_30_days, acme.orders_previous_30_days) == (1, 3, 1)
    assert {name: (spend.labels, spend.amount) for name, spend in acme.spend_30_days.items()} == {
        "USD": (2, 1000),
        "EUR": (1, 900),
    }
    assert {name: (one.open, one.last_30_days) for name, one in acme.by_creator.items()} == {
        "user:ada": (3, 3),
        "user:eve": (0, 0),
    }
    assert acme.shippo == "not_connected"
    assert acme.last_activity_at is not None
    assert (acme.counted_at - acme.last_activity_at).total_seconds() < 60
    assert (globex.orders_by_state, globex.stuck_orders) == ({"New": 1}, 1)
    assert globex.last_activity_at is not None
    assert (globex.counted_at - globex.last_activity_at).days == 2


def test_a_workspace_that_has_only_connected_shippo_is_told_of(shipping: ServiceUnderTest) -> None:
    shipping.execute(
        "INSERT INTO shippo_accounts (id, tenant_id, status, token_sealed, token_hint, test, webhook_token_hash, "
        "webhook_token_sealed, sender, version) "
        "VALUES (gen_random_uuid(), 'acme', 'needs_reauthorization', '', '', true, '', '', '{}', 1)"
    )
    shipping.run_job(count_summary, tenant_id=SYSTEM)
    acme = counted(shipping)["acme"]
    assert (acme.shippo, acme.orders_by_state, acme.by_creator) == ("needs_reauthorization", {}, {})
    assert acme.last_activity_at is None


def test_many_workspaces_take_as_many_statements_as_one(shipping: ServiceUnderTest) -> None:
    statements: list[str] = []
    event.listen(
        shipping.database.system,
        "after_cursor_execute",
        lambda _connection, _cursor, statement, *_: statements.append(statement),
    )

    def count() -> int:
        statements.clear()
        shipping.run_job(count_summary, tenant_id=SYSTEM)
        assert sum("FROM orders GROUP BY" in statement for statement in statements) == 1
        assert sum("INSERT INTO outbox" in statement for statement in statements) == 1
        return len(statements)

    enter(shipping, "1")
    one = count()
    for number in range(20):
        enter(shipping, "1", tenant=f"t{number}")
    assert count() == one
    assert len(counted(shipping)) == 21


def test_nothing_to_count_is_no_event(shipping: ServiceUnderTest) -> None:
    assert shipping.run_job(count_summary, tenant_id=SYSTEM).result == {"workspaces": 0}
    assert shipping.published() == []
