"""Asking Paddle who pays: before each step that takes something away, and where a webhook may have been lost."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.workspaces.lifecycle import cancellations, subscriptions
from services.workspaces.lifecycle.models import Subscription
from services.workspaces.lifecycle.paddle_objects import SubscriptionObject
from services.workspaces.providers.paddle import Paddle, make_client
from services.workspaces.settings import settings
from shared.context import current
from shared.db import unit_of_work
from shared.jobs import GiveUp, Skip, actor, completion

__all__ = ["ask_paddle", "check_billing", "take_over"]


@actor(queue_name="billing", unique=(), subject="Ask Paddle about the subscription", time_limit=120, standing="any")
def check_billing(subscription_id: str | None = None) -> None:
    """Bring what we know of the workspace's subscriptions up to date; the id says which of them gave rise to it."""
    seen = ask_paddle()
    result: dict[str, str] = {}
    with completion(result) as session:
        result["outcome"] = take_over(session, seen)


def ask_paddle() -> list[SubscriptionObject]:
    """Return the subscriptions of the current workspace as they are at Paddle now.

    All of its customers are asked for, since who returns has a new subscription. Raises Skip where there never
    was one, and GiveUp where Paddle does not know one that we know: nothing must follow from that.
    """
    chosen = settings()
    with unit_of_work() as session:
        known = {row.provider_id: row.customer_id for row in session.scalars(select(Subscription))}
    if not known:
        raise Skip("never_subscribed")
    if chosen.paddle_api_key is None:
        raise GiveUp("billing_not_configured")
    client = make_client(chosen.paddle_base_url, total=chosen.paddle_total_seconds)
    paddle = Paddle(chosen.paddle_api_key.get_secret_value(), client)
    found = paddle.subscriptions_of(*sorted(set(known.values())))
    # A customer may pay for several workspaces. Whose one is, we knew before anybody could say otherwise.
    tenant = current().tenant_id
    ours = [one for one in found if one.id in known or one.workspace == tenant]
    if known.keys() - {one.id for one in ours}:
        raise GiveUp("subscription_unknown")
    return ours


def take_over(session: Session, seen: list[SubscriptionObject]) -> str:
    """Keep what Paddle says, and bring the workspace into line with it; return what came of it."""
    workspace = cancellations.lock_workspace(session)
    if workspace is None:
        return "no_workspace"
    for one in seen:
        subscriptions.note(session, one, one.updated_at)
    return subscriptions.settle(session, workspace)
