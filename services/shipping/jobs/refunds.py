"""Asking for the money back for labels that are not used. Asked once; decided by the carrier within weeks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from services.shipping import labels
from services.shipping.jobs.account import shippo_account
from services.shipping.jobs.said import given_up
from services.shipping.models import Label
from services.shipping.settings import settings
from services.shipping.shippo_objects import Label as Bought
from shared.db import unit_of_work
from shared.jobs import GiveUp, Skip, Snooze, actor, completion
from shared.jobs.verdict import Verdict
from shared.outbound import Refused
from shared.outbound.effects import find, once

__all__ = ["poll_refund", "refund_label"]

_ASKED = ("refund_pending", "refunded", "refund_rejected")


@actor(queue_name="shippo", unique="label_id", subject="Refund of the label for order {number}", time_limit=180)
def refund_label(label_id: UUID, number: str) -> None:
    """Ask for the money back for one label, and have somebody look how it is decided."""
    label = _pending(label_id)
    provider_id = label.provider_id
    assert provider_id is not None, "a label that was bought has Shippo's id"
    with shippo_account() as account:

        def call() -> Any:
            refund = account.shippo.refund(provider_id)
            return {"refund": refund.id}

        def look_up() -> Any:
            return {"refund": None} if account.shippo.get_label(provider_id).status in _ASKED else None

        try:
            answer = once(_key(label_id), call=call, look_up=look_up, settle=settings().settle_seconds)
        except Refused as error:
            # It may have been asked for before, by hand over there: then it is as good as ours.
            if account.shippo.get_label(provider_id).status not in _ASKED:
                raise given_up(error, number) from error
            answer = {"refund": None}
    with completion({"label_id": str(label_id)}) as session:
        fresh = session.get_one(Label, label_id, with_for_update={"key_share": True}, populate_existing=True)
        fresh.refund_provider_id = answer["refund"]
        labels.touch(fresh)
        session.flush()
        poll_refund.send_with_options(
            kwargs={"label_id": label_id, "number": number}, delay=int(settings().refund_poll_seconds[0] * 1000)
        )


@refund_label.failed
def _not_refunded(verdict: Verdict, label_id: UUID, number: str) -> None:
    """Nothing was asked for: the label is bought as before. If nobody knows, the nightly look-out goes on."""
    with unit_of_work() as session:
        found = labels.lock(session, label_id)
        effect = find(_key(label_id))
        if found is None or (effect is not None and effect.state != "refused"):
            return
        label, order = found
        if label.status == "refund_pending":
            label.error_code, label.error_fields = verdict.code, dict(verdict.fields)
            labels.refund_ended(session, label, order, refunded=False)


@actor(queue_name="shippo", unique="label_id", subject="Refund of the label for order {number}", time_limit=120)
def poll_refund(label_id: UUID, number: str) -> None:
    """Look how a refund was decided; goes on looking, less and less often, until it was."""
    label = _pending(label_id)
    assert label.provider_id is not None, "a label that was bought has Shippo's id"
    with shippo_account() as account:
        try:
            bought: Bought = account.shippo.get_label(label.provider_id)
        except Refused as error:
            raise given_up(error, number) from error
    if bought.status not in ("refunded", "refund_rejected"):
        _look_later(label_id, number)
    with completion({"status": bought.status}) as session:
        found = labels.lock(session, label_id)
        if found is not None:
            labels.refund_ended(session, *found, refunded=bought.status == "refunded")


def _look_later(label_id: UUID, number: str) -> None:
    with unit_of_work() as session:
        label = session.get_one(Label, label_id, with_for_update={"key_share": True}, populate_existing=True)
        pauses = settings().refund_poll_seconds
        pause = pauses[min(label.polls, len(pauses) - 1)]
        label.polls += 1
        asked_at = label.refund_requested_at
    if asked_at is not None and datetime.now(UTC) - asked_at > timedelta(days=settings().refund_days):
        raise GiveUp("refund_undecided", number=number)
    raise Snooze("refund_undecided", delay=pause)


def _pending(label_id: UUID) -> Label:
    with unit_of_work() as session:
        label = session.get(Label, label_id)
    if label is None or label.status != "refund_pending":
        raise Skip("no_refund_pending")
    return label


def _key(label_id: UUID) -> str:
    return f"refund:{label_id}"
