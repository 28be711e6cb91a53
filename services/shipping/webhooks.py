"""Shippo's webhooks, read without asking anybody: is it genuine, have we had it, what does it say.

https://docs.goshippo.com/docs/tracking/webhooks: a body is `{event, test, data}`, data being a transaction
or a track. There is no event id and no order; deliveries repeat. Therefore the key is made of what
changed, and whoever handles an event compares its time with what is known already.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.shipping.shippo_objects import Label, Tracking
from shared.web.signatures import is_same_token, verify_hmac_timestamped

__all__ = ["SIGNATURE_HEADER", "Unreadable", "WebhookEvent", "is_genuine", "parse"]

SIGNATURE_HEADER = "Shippo-Auth-Signature"


class Unreadable(ValueError):
    """The body is not what Shippo documents; it will not become so by being sent again."""


@dataclass(frozen=True, slots=True)
class WebhookEvent:
    """`key` tells events apart; `label` or `tracking` is there according to the event's kind, or neither."""

    event: str
    key: str
    test: bool
    label: Label | None = None
    tracking: Tracking | None = None


def is_genuine(
    body: bytes,
    *,
    token: str | None,
    expected_token: str,
    signature: str | None,
    secret: str | None,
    now: datetime,
    tolerance: float = 300.0,
) -> bool:
    """Tell whether Shippo sent these raw bytes: the token of the URL is ours, and so is the signature.

    The signature is required as soon as a secret was arranged for, since Shippo then always sends one.
    """
    if not is_same_token(token, expected_token):
        return False
    return not secret or verify_hmac_timestamped(secret, signature, body, now, tolerance=tolerance)


def parse(body: bytes | Mapping[str, Any]) -> WebhookEvent:
    """Read a body, raw or already decoded. Events that mean nothing to us come without label or tracking.

    Raises Unreadable.
    """
    try:
        content = json.loads(body) if isinstance(body, bytes) else body
        event, data = content["event"], content["data"]
        if not isinstance(event, str) or not isinstance(data, Mapping):
            raise TypeError("event or data")
        label = tracking = None
        if event in ("transaction_created", "transaction_updated"):
            label = Label.parse(data)
            facts = [label.id, label.updated_at.isoformat(), label.status]
        elif event == "track_updated":
            tracking = Tracking.parse(data)
            facts = [f"{tracking.carrier}:{tracking.tracking_number}"]
            if (scan := tracking.latest) is not None:
                facts += [scan.at.isoformat() if scan.at else "", scan.status, scan.substatus]
        else:
            facts = [json.dumps(data, sort_keys=True)]
        key = hashlib.sha256(json.dumps([event, *facts]).encode()).hexdigest()
        return WebhookEvent(event, key, bool(content.get("test")), label, tracking)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise Unreadable(f"not a webhook of Shippo: {type(error).__name__}") from error
