"""Endpoints of tenants' own systems: who is told what, and how they have been answering. For the owner alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from services.notifications.api.addresses import checked, wrong
from services.notifications.api.base import api
from services.notifications.jobs.webhook_log import replay_webhooks
from services.notifications.settings import settings
from services.notifications.webhooks.catalog import PUBLISHED, TEST
from services.notifications.webhooks.models import WebhookEndpoint
from services.notifications.webhooks.outbox import send_to
from services.notifications.webhooks.secrets import seal
from shared.context import current
from shared.db import new_id, unit_of_work
from shared.web import (
    Answer,
    BadRequest,
    Conflict,
    NotFound,
    Page,
    PageQuery,
    Unprocessable,
    accepted,
    created,
    etag,
    paginate,
    require_match,
)
from shared.web.jobs_view import JobView
from shared.web.problems import PreconditionFailed
from shared.web.standard_webhooks import new_secret

__all__ = ["EndpointDisabled", "find_endpoint"]

MOST_ENDPOINTS: Final = 10
"""Of one workspace."""

EventType = Annotated[str, StringConstraints(max_length=100)]
EventTypes = Annotated[list[EventType], Field(min_length=1, max_length=50)]
Url = Annotated[str, StringConstraints(min_length=8, max_length=1000)]
Description = Annotated[str, StringConstraints(strip_whitespace=True, max_length=200)]


class EndpointDisabled(Conflict):
    """The endpoint is switched off, so nothing is sent to it. Switch it on first."""

    slug, title = "endpoint-disabled", "The endpoint is switched off"


class NewWebhookEndpoint(BaseModel):
    """A system of yours that is to be told what happens."""

    url: Url = Field(description="Where it takes webhooks, over https and on the internet.")
    event_types: EventTypes = Field(description="What it is told; `GET /v1/webhook-event-types` lists what there is.")
    description: Description = ""


class WebhookEndpointChange(BaseModel):
    """What to change; what is left away stays."""

    url: Url | None = None
    event_types: EventTypes | None = None
    description: Description | None = None
    state: Literal["enabled", "disabled"] | None = None


class WebhookEndpointView(BaseModel):
    """An endpoint, and how it has been answering."""

    model_config = ConfigDict(title="WebhookEndpoint", from_attributes=True)

    id: UUID
    url: str
    event_types: list[str]
    description: str
    state: Literal["enabled", "disabled"]
    disabled_reason: Literal["by_hand", "gone", "failing"] | None = Field(
        description="`gone`: it answered 410; `failing`: it took nothing for days."
    )
    failing_since: datetime | None = Field(description="Null where it took the last one.")
    resting_until: datetime | None = Field(description="Nothing is sent before then, since it keeps failing.")
    previous_until: datetime | None = Field(description="Until when the secret before this one is signed with, too.")
    created_at: datetime
    updated_at: datetime


class WebhookEndpointWithSecret(BaseModel):
    """An endpoint with its secret, which is shown here and never again."""

    endpoint: WebhookEndpointView
    secret: str = Field(description="What webhooks are signed with; see docs/webhooks.md.")


class WebhookReplay(BaseModel):
    """What to send again."""

    since: datetime = Field(description="What happened from then on; at most as far back as the log is kept.")
    delivered: bool = Field(False, description="Also what was delivered, under the same ids.")


class WebhookTest(BaseModel):
    """What is sent to try an endpoint: see it among the deliveries."""

    delivery_id: UUID


class WebhookEventType(BaseModel):
    """Something that can be subscribed to."""

    type: str
    description: str
    example: dict[str, Any] = Field(description="The `data` of one webhook.")


class WebhookEventTypes(BaseModel):
    """All that can be subscribed to."""

    items: list[WebhookEventType]


@api.get("/v1/webhook-event-types", role="owner")
def list_webhook_event_types() -> WebhookEventTypes:
    """List what systems of yours can be told."""
    return WebhookEventTypes(
        items=[
            WebhookEventType(type=one.name, description=one.description, example=one.data(one.contract.example()))
            for one in PUBLISHED.values()
        ]
    )


@api.post("/v1/webhook-endpoints", role="owner", status=201, idempotency="none", raises=(BadRequest, Unprocessable))
def create_webhook_endpoint(body: NewWebhookEndpoint) -> Answer[WebhookEndpointWithSecret]:
    """Have a system of yours told what happens. Its secret is in this answer only, so keep it now."""
    secret = new_secret()
    row = WebhookEndpoint(
        id=new_id(),
        url=_url(body.url),
        description=body.description,
        event_types=_known(body.event_types),
        secret_sealed=seal(secret),
    )
    with unit_of_work() as session:
        _make_room(session)
        session.add(row)
        session.flush()
        session.refresh(row)
        view = WebhookEndpointView.model_validate(row)
        return created(WebhookEndpointWithSecret(endpoint=view, secret=secret), f"/v1/webhook-endpoints/{row.id}")


@api.get("/v1/webhook-endpoints", role="owner")
def list_webhook_endpoints(query: PageQuery) -> Page[WebhookEndpointView]:
    """List the endpoints, the latest first."""
    with unit_of_work() as session:
        return paginate(session, select(WebhookEndpoint), (WebhookEndpoint.id,), query)


@api.get("/v1/webhook-endpoints/<uuid:endpoint_id>", role="owner", raises=(NotFound,))
def read_webhook_endpoint(endpoint_id: UUID) -> Answer[WebhookEndpointView]:
    """Read how an endpoint stands."""
    with unit_of_work() as session:
        row = find_endpoint(session, endpoint_id)
        return Answer(WebhookEndpointView.model_validate(row), etag=_tag(row))


@api.patch(
    "/v1/webhook-endpoints/<uuid:endpoint_id>",
    role="owner",
    raises=(NotFound, BadRequest, PreconditionFailed),
    examples={"body": {"state": "enabled"}},
)
def change_webhook_endpoint(endpoint_id: UUID, body: WebhookEndpointChange) -> Answer[WebhookEndpointView]:
    """Change an endpoint, or switch it off or on. With `If-Match` only if nobody else has changed it meanwhile."""
    for name in body.model_fields_set:
        if getattr(body, name) is None:
            raise wrong("It cannot be null.", name)
    with unit_of_work() as session:
        row = find_endpoint(session, endpoint_id, lock=True)
        require_match(_tag(row))
        now = datetime.now(UTC)
        if body.description is not None:
            row.description = body.description
        if body.event_types is not None:
            row.event_types = _known(body.event_types)
        if body.url is not None:
            row.url = _url(body.url)
        if body.state == "disabled" and row.state == "enabled":
            row.disable("by_hand", now)
        elif body.state == "enabled" and row.state == "disabled":
            row.enable(now)
        else:
            row.begin_anew(now)
        session.flush()
        return Answer(WebhookEndpointView.model_validate(row), etag=_tag(row))


@api.delete("/v1/webhook-endpoints/<uuid:endpoint_id>", role="owner", status=204, raises=(NotFound,))
def delete_webhook_endpoint(endpoint_id: UUID) -> None:
    """Tell this system nothing more. What waits for it is not sent, and its log goes."""
    with unit_of_work() as session:
        session.delete(find_endpoint(session, endpoint_id, lock=True))


@api.post("/v1/webhook-endpoints/<uuid:endpoint_id>/secret", role="owner", idempotency="none", raises=(NotFound,))
def renew_webhook_secret(endpoint_id: UUID) -> WebhookEndpointWithSecret:
    """Make a new secret. For a day webhooks are signed with both, so that nothing is refused meanwhile."""
    secret = new_secret()
    with unit_of_work() as session:
        row = find_endpoint(session, endpoint_id, lock=True)
        now = datetime.now(UTC)
        row.previous_sealed = row.secret_sealed
        row.previous_until = now + timedelta(hours=settings().webhook_rotation_hours)
        row.secret_sealed = seal(secret)
        row.version += 1
        row.updated_at = now
        session.flush()
        return WebhookEndpointWithSecret(endpoint=WebhookEndpointView.model_validate(row), secret=secret)


@api.post(
    "/v1/webhook-endpoints/<uuid:endpoint_id>/test", role="owner", status=202, raises=(NotFound, EndpointDisabled)
)
def test_webhook_endpoint(endpoint_id: UUID) -> Answer[WebhookTest]:
    """Send a webhook of the type `webhook.test` now; what came of it is among the deliveries."""
    with unit_of_work() as session:
        row = find_endpoint(session, endpoint_id, enabled=True)
        data = {"message": "This is only a test."}
        (made,) = send_to(session, [(row.id, row.url)], TEST, str(new_id()), datetime.now(UTC), data)
        where = f"/v1/webhook-deliveries/{made}"
        return Answer(WebhookTest(delivery_id=made), status=202, headers={"Location": where, "Retry-After": "2"})


@api.post(
    "/v1/webhook-endpoints/<uuid:endpoint_id>/replay",
    role="owner",
    status=202,
    raises=(NotFound, BadRequest, EndpointDisabled),
    examples={"body": {"since": "2026-03-01T00:00:00Z"}},
)
def replay_to_webhook_endpoint(endpoint_id: UUID, body: WebhookReplay) -> Answer[JobView]:
    """Send again what did not arrive since a moment. A job does it; each webhook keeps its id."""
    if body.since.tzinfo is None:
        raise wrong("The time needs its zone.", "since")
    with unit_of_work() as session:
        row = find_endpoint(session, endpoint_id, enabled=True)
        host = urlsplit(row.url).hostname or ""
        return accepted(replay_webhooks.send(endpoint_id=row.id, since=body.since, delivered=body.delivered, host=host))


def find_endpoint(session: Session, endpoint_id: UUID, *, lock: bool = False, enabled: bool = False) -> WebhookEndpoint:
    """Return an endpoint. Raises NotFound, and EndpointDisabled where it must be `enabled`."""
    row = session.get(WebhookEndpoint, endpoint_id, with_for_update=lock)
    if row is None:
        raise NotFound(f"There is no endpoint {endpoint_id}.")
    if enabled and row.state != "enabled":
        raise EndpointDisabled()
    return row


def _make_room(session: Session) -> None:
    """Go on only when there is room for one more; who comes at the same time waits. Raises Unprocessable."""
    key = {"key": f"webhook endpoints of {current().tenant_id}"}
    session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"), key)
    if (session.scalar(select(func.count()).select_from(WebhookEndpoint)) or 0) >= MOST_ENDPOINTS:
        raise Unprocessable(f"A workspace has {MOST_ENDPOINTS} endpoints at most. Delete one first.")


def _url(url: str) -> str:
    trusted = settings().webhook_trusted_hosts
    return checked(url, "url", trusted, "what is sent there is nobody else's business").url


def _known(event_types: list[str]) -> list[str]:
    unknown = sorted(set(event_types) - set(PUBLISHED))
    if unknown:
        raise wrong(
            f"There is no such type: {', '.join(unknown)[:200]}. There are: {', '.join(PUBLISHED)}.", "event_types"
        )
    return sorted(set(event_types))


def _tag(row: WebhookEndpoint) -> str:
    """Of what is shown, so also of how it has been answering."""
    return etag(row.id, row.version, row.failing_since, row.resting_until)
