"""Tenants' own systems, which take webhooks. Their addresses and their answers are strangers'.

The client goes to public addresses alone, resolves a name once, follows no redirect, and reads no more than a little
of an answer. Sent once; the job alone repeats it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from services.notifications.settings import settings
from shared.outbound.addresses import not_allowed, parse
from shared.outbound.client import Client, Timeouts
from shared.outbound.errors import ProviderError
from shared.outbound.policy import Policy
from shared.telemetry.excerpts import excerpt
from shared.web.standard_webhooks import signed_headers

__all__ = ["EXCERPT", "Taken", "policy", "send"]

EXCERPT: Final = 1024
"""Bytes of an answer that are kept."""
_MOST_BYTES: Final = 65536


@dataclass(frozen=True, slots=True)
class Taken:
    """The receiver has it: a status of 2xx, and an excerpt of what it said."""

    status: int
    said: str = field(default="", repr=False)


def send(url: str, secrets: Sequence[str], message_id: str, body: str) -> Taken:
    """Send a message, signed with each secret. Raises ProviderError for whatever is not 2xx."""
    limits = settings()
    target, chosen = parse(url), policy()
    if target.scheme != "https" and (target.host, target.port) not in chosen.trusted:
        raise not_allowed("webhooks are sent over https alone")
    content = body.encode()
    total = limits.webhook_total_seconds
    client = Client(
        "webhook",
        target.url.removesuffix(target.target),
        timeouts=Timeouts(connect=limits.webhook_connect_seconds, read=total, total=total),
        headers={"User-Agent": "Backroom-Webhooks", "Content-Type": "application/json"},
        max_bytes=_MOST_BYTES,
        policy=chosen,
    )
    headers = signed_headers(secrets, message_id, content, datetime.now(UTC))
    try:
        answer = client.post("deliver", target.url, content=content, headers=headers, expect="bytes")
    except ProviderError as error:
        if error.status is not None and 200 <= error.status < 300:
            return Taken(error.status)  # what was wrong with the rest of its answer does not matter
        raise
    return Taken(answer.status, excerpt(answer.content.decode("utf-8", "replace"), secrets, EXCERPT))


def policy() -> Policy:
    """Where webhooks may go: to the public internet, and where the operator of this machine vouches for."""
    return Policy.trusting(settings().webhook_trusted_hosts)
