"""What we sign verifies with the reference library, and with nothing changed."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from shared.web.standard_webhooks import new_secret, signed_headers

# https://github.com/standard-webhooks/standard-webhooks, libraries/python/tests/test_webhooks.py (test_sign_function),
# and the same in the libraries for all other languages.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MESSAGE = "msg_p5jXN8AQM9LWM0D4loKWxJek"
MOMENT = datetime.fromtimestamp(1614265330, UTC)
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_published_vector() -> None:
    assert signed_headers([SECRET], MESSAGE, BODY, MOMENT) == {
        "webhook-id": MESSAGE,
        "webhook-timestamp": "1614265330",
        "webhook-signature": SIGNATURE,
    }


@given(st.text(st.characters(exclude_categories=["Cs"])), st.uuids())
def test_the_reference_library_verifies_what_we_sign(body: str, message: object) -> None:
    secret = new_secret()
    headers = signed_headers([secret], str(message), body.encode(), datetime.now(UTC))
    Webhook(secret).verify(body.encode(), headers, json_parse=False)
    for changed in (
        {**headers, "webhook-id": f"{message}x"},
        {**headers, "webhook-timestamp": str(int(headers["webhook-timestamp"]) + 1)},
        signed_headers([new_secret()], str(message), body.encode(), datetime.now(UTC)),
    ):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(body.encode(), changed, json_parse=False)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body.encode() + b" ", headers, json_parse=False)


def test_while_a_secret_is_changed_the_old_and_the_new_one_fit() -> None:
    old, new = new_secret(), new_secret()
    headers = signed_headers([new, old], MESSAGE, BODY, datetime.now(UTC))
    assert headers["webhook-signature"].count("v1,") == 2
    for secret in (old, new):
        Webhook(secret).verify(BODY, headers)


def test_an_old_message_is_refused() -> None:
    headers = signed_headers([SECRET], MESSAGE, BODY, datetime.now(UTC) - timedelta(minutes=6))
    with pytest.raises(WebhookVerificationError, match="too old"):
        Webhook(SECRET).verify(BODY, headers)


def test_secrets_are_as_long_as_they_must_be() -> None:
    assert len(base64.b64decode(new_secret().removeprefix("whsec_"))) == 32
    assert new_secret() != new_secret()
    for bad in ("whsec_", "whsec_" + base64.b64encode(b"x" * 23).decode(), "whsec_no base64", "x" * 100):
        with pytest.raises(ValueError, match=r"secret has|base64|padding"):
            signed_headers([bad], MESSAGE, BODY, MOMENT)


@pytest.mark.parametrize(("known", "message"), [([], MESSAGE), ([SECRET], ""), ([SECRET], "a.b")])
def test_what_cannot_be_signed(known: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=r"is signed|no dot"):
        signed_headers(known, message, BODY, MOMENT)
