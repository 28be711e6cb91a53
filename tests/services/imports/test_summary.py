"""What dashboards show of imports is counted for all workspaces in one statement."""

from __future__ import annotations

from services.imports.jobs import count_summary
from shared.context import SYSTEM
from shared.events.contracts.imports import ImportsSummaryCounted
from tests.services.imports.desk import Desk, csv


def counted(desk: Desk) -> dict[str, ImportsSummaryCounted]:
    rows = desk.service.published(ImportsSummaryCounted.type)
    assert all(row.subject == row.tenant_id for row in rows)
    return {row.tenant_id: ImportsSummaryCounted.model_validate(row.data) for row in rows}


def test_every_figure(desk: Desk) -> None:
    desk.bring(csv(["Kraft box", "KB-1", "", ""], ["Gift box", "GB-1", "", ""]))
    last = desk.bring(csv(["Tube", "T-1", "", ""]))
    desk.service.execute(
        "INSERT INTO samples (id, tenant_id, title, title_key) VALUES (gen_random_uuid(), 'globex', 'Tag', 'tag')"
    )
    assert desk.service.run_job(count_summary, tenant_id=SYSTEM).result == {"workspaces": 2}
    acme, globex = counted(desk)["acme"], counted(desk)["globex"]
    assert (acme.samples, acme.imports_by_state) == (3, {"completed": 2})
    assert acme.last_import is not None
    assert acme.last_import.file_name == last["file_name"]
    assert (acme.last_import.kind, acme.last_import.state) == ("samples", "completed")
    assert (globex.samples, globex.imports_by_state, globex.last_import) == (1, {}, None)


def test_nothing_to_count_is_no_event(desk: Desk) -> None:
    assert desk.service.run_job(count_summary, tenant_id=SYSTEM).result == {"workspaces": 0}
    assert counted(desk) == {}
