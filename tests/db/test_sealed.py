"""A column for something sealed says so, or a change of keys would pass it by and an export give it away."""

from __future__ import annotations

import pytest

from shared.jobs.library.resealing import sealed_columns
from shared.runtime.service import Service, all_services


@pytest.mark.parametrize("service", all_services(), ids=lambda service: service.name)
def test_what_is_called_sealed_is_declared_so(service: Service) -> None:
    for part in ("api", "jobs", "events"):
        service.part(part)  # models of a part of the service lie beside it
    named = {
        f"{table.name}.{column.name}"
        for table in service.tables().sorted_tables
        for column in table.columns
        if column.name.endswith("_sealed")
    }
    assert named == {f"{column.table.name}.{column.name}" for column in sealed_columns(service.tables())}
