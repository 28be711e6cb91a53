"""Who is told what: every row of the table, told once, seen by nobody else, marked as read by oneself."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import select

from services.notifications.audience import AUDIENCES
from services.notifications.notices import tell
from services.notifications.tables import Notice, Receipt
from shared.db import unit_of_work
from shared.events.contracts import EventContract
from shared.events.contracts.imports import ImportCompleted, ImportFailed, SamplesCreated, SamplesUpdated
from shared.events.contracts.shipping import DeliveryFailed, MilestoneReached, OrderCreated, OrderTransitioned
from tests.services.notifications.office import Office, as_tenant

ALL = {"owner", "manager", "sales", "rival", "fulfillment"}


def of(office: Office, contract: type[EventContract], **changes: Any) -> EventContract:
    """Return the example of a contract, about an order or import of `sales`."""
    mine = {name: office.principal("sales") for name in ("created_by", "requested_by") if name in contract.model_fields}
    return contract.model_validate(contract.example().model_dump() | mine | changes)


ROWS: list[tuple[str, type[EventContract], set[str]]] = [
    ("order_created", OrderCreated, {"owner", "manager", "fulfillment"}),  # sales entered it
    ("order_moved", OrderTransitioned, {"owner", "manager", "sales"}),
    ("tracking", MilestoneReached, {"owner", "manager", "sales"}),
    ("delivery_failed", DeliveryFailed, {"owner", "manager", "sales", "fulfillment"}),
    ("samples_created", SamplesCreated, {"owner", "manager", "sales", "rival"}),
    ("samples_updated", SamplesUpdated, {"owner", "manager", "sales", "rival"}),
    ("import_completed", ImportCompleted, {"sales"}),
    ("import_failed", ImportFailed, {"sales"}),
]


@pytest.mark.parametrize(("kind", "contract", "expected"), ROWS, ids=[row[0] for row in ROWS])
def test_each_row_of_the_table(office: Office, kind: str, contract: type[EventContract], expected: set[str]) -> None:
    if contract is DeliveryFailed:  # whose order it is was told before
        office.hear(of(office, OrderCreated), sequence=1)
        office.handle()
    office.hear(of(office, contract), sequence=2)
    office.handle()
    told = office.told(kind)
    assert set(told) == expected
    assert all(len(titles) == 1 for titles in told.values())


def test_the_rest_of_the_table_is_of_the_morning() -> None:
    assert set(AUDIENCES) - {row[0] for row in ROWS} == {"orders_stuck", "summary"}


def test_whoever_did_it_is_not_told(office: Office) -> None:
    office.hear(of(office, OrderTransitioned, by=office.principal("manager")), sequence=2)
    office.hear(of(office, SamplesCreated, import_id=None), principal=office.principal("owner"))
    office.handle()
    assert set(office.told("order_moved")) == {"owner", "sales"}
    assert set(office.told("samples_created")) == {"manager", "sales", "rival"}


def test_sales_hear_of_their_own_orders_only(office: Office) -> None:
    for number, owner in (("1", "sales"), ("2", "rival"), ("3", "sales")):
        event = of(office, OrderTransitioned, number=number, order_id=uuid.uuid4(), created_by=office.principal(owner))
        office.hear(event, sequence=2)
    office.handle()
    assert sorted(office.told()["sales"]) == ["Order 1 is Shipped.", "Order 3 is Shipped."]
    mine = office.client("sales").get("/v1/notices").json
    assert mine is not None
    assert {notice["title"] for notice in mine["items"]} == {"Order 1 is Shipped.", "Order 3 is Shipped."}
    assert {notice["link"] for notice in mine["items"]} != {None}


def test_only_the_active_are_told(office: Office) -> None:
    office.join("newcomer", "manager", "invited")
    office.join("leaver", "manager", "disabled")
    office.handle()
    office.hear(of(office, MilestoneReached))
    office.handle()
    assert {"newcomer", "leaver"}.isdisjoint(office.told())


def test_samples_of_one_import_are_one_notice_that_counts(office: Office) -> None:
    for _ in range(3):
        event = of(office, SamplesCreated, sample_ids=[uuid.uuid4() for _ in range(100)])
        told = office.hear(event)
        office.hear({**_again(office, event), "id": told})  # redelivered: counted once
    office.handle()
    assert office.service.query("SELECT count FROM notices") == [(300,)]
    assert office.told()["manager"] == ["Samples are new in the catalog."]


def _again(office: Office, event: EventContract) -> dict[str, Any]:
    from shared.testing.events import cloud_event

    return cloud_event(event, tenant_id=office.tenant_id)


def test_telling_fifty_takes_as_many_statements_as_telling_one(office: Office) -> None:
    from sqlalchemy import event as hook

    for number in range(50):
        office.join(f"manager{number}", "manager")
    office.handle()
    statements: list[str] = []

    def note(_c: Any, _k: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    hook.listen(office.service.database.app, "before_cursor_execute", note)
    with unit_of_work() as session:
        everybody = list(office.members.values())
        told = tell(session, "watch", everybody, "Look", "Here.", link=None, dedupe_key="w:1")
        again = tell(session, "watch", everybody, "Look", "Here.", link=None, dedupe_key="w:1")
    hook.remove(office.service.database.app, "before_cursor_execute", note)
    assert (len(told), again) == (55, [])
    assert len(statements) == 3


def test_strangers_see_nothing_even_without_our_filter(office: Office) -> None:
    office.hear(of(office, MilestoneReached))
    office.handle()
    with as_tenant("globex"), unit_of_work() as session:
        assert session.scalars(select(Notice)).all() == session.scalars(select(Receipt)).all() == []
    with as_tenant("acme"), unit_of_work() as session:
        assert len(session.scalars(select(Receipt)).all()) == 3


# -- reading -------------------------------------------------------------------------------------------


def _told_many(office: Office, count: int) -> None:
    with unit_of_work() as session:
        for number in range(count):
            tell(session, "watch", [office.members["sales"]], f"{number}", "x", dedupe_key=f"w:{number}")


def _list(office: Office, query: str = "", name: str = "sales") -> list[dict[str, Any]]:
    answer = office.client(name).get(f"/v1/notices{query}")
    assert answer.status_code == 200, answer.text
    assert answer.json is not None
    return list(answer.json["items"])


def _unread(office: Office, name: str = "sales") -> int:
    answer = office.client(name).get("/v1/notices/unread").json
    assert answer is not None
    return int(answer["count"])


def test_unread_ones_are_counted_and_marked_one_by_one(office: Office) -> None:
    _told_many(office, 5)
    newest = _list(office)
    assert [notice["title"] for notice in newest] == ["4", "3", "2", "1", "0"]
    assert not any(notice["read"] for notice in newest)
    answer = office.client("sales").post("/v1/notices/read", {"ids": [newest[0]["id"], newest[2]["id"]]})
    assert (answer.status_code, answer.json) == (200, {"count": 3})
    assert [notice["title"] for notice in _list(office, "?unread=true")] == ["3", "1", "0"]
    assert [notice["title"] for notice in _list(office, "?unread=false")] == ["4", "2"]


def test_all_until_a_moment_is_one_row_however_many_there_are(office: Office) -> None:
    _told_many(office, 500)
    newest = _list(office, "?limit=1")[0]
    _told = office.client("sales").post("/v1/notices/read", {"until": newest["told_at"]})
    assert (_told.status_code, _told.json) == (200, {"count": 0})
    with unit_of_work() as session:
        tell(session, "watch", [office.members["sales"]], "later", "x", dedupe_key="later")
    assert _unread(office) == 1
    assert [notice["title"] for notice in _list(office, "?unread=true")] == ["later"]
    assert [notice["read"] for notice in _list(office, "?limit=2")] == [False, True]


def test_a_moment_to_come_does_not_read_what_is_yet_to_be_told(office: Office) -> None:
    _told_many(office, 1)
    office.client("sales").post("/v1/notices/read", {"until": datetime(2999, 1, 1, tzinfo=UTC).isoformat()})
    with unit_of_work() as session:
        tell(session, "watch", [office.members["sales"]], "later", "x", dedupe_key="later")
    assert _unread(office) == 1


def test_nobody_reads_for_another(office: Office) -> None:
    _told_many(office, 1)
    (notice,) = _list(office)
    rival = office.client("rival").post("/v1/notices/read", {"ids": [notice["id"]]})
    assert (rival.status_code, _unread(office), _list(office, name="rival")) == (200, 1, [])


def test_the_list_goes_on_by_cursor(office: Office) -> None:
    _told_many(office, 5)
    client = office.client("sales")
    titles, cursor = [], ""
    while True:
        page = client.get(f"/v1/notices?limit=2{cursor}").json
        assert page is not None
        titles += [notice["title"] for notice in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert titles == ["4", "3", "2", "1", "0"]


def test_a_machine_has_no_notices(office: Office) -> None:
    machine = office.client("owner")
    machine = type(machine)(machine.app, machine.signer, principal="key:0199", role="owner")
    answer = machine.get("/v1/notices")
    assert (answer.status_code, answer.json and answer.json["type"]) == (403, "/problems/no-member")
