"""The OpenAPI document of imports is valid, and the service answers as it says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from shared.testing.document import service_does_what_it_says
from shared.web.serve import serve
from tests.services.imports.desk import Desk, csv


def test_the_document_is_valid(desk: Desk) -> None:
    document = desk.client.stranger().get("/openapi.json").json
    assert document is not None
    OpenAPIV31SpecValidator(document).validate()
    upload = document["paths"]["/v1/uploads"]["post"]
    assert set(upload["responses"]) >= {"201", "400", "401", "403", "413", "415"}
    assert upload["x-roles"] == ["owner", "manager"]
    assert set(document["paths"]["/v1/imports"]["post"]["responses"]) >= {"202", "400", "404", "409", "422"}


@pytest.fixture
def url(desk: Desk) -> Iterator[str]:
    server = serve(desk.web, "127.0.0.1", 0, threads=8)
    yield server.url
    server.stop()


@pytest.mark.timeout(600)
def test_the_service_does_what_the_document_says(desk: Desk, url: str, tmp_path: Path) -> None:
    """Schemathesis finds no 500 and no answer that is not in the document."""
    desk.bring(csv(["Kraft box", "KB-1", "Boxes", "https://example.com/a.png"], ["", "x", "", ""]))
    service_does_what_it_says(url, desk.client.token, tmp_path)
