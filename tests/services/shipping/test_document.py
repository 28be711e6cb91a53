"""The OpenAPI document of shipping is valid, and the service answers as it says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from shared.testing.document import service_does_what_it_says
from shared.web.serve import serve
from tests.services.shipping.world import World


def test_the_document_is_valid(bare: World) -> None:
    document = bare.client().stranger().get("/openapi.json").json
    assert document is not None
    OpenAPIV31SpecValidator(document).validate()
    buy = document["paths"]["/v1/orders/{order_id}/labels"]["post"]
    assert set(buy["responses"]) >= {"202", "400", "401", "403", "404", "409", "422"}
    assert buy["x-roles"] == ["owner", "manager", "fulfillment"]
    file = document["paths"]["/v1/labels/{label_id}/file"]["get"]
    assert set(file["responses"]) >= {"200", "303", "404", "409", "410"}
    assert "Location" in file["responses"]["303"]["headers"]


@pytest.fixture
def url(world: World) -> Iterator[str]:
    web = world.app.web()
    server = serve(web, "127.0.0.1", 0, threads=8)
    yield server.url
    server.stop()
    web.extensions["backroom"].close()


@pytest.mark.timeout(600)
def test_the_service_does_what_the_document_says(world: World, url: str, tmp_path: Path) -> None:
    """Schemathesis finds no 500 and no answer that is not in the document."""
    world.bought(world.order())
    token = world.signer.issue(world.tenant, "user:ada", "owner", 3600)
    service_does_what_it_says(url, token, tmp_path)
