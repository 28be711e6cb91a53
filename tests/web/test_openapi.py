"""The document is valid, and the service does what the document says."""

from __future__ import annotations

from pathlib import Path

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from shared.testing.document import service_does_what_it_says
from shared.web import Signer
from shared.web.serve import Server
from shared.web.testing import Client

from .jobs import Jobs


def test_document_is_valid(client: Client) -> None:
    answer = client.stranger().get("/openapi.json")
    assert answer.status_code == 200
    document = answer.json
    assert document is not None
    OpenAPIV31SpecValidator(document).validate()
    assert not any("unruly" in path for path in document["paths"])


def test_document_is_complete(client: Client) -> None:
    document = client.get("/openapi.json").json
    assert document is not None
    drop = document["paths"]["/v1/things/{thing_id}/drop"]["post"]
    assert set(drop["responses"]) == {"202", "400", "401", "403", "404", "409", "422", "503"}
    assert "thing-broken" in drop["responses"]["409"]["content"]["application/problem+json"]["examples"]
    key = next(each for each in drop["parameters"] if each["name"] == "Idempotency-Key")
    assert key["required"] is True
    create = document["paths"]["/v1/things"]["post"]
    assert set(create["responses"]) == {"201", "400", "401", "403", "409", "413", "415", "422", "503"}
    assert create["x-roles"] == ["owner", "manager"]
    assert create["security"] == [{"bearer": []}]
    assert create["requestBody"]["content"]["application/json"]["example"] == {"name": "Box", "weight": 3}
    assert document["paths"]["/v1/hooks"]["post"]["security"] == []
    assert "304" in document["paths"]["/v1/jobs/{job_id}"]["get"]["responses"]


@pytest.mark.timeout(600)
def test_service_does_what_the_document_says(server: Server, signer: Signer, jobs: Jobs, tmp_path: Path) -> None:
    """Schemathesis finds no 500 and no answer that is not in the document."""
    for state in ("scheduled", "failed", "succeeded"):
        jobs.add(state=state)
    token = signer.issue("acme", "user:ada", "owner")
    service_does_what_it_says(server.url, token, tmp_path, examples=25)
