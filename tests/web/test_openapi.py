"""The document is valid, and the service does what the document says."""

from __future__ import annotations

from openapi_spec_validator import OpenAPIV31SpecValidator

from shared.web.testing import Client


def test_document_is_valid(client: Client) -> None:
    answer = client.stranger().get("/openapi.json")
    assert answer.status_code == 200
    document = answer.json
    assert document is not None
    OpenAPIV31SpecValidator(document).validate()
    assert not any("unruly" in path for path in document["paths"])
    import json

    print(json.dumps(document["paths"]["/v1/things/{thing_id}/drop"], indent=1))
