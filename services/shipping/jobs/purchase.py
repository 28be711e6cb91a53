"""Buying a label: exactly once, however badly the carrier's API behaves.

Everything rests on the effect journal. What is about to be bought, and at which rate, is committed before
the call; our reference goes into Shippo's metadata; and whoever finds that an earlier try has had no answer
looks at Shippo by rate and reference before it buys. The label's rate changes only while nothing can have
been bought at the old one. What cannot be known when the tries are used up is put before a person, and
nobody buys again without one.

    requested ─▶ purchasing ─▶ purchased
                   │  │  └───▶ waiting ──▶ purchased      Shippo queued it: looked at until it is done
                   │  └──────▶ unknown ──▶ purchased      no answer: looked up, then perhaps bought again
                   │              └──────▶ needs_review   no answer to the last try either
                   └─────────▶ failed                     nothing was bought
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

from sqlalchemy.orm import Session

from services.shipping import labels, rates
from services.shipping.jobs.account import Account, shippo_account
from services.shipping.jobs.files import copy_label_file
from services.shipping.jobs.rates import Wanted, ask, wanted_for
from services.shipping.jobs.refunds import poll_refund, refund_label
from services.shipping.jobs.said import given_up
from services.shipping.models import LIVE_LABEL, Label, Order, Rate, Shipment
from services.shipping.providers.shippo import failure_of
from services.shipping.settings import settings
from services.shipping.shippo_objects import Label as Bought
from services.shipping.shippo_objects import LabelFormat
from shared.db import unit_of_work
from shared.jobs import GiveUp, Skip, Snooze, actor, completion, current_job
from shared.jobs.verdict import Verdict
from shared.outbound import Refused, UnknownOutcome
from shared.outbound.effects import find, forget, once

__all__ = ["buy", "complete", "effect_key", "ended", "purchase_label"]

_BUYABLE = ("New", "Processing")


@actor(queue_name="labels", unique="label_id", subject="Label for order {number}", time_limit=300)
def purchase_label(label_id: UUID, number: str) -> None:
    """Buy the label of one parcel."""
    buy(label_id, number)


@purchase_label.failed
def _ended(verdict: Verdict, label_id: UUID, number: str) -> None:
    ended(verdict, label_id)


@dataclass(frozen=True)
class Plan:
    """What a run found when it began. `sent`: an earlier one may have bought at `rate_id` already. `wanted`:
    the order still needs a label."""

    label: Label
    sent: bool
    wanted: bool


def buy(label_id: UUID, number: str) -> None:
    """Bring one label to its end, or as far as this run can. Completes the job that runs."""
    plan = _begin(label_id, number)
    with shippo_account() as account:
        try:
            if plan.label.status == "waiting" and plan.label.provider_id:
                bought = account.shippo.get_label(plan.label.provider_id)
                if bought.status == "failed":
                    _was_not_bought(label_id)
                    raise failure_of(bought.messages)
            else:
                bought = _buy_at_some_rate(account, plan, number)
        except Refused as error:
            raise given_up(error, number) from error
        except UnknownOutcome:
            _mark_unknown(label_id)
            raise
    if bought.status == "waiting":
        _wait(label_id, bought, number)
    complete(label_id, bought)


def effect_key(label_id: UUID) -> str:
    """Return the label's key in the effect journal."""
    return f"label:{label_id}"


def _begin(label_id: UUID, number: str) -> Plan:
    """Commit that a run is under way. Raises Skip and GiveUp for what need not or must not be bought."""
    with unit_of_work() as session:
        found = labels.lock(session, label_id)
        if found is None:
            raise Skip("label_gone")
        label, order = found
        effect = find(effect_key(label_id))
        sent = effect is not None and effect.state != "refused"
        if label.status not in (*LIVE_LABEL, "failed") or label.status == "purchased":
            raise Skip("already_purchased")
        wanted = order.state in _BUYABLE
        if not sent and not wanted:
            raise GiveUp("order_not_open", number=number)
        if label.status == "failed" and labels.live_label(session, order.id, label.parcel_id) is not None:
            raise GiveUp("label_replaced", number=number)
        if label.status not in ("waiting", "unknown"):
            label.status = "purchasing"
        label.attempt += 1
        label.job_id = current_job().id
        label.error_code, label.error_fields = None, {}
        labels.touch(label)
        return Plan(label, sent, wanted)


def _buy_at_some_rate(account: Account, plan: Plan, number: str) -> Bought:
    """Buy at the label's rate; where that has grown too old, once more at a new one that is not dearer."""
    rate = _rate(account, plan, number)
    try:
        return _buy_once(account, plan, rate)
    except Refused as error:
        if error.code not in ("rate_expired", "rate_not_found"):
            raise
    return _buy_once(account, plan, _renewed(account, plan.label, rate, number))


def _buy_once(account: Account, plan: Plan, rate: Rate) -> Bought:
    label = plan.label
    reference = labels.reference(label)

    def call() -> Any:
        if not plan.wanted:
            # An earlier try was looked for and is not there; what the order no longer needs is not bought now.
            raise Refused("the order is not open any more", provider="shippo", code="order_not_open")
        return account.shippo.buy(rate.provider_id, cast(LabelFormat, label.label_file_type), reference).as_json()

    def look_up() -> Any:
        found = account.shippo.find_label(rate.provider_id, reference)
        return None if found is None else found.as_json()

    return Bought.from_json(once(effect_key(label.id), call=call, look_up=look_up, settle=settings().settle_seconds))


# -- rates ---------------------------------------------------------------------------------------------


def _rate(account: Account, plan: Plan, number: str) -> Rate:
    """Return the rate to buy at, committed as the label's. Raises GiveUp when there is none to be had."""
    label = plan.label
    wanted = wanted_for(account, label.parcel_id)
    with unit_of_work() as session:
        rate = session.get(Rate, label.rate_id) if label.rate_id is not None else None
        if rate is not None and (plan.sent or _holds(session, rate, wanted)):
            # What may have been bought was bought at this one, however old it is.
            return rate
        quoted = rates.latest(session, label.parcel_id) if rate is None else None
        fresh = [one for one in quoted[1] if _holds(session, one, wanted)] if quoted is not None else []
    if rate is not None:
        return _renewed(account, label, rate, number)
    chosen = rates.best(fresh) or rates.best(_ask_again(account, label, number))
    assert chosen is not None, "carriers that take a parcel have a rate"
    return _take(label, chosen)


def _holds(session: Session, rate: Rate, wanted: Wanted) -> bool:
    """Whether a rate can still be bought, and is for what is to be sent now."""
    return not rates.expired(rate) and session.get_one(Shipment, rate.shipment_id).fingerprint == wanted.fingerprint


def _renewed(account: Account, label: Label, old: Rate, number: str) -> Rate:
    """Return a new rate in place of one that no longer holds. A person's choice is replaced by the same
    service at no higher price, or not at all."""
    fresh = _ask_again(account, label, number)
    if not label.chosen:
        chosen = rates.best(fresh)
    else:
        chosen = rates.same_service(fresh, old)
        if chosen is None or chosen.amount > old.amount:
            raise GiveUp("rate_expired", number=number)
    assert chosen is not None, "carriers that take a parcel have a rate"
    return _take(label, chosen)


def _ask_again(account: Account, label: Label, number: str) -> list[Rate]:
    wanted = wanted_for(account, label.parcel_id)
    quoted = ask(account, wanted, number)
    with unit_of_work() as session:
        return rates.keep(session, wanted.order_id, label.parcel_id, quoted, wanted.fingerprint)


def _take(label: Label, rate: Rate) -> Rate:
    with unit_of_work() as session:
        fresh = session.get_one(Label, label.id, with_for_update={"key_share": True})
        fresh.rate_id = rate.id
        labels.touch(fresh)
    label.rate_id = rate.id
    return rate


# -- how it goes on ------------------------------------------------------------------------------------


def complete(label_id: UUID, bought: Bought) -> None:
    """Write the purchase down and complete the job that runs, in one commit, with what follows from both."""
    result = {"label_id": str(label_id), "tracking_number": bought.tracking_number}
    with completion(result) as session:
        found = labels.lock(session, label_id)
        if found is None:
            return
        label, order = found
        rate = session.get(Rate, label.rate_id) if label.rate_id is not None else None
        if not labels.purchased(session, label, order, bought, rate):
            return
        session.flush()
        copy_label_file.send(label_id=label.id, number=order.number)
        _give_back_if_unwanted(session, label, order, bought)


def _give_back_if_unwanted(session: Session, label: Label, order: Order, bought: Bought) -> None:
    if bought.status in ("refund_pending", "refunded", "refund_rejected"):
        # Somebody asked for the money back over there, while we did not know of the purchase.
        labels.start_refund(label)
        session.flush()
        poll_refund.send(label_id=label.id, number=order.number)
    elif order.state == "Cancelled":
        labels.start_refund(label)
        session.flush()
        refund_label.send(label_id=label.id, number=order.number)


def _wait(label_id: UUID, bought: Bought, number: str) -> None:
    """Put the job off until Shippo has decided; always raises. A webhook brings the next look forward."""
    now = datetime.now(UTC)
    with unit_of_work() as session:
        label = session.get_one(Label, label_id, with_for_update={"key_share": True}, populate_existing=True)
        if label.status != "waiting":
            label.status, label.provider_id = "waiting", bought.id
            label.waiting_since, label.polls = now, 0
            labels.touch(label)
        assert label.waiting_since is not None
        pauses = settings().poll_seconds
        pause = pauses[min(label.polls, len(pauses) - 1)]
        label.polls += 1
        since = label.waiting_since
    if now - since > timedelta(hours=settings().poll_hours):
        raise GiveUp("label_still_waiting", number=number)
    raise Snooze("label_waiting", delay=pause)


def _was_not_bought(label_id: UUID) -> None:
    """Shippo had queued the purchase and then failed it: nothing was bought, and it may be tried again."""
    with unit_of_work() as session:
        forget(effect_key(label_id))
        label = session.get_one(Label, label_id, with_for_update={"key_share": True}, populate_existing=True)
        label.status, label.provider_id, label.waiting_since = "purchasing", None, None
        labels.touch(label)


def _mark_unknown(label_id: UUID) -> None:
    with unit_of_work() as session:
        label = session.get_one(Label, label_id, with_for_update={"key_share": True}, populate_existing=True)
        if label.status in ("requested", "purchasing"):
            label.status = "unknown"
            labels.touch(label)


def ended(verdict: Verdict, label_id: UUID) -> None:
    """Put the label right when its job has ended without one. In the transaction in which the job ends."""
    with unit_of_work() as session:
        found = labels.lock(session, label_id)
        if found is None:
            return
        effect = find(effect_key(label_id))
        may_be_bought = effect is not None and effect.state != "refused"
        labels.fail(session, *found, verdict.code, verdict.fields, needs_review=may_be_bought)
