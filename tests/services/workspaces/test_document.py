"""The OpenAPI document of workspaces is valid, and the service answers as it says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from shared.testing.document import service_does_what_it_says
from shared.web.serve import serve
from tests.services.workspaces.desk import Desk


def test_the_document_is_valid(desk: Desk) -> None:
    document = desk.stranger.get("/openapi.json").json
    assert document is not None
    OpenAPIV31SpecValidator(document).validate()
    for path in ("/v1/workspaces", "/v1/links", "/v1/sessions", "/v1/sessions/refresh", "/v1/tokens"):
        assert document["paths"][path]["post"]["security"] == []
        assert "429" in document["paths"][path]["post"]["responses"]
    invite = document["paths"]["/v1/members"]["post"]
    assert invite["x-roles"] == ["owner", "manager"]
    assert set(invite["responses"]) >= {"201", "400", "401", "403", "409", "422"}
    assert "Location" not in document["paths"]["/v1/links"]["post"]["responses"]["202"]["headers"]


@pytest.fixture
def url(desk: Desk) -> Iterator[str]:
    web = desk.service.app.web()
    server = serve(web, "127.0.0.1", 0, threads=8)
    yield server.url
    server.stop()
    web.extensions["backroom"].close()


@pytest.mark.timeout(600)
def test_the_service_does_what_the_document_says(desk: Desk, url: str, tmp_path: Path) -> None:
    """Schemathesis finds no 500 and no answer that is not in the document."""
    ada = desk.owner()
    desk.member(ada)
    service_does_what_it_says(url, ada.client.token, tmp_path)
