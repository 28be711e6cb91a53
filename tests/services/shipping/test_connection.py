"""Connecting Shippo: the owner's business; what lets us in is never shown and never lies open."""

from __future__ import annotations

from services.shipping.webhooks import SIGNATURE_HEADER
from tests.services.shipping.world import SENDER, World


def test_a_token_is_checked_and_kept_sealed(bare: World) -> None:
    token = bare.sandbox.token(bare.tenant)
    answer = bare.connect(hmac_secret="open sesame")
    assert answer["connection"]["status"] == "checking"
    assert answer["webhook_url"].startswith(f"/v1/webhooks/shippo/{bare.tenant}?token=")
    seen = bare.get("/v1/connections/shippo")
    assert (seen["status"], seen["test"], seen["signed_webhooks"]) == ("connected", True, True)
    assert seen["sender"]["street1"] == SENDER["street1"]
    stored = str(bare.sql("SELECT * FROM shippo_accounts")) + str(bare.sql("SELECT * FROM jobs"))
    secret = answer["webhook_url"].partition("token=")[2]
    for text in (token, "open sesame", secret):
        assert text not in stored
    assert token not in str(answer)


def test_a_token_that_opens_nothing_is_told(bare: World) -> None:
    bare.sandbox.faults.add("status", method="POST", path="/addresses", status=401)
    answer = bare.client().put("/v1/connections/shippo", {"token": bare.sandbox.token(bare.tenant), "sender": SENDER})
    assert answer.json is not None
    job = bare.ended(answer.json["job"]["id"])
    assert (job["state"], job["error"]["code"]) == ("failed", "provider_not_authorized")
    assert bare.get("/v1/connections/shippo")["status"] == "needs_reauthorization"


def test_what_is_no_token_is_refused_without_repeating_it(bare: World) -> None:
    answer = bare.client().put("/v1/connections/shippo", {"token": "hunter2-my-password", "sender": SENDER})
    assert answer.status_code == 400
    assert "hunter2" not in answer.text
    assert bare.client().get("/v1/connections/shippo").status_code == 404


def test_the_webhook_door_is_in_the_document(bare: World) -> None:
    document = bare.client().get("/openapi.json").json
    assert document is not None
    operation = document["paths"]["/v1/webhooks/shippo/{tenant}"]["post"]
    assert SIGNATURE_HEADER in {parameter["name"] for parameter in operation["parameters"]}
