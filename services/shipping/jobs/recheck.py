"""Looking for a label of which nobody knows whether it was bought. Looks only; it never buys."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.shipping import labels
from services.shipping.jobs.account import shippo_account
from services.shipping.jobs.purchase import complete, effect_key
from services.shipping.models import Label, Rate
from services.shipping.settings import settings
from services.shipping.shippo_objects import Label as Bought
from shared.db import unit_of_work
from shared.jobs import Skip, actor, completion
from shared.jobs.models import LIVE, Job
from shared.outbound import Unavailable
from shared.outbound.effects import find, forget, once

__all__ = ["recheck_label"]

_NOT_FOUND = "not_found_yet"


@actor(queue_name="shippo", unique="label_id", subject="Look for the label of order {number}", time_limit=120)
def recheck_label(label_id: UUID, number: str) -> None:
    """Look for one label, and write it down as bought if it is there."""
    with unit_of_work() as session:
        label = session.get(Label, label_id)
        rate = session.get(Rate, label.rate_id) if label is not None and label.rate_id is not None else None
        effect = find(effect_key(label_id))
    if label is None or label.status not in ("purchasing", "waiting", "unknown", "needs_review"):
        raise Skip("already_known")
    if rate is None or effect is None or effect.state == "refused":
        return _never_sent(label_id)
    with shippo_account() as account:
        reference = labels.reference(label)

        def look_up() -> Any:
            found = account.shippo.find_label(rate.provider_id, reference)
            return None if found is None else found.as_json()

        def call() -> Any:
            # In place of the purchase: says that nothing was sent, so the journal stays as it was.
            raise Unavailable("looked for only", provider="shippo", code=_NOT_FOUND)

        try:
            bought = Bought.from_json(
                once(effect_key(label_id), call=call, look_up=look_up, settle=settings().settle_seconds)
            )
        except Unavailable as error:
            if error.code != _NOT_FOUND:
                raise
            raise Skip(_NOT_FOUND) from error
        if bought.status == "waiting":
            bought = account.shippo.get_label(bought.id)
    if bought.status == "waiting":
        raise Skip("still_undecided")
    if bought.status == "failed":
        return _never_sent(label_id, undo=True)
    complete(label_id, bought)


def _never_sent(label_id: UUID, *, undo: bool = False) -> None:
    """Nothing was bought, and no job is at it any more: say so, and let people ask anew."""
    with completion({"bought": False}) as session:
        if undo:
            forget(effect_key(label_id))
        found = labels.lock(session, label_id)
        if found is not None and not is_live(session, found[0].job_id):
            labels.fail(session, *found, "label_not_bought", {"number": found[1].number}, needs_review=False)


def is_live(session: Session, job_id: UUID | None) -> bool:
    """Whether this job has not ended yet."""
    return session.scalar(select(Job.id).where(Job.id == job_id, Job.state.in_(LIVE))) is not None
