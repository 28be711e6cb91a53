"""The log of webhooks: what was sent to whom, how often, and what was answered. For the owner alone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from services.notifications.api.base import api
from services.notifications.api.webhook_endpoints import EndpointDisabled, find_endpoint
from services.notifications.failures import FAILURES
from services.notifications.jobs.webhooks import deliver_webhook
from services.notifications.webhooks.models import WebhookDelivery, WebhookEndpoint
from shared.db import unit_of_work
from shared.jobs import explain
from shared.web import Answer, NotFound, Page, PageQuery, accepted, paginate
from shared.web.jobs_view import JobView

__all__: list[str] = []

State = Literal["waiting", "delivered", "failed", "dropped"]


class WebhookDeliveryQuery(PageQuery):
    """Filters of the log; all that are given must hold."""

    state: State | None = None
    event_type: str | None = Field(None, max_length=100)


class WebhookDeliveryView(BaseModel):
    """One webhook to one endpoint, and how the last attempt went."""

    model_config = ConfigDict(title="WebhookDelivery", from_attributes=True)

    id: UUID
    endpoint_id: UUID
    message_id: str = Field(description="The `webhook-id`, the same in each attempt.")
    event_type: str
    state: State = Field(
        description="`waiting` also between two attempts; `dropped`: cancelled, or its endpoint was switched off."
    )
    attempts: int = Field(description="Since it was sent, or sent again by hand.")
    problem: str | None = Field(description="Why the last attempt failed, in words.")
    response_status: int | None
    response: str = Field(description="The beginning of what was answered, without secrets.")
    created_at: datetime
    attempted_at: datetime | None


class WebhookMessage(WebhookDeliveryView):
    """A webhook with what is sent."""

    model_config = ConfigDict(title="WebhookMessage")

    body: str = Field(description="As it is signed and sent.")


@api.get("/v1/webhook-endpoints/<uuid:endpoint_id>/deliveries", role="owner", raises=(NotFound,))
def list_webhook_deliveries(endpoint_id: UUID, query: WebhookDeliveryQuery) -> Page[WebhookDeliveryView]:
    """List what was sent to an endpoint or is to be sent, the latest first."""
    statement = select(WebhookDelivery).where(WebhookDelivery.endpoint_id == endpoint_id)
    if query.state is not None:
        statement = statement.where(WebhookDelivery.state == query.state)
    if query.event_type is not None:
        statement = statement.where(WebhookDelivery.event_type == query.event_type)
    with unit_of_work() as session:
        find_endpoint(session, endpoint_id)
        return paginate(
            session,
            statement,
            (WebhookDelivery.id,),
            query,
            view=lambda row: WebhookDeliveryView(**_shown(row, WebhookDeliveryView)),
        )


@api.get("/v1/webhook-deliveries/<uuid:delivery_id>", role="owner", raises=(NotFound,))
def read_webhook_delivery(delivery_id: UUID) -> WebhookMessage:
    """Read a webhook, and how the last attempt to deliver it went."""
    with unit_of_work() as session:
        row, _ = _find(session, delivery_id)
        return WebhookMessage(**_shown(row, WebhookMessage))


@api.post(
    "/v1/webhook-deliveries/<uuid:delivery_id>/redeliver",
    role="owner",
    status=202,
    raises=(NotFound, EndpointDisabled),
)
def redeliver_webhook(delivery_id: UUID) -> Answer[JobView]:
    """Send a webhook again, under the same id, with its whole schedule before it."""
    with unit_of_work() as session:
        row, endpoint = _find(session, delivery_id)
        if endpoint.state != "enabled":
            raise EndpointDisabled()
        if row.state != "waiting":
            row.state, row.attempts, row.queued_at = "waiting", 0, datetime.now(UTC)
        session.flush()
        host = urlsplit(endpoint.url).hostname or ""
        return accepted(deliver_webhook.send(delivery_id=row.id, event_type=row.event_type, host=host))


def _find(session: Session, delivery_id: UUID) -> tuple[WebhookDelivery, WebhookEndpoint]:
    """Return a delivery with its endpoint. Raises NotFound, also where the endpoint is gone."""
    row = session.get(WebhookDelivery, delivery_id)
    endpoint = None if row is None else session.get(WebhookEndpoint, row.endpoint_id)
    if row is None or endpoint is None:
        raise NotFound(f"There is no webhook {delivery_id}.")
    return row, endpoint


def _shown(row: WebhookDelivery, model: type[BaseModel]) -> dict[str, Any]:
    problem = None if row.code is None else explain(FAILURES, row.code).what
    return {**{name: getattr(row, name) for name in model.model_fields if name != "problem"}, "problem": problem}
