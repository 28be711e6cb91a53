"""The OpenAPI document of shipping is valid, and the service answers as it says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from shared.web.serve import serve
from tests.services.shipping.world import World

# As for the kit's own document; see tests/web/test_openapi.py.
EXCLUDED = "positive_data_acceptance,ensure_resource_availability"
EXAMPLES = os.environ.get("BACKROOM_SCHEMATHESIS_EXAMPLES", "15")


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
    done = subprocess.run(
        [
            sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()",
            "run", f"{url}/openapi.json",
            "--header", f"Authorization: Bearer {token}",
            "--max-examples", EXAMPLES,
            "--exclude-path", "/v1/events",
            "--exclude-path", "/v1/jobs/{job_id}/events",
            "--exclude-checks", EXCLUDED,
            "--request-timeout", "10",
            "--seed", "1",
            "--no-color",
        ],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=580,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
