"""The OpenAPI document of workspaces is valid, and the service answers as it says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from shared.testing.document import service_does_what_it_says
from shared.web.serve import serve
from tests.services.workspaces.shop import Shop


def test_the_document_is_valid(shop: Shop) -> None:
    document = shop.client.stranger().get("/openapi.json").json
    assert document is not None
    OpenAPIV31SpecValidator(document).validate()
    assert document["paths"]["/v1/subscription"]["get"]["x-roles"] == ["owner"]
    webhook = document["paths"]["/v1/webhooks/paddle"]["post"]
    assert set(webhook["responses"]) >= {"200", "400", "401"}
    assert webhook["security"] == []


@pytest.fixture
def url(shop: Shop) -> Iterator[str]:
    server = serve(shop.web, "127.0.0.1", 0, threads=8)
    yield server.url
    server.stop()


@pytest.mark.timeout(600)
def test_the_service_does_what_the_document_says(shop: Shop, url: str, tmp_path: Path) -> None:
    """Schemathesis finds no 500 and no answer that is not in the document."""
    bought = shop.subscribe()
    shop.change(bought, status="canceled")
    shop.deliver()
    service_does_what_it_says(url, shop.client.token, tmp_path)
