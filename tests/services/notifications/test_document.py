"""The OpenAPI document of notifications is valid, and the service answers as it says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from shared.testing.document import service_does_what_it_says
from shared.web.serve import serve
from tests.services.notifications.office import Office, failed


def test_the_document_is_valid(office: Office) -> None:
    document = office.client("owner").stranger().get("/openapi.json").json
    assert document is not None
    OpenAPIV31SpecValidator(document).validate()
    retry = document["paths"]["/v1/alerts/{alert_id}/retry"]["post"]
    assert set(retry["responses"]) >= {"202", "401", "404", "409"}
    assert document["paths"]["/v1/mails"]["get"]["x-roles"] == ["owner", "manager"]
    assert "text/html" in document["paths"]["/v1/unsubscribe"]["get"]["responses"]["200"]["content"]
    confirm = document["paths"]["/v1/watches/{watch_id}/confirm"]["post"]
    assert set(confirm["responses"]) >= {"200", "401", "403", "404", "409", "412", "422"}
    assert document["paths"]["/v1/webhook-endpoints"]["post"]["x-roles"] == ["owner"]
    assert "text/event-stream" in document["paths"]["/v1/notices/stream"]["get"]["responses"]["200"]["content"]


@pytest.fixture
def url(office: Office) -> Iterator[str]:
    web = office.service.app.web()
    server = serve(web, "127.0.0.1", 0, threads=8)
    yield server.url
    server.stop()
    web.extensions["backroom"].close()


@pytest.mark.timeout(600)
def test_the_service_does_what_the_document_says(office: Office, url: str, tmp_path: Path) -> None:
    """Schemathesis finds no 500 and no answer that is not in the document."""
    for code in ("carrier_away", "no_rates"):
        office.hear(failed(code=code))
    office.handle()
    signer = office.service.app.secrets.signer
    assert signer is not None
    token = signer.issue("acme", office.principal("owner"), "owner", 3600)
    service_does_what_it_says(url, token, tmp_path)
