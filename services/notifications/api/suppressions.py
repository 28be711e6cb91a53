"""Addresses that are not written to, since their mail server refuses them."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import delete, select

from services.notifications.api.base import MANAGERS, api
from services.notifications.mail.models import Suppression
from shared.db import unit_of_work
from shared.web import NotFound, Page, PageQuery, paginate

__all__: list[str] = []


class SuppressionView(BaseModel):
    """An address to which nothing is sent but links that its owner asks for."""

    model_config = ConfigDict(title="Suppression", from_attributes=True)

    address: str
    reason: str = Field(description="`refused`: its mail server says that there is no such mailbox.")
    since: datetime


@api.get("/v1/suppressions", role=MANAGERS)
def list_suppressions(query: PageQuery) -> Page[SuppressionView]:
    """List the addresses to which nothing is sent, by address."""
    with unit_of_work() as session:
        return paginate(session, select(Suppression), (Suppression.address,), query, descending=False)


@api.delete("/v1/suppressions/<address>", role=MANAGERS, raises=(NotFound,))
def remove_suppression(address: str) -> None:
    """Write to an address again, once its mailbox works."""
    with unit_of_work() as session:
        statement = delete(Suppression).where(Suppression.address == address.lower()).returning(Suppression.address)
        if session.scalar(statement) is None:
            raise NotFound(f"{address} is not among them.")
