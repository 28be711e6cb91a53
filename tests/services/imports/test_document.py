"""The OpenAPI document of imports is valid, and the service answers as it says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from shared.web.serve import serve
from tests.services.imports.desk import Desk, csv

# As for the kit's own document; see tests/web/test_openapi.py.
EXCLUDED = "positive_data_acceptance,ensure_resource_availability"
EXAMPLES = os.environ.get("BACKROOM_SCHEMATHESIS_EXAMPLES", "15")


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
    done = subprocess.run(
        [
            sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()",
            "run", f"{url}/openapi.json",
            "--header", f"Authorization: Bearer {desk.client.token}",
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
