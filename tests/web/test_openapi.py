"""The document is valid, and the service does what the document says."""

from __future__ import annotations

import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, settings
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis.specs.openapi.checks import ignored_auth

from shared.web.testing import Client


@pytest.fixture
def document_of(app: Flask) -> schemathesis.schemas.BaseSchema:
    return schemathesis.openapi.from_wsgi("/openapi.json", app)


schema = schemathesis.pytest.from_fixture("document_of")


def test_document_is_valid(client: Client) -> None:
    answer = client.stranger().get("/openapi.json")
    assert answer.status_code == 200
    document = answer.json
    assert document is not None
    OpenAPIV31SpecValidator(document).validate()
    assert not any("unruly" in path for path in document["paths"])


@schema.parametrize()
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_service_does_what_the_document_says(case: schemathesis.Case, client: Client) -> None:
    case.call_and_validate(headers={"Authorization": f"Bearer {client.token}"}, excluded_checks=[ignored_auth])
