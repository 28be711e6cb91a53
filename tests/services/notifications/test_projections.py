"""Members and orders are known as they last were, in whatever order the news of them come."""

from __future__ import annotations

from itertools import permutations

import pytest

from shared.events.contracts.shipping import OrderCreated, OrderTransitioned
from shared.events.contracts.workspaces import MemberChanged, WorkspaceChanged, WorkspaceCreated
from shared.testing.events import deliver
from shared.testing.service import ServiceUnderTest

NEWS = [
    (OrderCreated.example(), 1),
    (OrderTransitioned.example().model_copy(update={"from_state": "New", "to_state": "Processing"}), 2),
    (OrderTransitioned.example().model_copy(update={"from_state": "Processing", "to_state": "Shipped"}), 3),
]


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_an_order_is_where_it_was_moved_last(notifications: ServiceUnderTest, order: tuple[int, ...]) -> None:
    assert NEWS[0][0].order_id == NEWS[1][0].order_id
    for number in order:
        event, sequence = NEWS[number]
        deliver(notifications, event, sequence=sequence, time=f"2026-03-0{sequence}T12:00:00+00:00")
        notifications.drain()
    (row,) = notifications.query(
        "SELECT *, extract(day FROM since) AS day, extract(day FROM ordered_at) AS first FROM orders"
    )
    assert (row.state, row.sequence, row.day, row.first) == ("Shipped", 3, 3, 1)
    assert row.recipient_name == OrderCreated.example().recipient.name


def test_a_member_is_what_was_told_last(notifications: ServiceUnderTest) -> None:
    member = MemberChanged.example()
    for role, sequence in [("sales", 1), ("manager", 3), ("fulfillment", 2)]:
        deliver(notifications, member.model_copy(update={"role": role}), sequence=sequence)
    notifications.drain()
    (row,) = notifications.query("SELECT * FROM members")
    assert (row.id, row.role, row.email) == (member.member_id, "manager", "eve@example.com")


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_a_workspace_is_called_what_was_told_last(notifications: ServiceUnderTest, order: tuple[int, ...]) -> None:
    news = [
        (WorkspaceCreated.example(), 1),
        (WorkspaceChanged(name="Acme Labels", time_zone="Europe/Berlin"), 2),
        (WorkspaceChanged(name="Acme Films", time_zone="America/New_York"), 3),
    ]
    for number in order:
        event, sequence = news[number]
        deliver(notifications, event, sequence=sequence)
        notifications.drain()
    (row,) = notifications.query("SELECT name, time_zone FROM workspaces JOIN mornings USING (tenant_id)")
    assert tuple(row) == ("Acme Films", "America/New_York")
