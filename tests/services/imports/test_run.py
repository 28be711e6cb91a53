"""An import: every row dealt with once, whatever happens on the way."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from services.imports.jobs import rows as rows_module
from services.imports.settings import settings
from shared.events.contracts.workspaces import PlanChanged
from shared.testing.events import deliver
from tests.services.imports.desk import Desk, csv


def counts(found: dict[str, Any]) -> tuple[int, int, int, int]:
    return found["created"], found["updated"], found["skipped"], found["failed"]


def many(number: int) -> list[list[str]]:
    return [[f"Sample {n}", f"S-{n}", "", ""] for n in range(number)]


def test_a_file_becomes_samples(desk: Desk) -> None:
    """Created, in the order of the file, with what is in its columns."""
    found = desk.bring(csv(["Kraft box", "KB-1", "Boxes > Small | Kraft", ""], ["Mailer", "", "", ""]))

    assert found["state"] == "completed"
    assert counts(found) == (2, 0, 0, 0)
    box, mailer = reversed(desk.read("/v1/samples")["items"])
    assert (box["title"], box["sku"], box["categories"]) == ("Kraft box", "KB-1", ["boxes>small", "kraft"])
    assert (mailer["title"], mailer["sku"], mailer["categories"]) == ("Mailer", None, [])
    tree = {one["path_key"]: (one["name"], one["parent_key"]) for one in desk.read("/v1/categories")["items"]}
    assert tree == {"boxes": ("Boxes", None), "boxes>small": ("Small", "boxes"), "kraft": ("Kraft", None)}


def test_duplicates_are_skipped_and_nothing_is_changed(desk: Desk) -> None:
    """By title or SKU, however they are written, in the file and of what is there; the first wins."""
    desk.bring(csv(["Kraft box", "KB-1", "", ""]))

    found = desk.bring(
        csv(
            [" KRAFT  box", "X-1", "", ""],  # the title is there
            ["Other box", "kb-1", "", ""],  # the SKU is there
            ["New", "N-1", "", ""],
            ["New", "N-2", "", ""],  # the title was in this file
            ["Newer", "N-2", "", ""],  # the row with that SKU was passed over, so this one is the first
        )
    )

    assert counts(found) == (2, 0, 3, 0)
    assert desk.titles() == ["Kraft box", "New", "Newer"]


def test_a_row_that_fails_says_how_to_mend_it_and_harms_no_other(desk: Desk) -> None:
    found = desk.bring(csv(["", "A-1", "", ""], ["Good", "A-2", "", ""], ["Odd", "A-3", "", "ftp://example.com/a.png"]))

    assert counts(found) == (1, 0, 0, 2)
    failures = desk.read(f"{found['links']['failures']}")["items"]
    assert [(one["row"], one["issues"][0]["column"]) for one in failures] == [(2, "Title"), (4, "Image URL")]
    assert all(one["issues"][0]["message"].endswith(".") for one in failures)
    assert failures[0]["cells"] == ["", "A-1", "", ""]


def test_the_failed_rows_come_back_as_a_file_that_can_be_mended(desk: Desk) -> None:
    found = desk.bring(csv(["", "A-1", "", ""], ["Good", "A-2", "", ""]))

    answer = desk.client.get(found["links"]["failures_file"])
    assert answer.status_code == 200
    assert answer.data.startswith(b"\xef\xbb\xbfTitle,SKU,Category,Image URL,Reason not imported\r\n,A-1,,,")

    mended = desk.bring(answer.data.replace(b"\r\n,A-1", b"\r\nMended,A-1"))
    assert counts(mended) == (1, 0, 0, 0)
    assert desk.titles() == ["Good", "Mended"]


def test_update_brings_what_exists_up_to_date(desk: Desk) -> None:
    """Only what the file has columns for, never the fields by which a record is known; once in a file."""
    desk.bring(csv(["Kraft box", "KB-1", "Boxes", ""]))
    header = ("Title", "SKU", "Description")
    mapping = {"title": 0, "sku": 1, "description": 2}

    found = desk.bring(
        csv(["Other name", "kb-1", "Strong"], ["kraft box", "", "Weak"], ["New", "", "x"], header=header),
        mode="update",
        mapping=mapping,
    )

    assert counts(found) == (1, 1, 1, 0)
    box = desk.read("/v1/samples?sku=KB-1")["items"][0]
    assert (box["title"], box["description"], box["categories"]) == ("Kraft box", "Strong", ["boxes"])


def test_the_plan_is_the_limit(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """What there is no room for fails and says so; duplicates take no room."""
    monkeypatch.setenv("IMPORTS_MAX_RECORDS", "9")
    settings.cache_clear()

    found = desk.bring(csv(*many(5), *many(12)))

    assert counts(found) == (9, 0, 5, 3)
    failures = desk.read(found["links"]["failures"])["items"]
    assert [one["issues"][0]["code"] for one in failures] == ["plan_limit_reached"] * 3
    assert [one["cells"][0] for one in failures] == ["Sample 9", "Sample 10", "Sample 11"]


def test_each_workspace_keeps_to_its_own_plan(desk: Desk) -> None:
    """As workspaces last told; what is there already stays."""
    for samples, sequence in [(3, 2), (100, 1)]:
        deliver(desk.service, PlanChanged(plan="small", limits={"samples": samples}), sequence=sequence)
    desk.service.drain()
    assert counts(desk.bring(csv(*many(5)))) == (3, 0, 0, 2)
    deliver(desk.service, PlanChanged(plan="larger", limits={"samples": 4}), sequence=3)
    desk.service.drain()
    assert counts(desk.bring(csv(*many(5)))) == (1, 0, 3, 1)


@pytest.mark.parametrize("when", range(4))
def test_a_run_that_breaks_goes_on_after_its_last_batch(desk: Desk, monkeypatch: pytest.MonkeyPatch, when: int) -> None:
    """Whichever batch breaks, in the middle of its transaction: the result is that of an undisturbed run."""
    started = desk.start(desk.upload(csv(*many(25), *many(3)))["id"])
    saved: list[int] = []
    real = rows_module.save_images

    def breaks(*arguments: Any) -> None:
        real(*arguments)
        saved.append(1)
        if len(saved) == when + 1:
            raise ConnectionError("the network is gone")

    monkeypatch.setattr(rows_module, "save_images", breaks)
    desk.service.run(UUID(started["job_id"]))
    assert desk.read(started["links"]["self"])["processed"] == when * 7

    found = desk.finish(started)

    assert counts(found) == (25, 0, 3, 0)
    assert desk.titles() == [f"Sample {n}" for n in range(25)]


def test_a_file_that_cannot_be_read_creates_nothing(desk: Desk) -> None:
    """What is wrong with the file as a whole is found before its first row is imported, and said in words."""
    upload = desk.upload(csv(*many(30)) + b'"never closed')
    found = desk.finish(desk.start(upload["id"]))

    assert (found["state"], found["failure"]["code"]) == ("failed", "file_quote_open")
    assert "quotation mark" in found["failure"]["what"]
    assert desk.titles() == []


def test_cancelling_stops_between_batches_and_keeps_what_is_there(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    started = desk.start(desk.upload(csv(*many(25)))["id"])
    real = rows_module.save_images

    def cancels(*arguments: Any) -> None:
        real(*arguments)
        if not desk.service.query("SELECT 1 FROM jobs WHERE cancel_requested_at IS NOT NULL"):
            desk.service.cancel(UUID(started["job_id"]))

    monkeypatch.setattr(rows_module, "save_images", cancels)
    found = desk.finish(started)

    assert (found["state"], found["processed"], found["created"]) == ("cancelled", 7, 7)
    assert [event.type for event in desk.service.published() if "failed" in event.type]


def test_others_are_told(desk: Desk) -> None:
    """Of the beginning, of what is new, and of the end."""
    found = desk.bring(csv(*many(10)))

    told = [(event.type.removeprefix("backroom.imports."), event.data) for event in desk.service.published()]
    names = [name for name, _ in told]
    assert names == ["import.started.v1", "sample.created.v1", "sample.created.v1", "import.completed.v1"]
    assert sum(len(data["sample_ids"]) for name, data in told if name == "sample.created.v1") == 10
    assert told[-1][1]["created"] == 10
    assert told[-1][1]["import_id"] == found["id"]


@pytest.mark.parametrize("kind", ["customers", "members", "orders"])
def test_other_kinds(desk: Desk, kind: str) -> None:
    header, good, bad, table = {
        "customers": (("E-mail", "Company"), ["bob@example.com", "Example"], ["bob@", "x"], "customers"),
        "members": (("Email", "Role"), ["eve@example.com", "sales"], ["x@example.com", "owner"], "member_requests"),
        "orders": (
            ("Number", "Recipient", "Street", "Country", "Lines"),
            ["1042", "Bob", "1 Broadway", "US", "KB-1 x 2 | KB-2"],
            ["1043", "Bob", "1 Broadway", "United States", "KB-1"],
            "order_requests",
        ),
    }[kind]
    fields = {
        "customers": ("email", "company"),
        "members": ("email", "role"),
        "orders": ("number", "recipient_name", "street1", "country", "lines"),
    }[kind]

    found = desk.bring(
        csv(good, bad, good, header=header), kind=kind, mapping={name: at for at, name in enumerate(fields)}
    )

    assert counts(found) == (1, 0, 1, 1)
    assert desk.service.query(f"SELECT count(*) FROM {table}") == [(1,)]


def test_one_tenant_does_not_see_the_other(desk: Desk) -> None:
    found = desk.bring(csv(*many(3)))
    neighbor = desk.client.of("globex")

    assert neighbor.get(found["links"]["self"]).status_code == 404
    assert neighbor.get("/v1/samples").json["items"] == []
    assert neighbor.get(f"/v1/uploads/{found['upload_id']}").status_code == 404


def test_only_owner_and_manager_import(desk: Desk) -> None:
    for role in ("sales", "fulfillment"):
        assert desk.client.role(role).get("/v1/imports").status_code == 403
        assert desk.client.role(role).get("/v1/samples").status_code == 200
