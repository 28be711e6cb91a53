"""A workspace of which the subscription ended: nothing is imported, nobody is asked, and what lets us in goes."""

from __future__ import annotations

from typing import Any

import pytest

from services.imports.jobs import pull_all_erps
from shared.context import SYSTEM
from shared.testing.events import deliver
from tests.jobs.test_standing import changed
from tests.services.imports.desk import Desk, csv
from tests.services.imports.erp_desk import Erp


def tell(desk: Desk, state: str, sequence: int = 1) -> None:
    """Have imports told what the workspace may do, and the handler run."""
    deliver(desk.service, changed(state), sequence=sequence)
    desk.service.drain(queues=["handlers"])


def refusal(answer: Any) -> str | None:
    return answer.json.get("code") if answer.status_code == 403 else None


@pytest.mark.parametrize("state", ["frozen", "suspended", "archived"])
def test_nothing_comes_in_by_the_gate_alone(desk: Desk, state: str) -> None:
    """Neither what people send nor what an ERP sends, though that asks for no token."""
    erp = Erp(desk)
    item = {"title": "Kraft box", "sku": "KB-1"}
    assert erp.send("samples", [item]).status_code == 202

    tell(desk, state)

    code = f"workspace_{state}"
    desk.service.wait_until(lambda: refusal(desk.send_file(csv(["Box", "", "", ""]))) == code)
    assert refusal(erp.send("samples", [item])) == code
    assert refusal(erp.send("stock", [{"sku": "KB-1", "stock": 3}])) == code
    assert erp.send("stock", [], secret="erps_" + "x" * 40).status_code == 401, "whose it is comes first"
    assert desk.service.query("SELECT count(*) FROM erp_feeds") == [(1,)]


def test_an_import_that_was_begun_is_cancelled_and_the_erps_are_gone(desk: Desk) -> None:
    started = desk.start(desk.upload(csv(["Kraft box", "KB-1", "", ""]))["id"])
    Erp(desk)
    tell(desk, "archived")
    (job,) = desk.service.jobs(actor="archive_workspace")
    job = desk.service.run(job.id)

    assert (job.state, job.result["credentials"]) == ("succeeded", 1)
    assert desk.service.query("SELECT id::text, state FROM imports") == [(started["id"], "cancelled")]
    assert desk.titles() == []
    assert desk.service.query("SELECT FROM erp_connections") == []
    assert desk.service.run_job(pull_all_erps, tenant_id=SYSTEM).result == {"pulls": 0}


def test_a_canceled_workspace_works_as_before(desk: Desk) -> None:
    tell(desk, "canceled")
    assert desk.bring(csv(["Kraft box", "KB-1", "", ""]))["state"] == "completed"
