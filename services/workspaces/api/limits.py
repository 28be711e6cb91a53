"""How often strangers may ask: limits in the database, so that all processes keep them together.

A bucket drips: a burst at first, then one each so many seconds. What is refused fills it no further. Nothing here
knows whether what is asked about exists, so neither does who is refused.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any, Final

import flask
from sqlalchemy import text
from sqlalchemy.orm import Session

from services.workspaces.api.base import CredentialRefused
from services.workspaces.names import PUBLIC
from services.workspaces.settings import settings
from shared.context import current, use
from shared.db import unit_of_work
from shared.web.problems import TooManyRequests

__all__ = [
    "INVITATIONS",
    "LINKS_PER_ADDRESS",
    "LINKS_PER_CLIENT",
    "REFUSALS_PER_CLIENT",
    "SIGN_UPS_PER_ADDRESS",
    "SIGN_UPS_PER_CLIENT",
    "Limit",
    "client",
    "counting_refusals",
    "take",
]


@dataclass(frozen=True, slots=True)
class Limit:
    """`burst` at once, and another one every `seconds`."""

    bucket: str
    burst: int
    seconds: float


LINKS_PER_ADDRESS: Final = Limit("links/address", 5, 180)
LINKS_PER_CLIENT: Final = Limit("links/client", 30, 10)
SIGN_UPS_PER_ADDRESS: Final = Limit("sign-ups/address", 3, 1200)
SIGN_UPS_PER_CLIENT: Final = Limit("sign-ups/client", 10, 360)
REFUSALS_PER_CLIENT: Final = Limit("refusals/client", 30, 10)
INVITATIONS: Final = Limit("invitations/member", 3, 1200)

_TAKE: Final = """
INSERT INTO request_limits AS known (tenant_id, bucket, key, empty_at)
VALUES (:tenant, :bucket, :key, clock_timestamp() + :each)
ON CONFLICT (tenant_id, bucket, key) DO UPDATE SET empty_at = greatest(known.empty_at, clock_timestamp()) + :each
    WHERE known.empty_at + :each <= clock_timestamp() + :whole
RETURNING true
"""

_WAIT: Final = """
SELECT extract(epoch FROM empty_at + :each - :whole - clock_timestamp()) FROM request_limits
WHERE tenant_id = :tenant AND bucket = :bucket AND key = :key
"""


def take(session: Session, limit: Limit, key: str) -> None:
    """Count one of what `key` (an address, a client) asks for in the current tenant. Raises TooManyRequests."""
    values = _values(limit, key)
    if session.execute(text(_TAKE), values).scalar() is None:
        _refuse(session, values)


def _values(limit: Limit, key: str) -> dict[str, Any]:
    return {
        "tenant": current().tenant_id,
        "bucket": limit.bucket,
        "key": hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest(),
        "each": timedelta(seconds=limit.seconds),
        "whole": timedelta(seconds=limit.seconds * limit.burst),
    }


def _refuse(session: Session, values: dict[str, Any]) -> None:
    seconds = session.execute(text(_WAIT), values).scalar() or 0
    raise TooManyRequests("You ask too often.", retry_after=max(1, math.ceil(seconds)))


@contextmanager
def counting_refusals() -> Iterator[None]:
    """Around what takes a credential: whoever brings wrong ones has to wait after a while.

    Units of work inside are over when it counts. Raises TooManyRequests.
    """
    with use(tenant_id=PUBLIC), unit_of_work() as session:
        values = _values(REFUSALS_PER_CLIENT, client())
        if (session.execute(text(_WAIT), values).scalar() or 0) > 0:
            _refuse(session, values)
    try:
        yield
    except CredentialRefused:
        with use(tenant_id=PUBLIC), unit_of_work() as session:
            session.execute(text(_TAKE), values)
        raise


def client() -> str:
    """Return where the request comes from: an IPv4 address, or the network of an IPv6 address."""
    hops = [flask.request.remote_addr or ""]
    proxies = settings().trusted_proxies
    if proxies:
        forwarded = flask.request.headers.get("X-Forwarded-For", "").split(",")
        hops = [*(hop.strip() for hop in forwarded if hop.strip()), *hops]
    # With one proxy of ours the connection is the proxy's, and what it wrote last is its client.
    address = hops[max(0, len(hops) - 1 - proxies)]
    try:
        found = ip_address(address)
    except ValueError:
        return address[:100]
    if isinstance(found, IPv6Address) and found.ipv4_mapped is None:
        return str(ip_network((found, 64), strict=False))  # whoever has one of its addresses has all 2^64
    return str(getattr(found, "ipv4_mapped", None) or found)
