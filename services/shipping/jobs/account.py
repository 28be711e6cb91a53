"""The current tenant's account with Shippo, as jobs use it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select

from services.shipping.credentials import TOKEN, open_secret
from services.shipping.models import Address as AddressRow
from services.shipping.models import ShippoAccount
from services.shipping.providers.shippo import Shippo, make_client
from services.shipping.settings import settings
from services.shipping.shippo_objects import Address
from shared.db import unit_of_work
from shared.events import publish
from shared.events.contracts.shipping import ConnectionChanged
from shared.jobs import GiveUp
from shared.outbound import NotAuthorized
from shared.outbound.client import Timeouts

__all__ = ["Account", "as_address", "set_status", "shippo_account"]

_NAMES = tuple(field.name for field in fields(Address))


@dataclass(frozen=True)
class Account:
    """`shippo` calls for the tenant, `sender` is from where it ships."""

    shippo: Shippo
    sender: Address
    row: ShippoAccount


@contextmanager
def shippo_account(*, checking: bool = False) -> Iterator[Account]:
    """Yield the tenant's account; when Shippo no longer accepts it, write that down on the way out.

    Raises GiveUp where none is connected, or it has to be connected again (unless `checking` it).
    """
    with unit_of_work() as session:
        row = session.scalar(select(ShippoAccount))
    if row is None:
        raise GiveUp("shippo_not_connected")
    if row.status == "needs_reauthorization" and not checking:
        raise GiveUp("provider_not_authorized")
    try:
        yield Account(client_of(row), as_address(row.sender), row)
    except NotAuthorized:
        set_status(row, "needs_reauthorization")
        raise


def client_of(row: ShippoAccount) -> Shippo:
    """Return the client of an account."""
    token = open_secret(TOKEN, row.token_sealed)
    chosen = settings()
    patience = Timeouts(connect=3.0, read=chosen.shippo_read_seconds, total=chosen.shippo_total_seconds)
    # What no carrier has a part in is answered within moments, or not at all.
    quick = Timeouts(connect=3.0, read=min(15.0, patience.read), total=min(20.0, patience.total))
    options: dict[str, Any] = {} if chosen.shippo_own_limits else {"limiter": None}
    live = token.startswith("shippo_live_")
    client = make_client(chosen.shippo_base_url, live=live, timeouts=quick, **options)
    return Shippo(token, client=client, patience=patience)


def set_status(row: ShippoAccount, status: str) -> None:
    """Write the account's status down, and tell when it is another; a token that was replaced is no news."""
    with unit_of_work() as session:
        fresh = session.get(ShippoAccount, row.id, with_for_update={"key_share": True})
        if fresh is None or fresh.token_sealed != row.token_sealed:
            return
        fresh.checked_at = datetime.now(UTC)
        if fresh.status == status:
            return
        fresh.status = status
        fresh.version += 1
        fresh.updated_at = datetime.now(UTC)
        publish(
            session,
            ConnectionChanged(provider="shippo", status=status),  # type: ignore[arg-type]
            subject=fresh.id,
            sequence=fresh.version,
        )


def as_address(source: AddressRow | dict[str, Any]) -> Address:
    """Return an address as Shippo takes it."""
    if isinstance(source, dict):
        return Address(**{name: source[name] for name in _NAMES if source.get(name)} | _needed(source))
    return Address(**{name: getattr(source, name) for name in _NAMES})


def _needed(source: dict[str, Any]) -> dict[str, Any]:
    return {name: source.get(name) or "" for name in ("name", "street1", "city", "zip", "country")}
