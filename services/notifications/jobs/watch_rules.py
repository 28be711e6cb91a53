"""Writing the rule of a watch: the one time that a language model is asked.

What it answers is read strictly. What is no rule it may correct once; then the job fails, and the member writes
something else. A rule that is there is never replaced: the member confirms what was shown.
"""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from services.notifications.failures import FAILURES
from services.notifications.notices import tell
from services.notifications.providers import model
from services.notifications.providers.model import Model
from services.notifications.settings import settings
from services.notifications.watches import writing
from services.notifications.watches.connection import key_of
from services.notifications.watches.models import ModelConnection, Watch
from services.notifications.watches.rule import Rule
from services.notifications.watches.words import title_of
from shared.db import new_id, unit_of_work
from shared.jobs import GiveUp, Skip, Verdict, actor, completion, explain

__all__ = ["write_watch_rule"]


@actor(queue_name="models", unique="watch_id", subject="Understand a watch", retry=(5, 30, 120), time_limit=240)
def write_watch_rule(watch_id: UUID) -> None:
    """Have a language model turn what a member wrote into a rule, to be shown and confirmed."""
    with unit_of_work() as session:
        watch = session.get(Watch, watch_id)
        if watch is None or watch.rule is not None:
            raise Skip("watch_settled")
        asked = _model(session)
    rule = _rule(asked, watch.text)
    with completion({"watch_id": str(watch_id)}) as session:
        session.execute(
            update(Watch)
            .where(Watch.id == watch_id, Watch.rule.is_(None))
            .values(rule=rule.model_dump(mode="json"), title=title_of(rule), version=Watch.version + 1)
        )


@write_watch_rule.failed
def _given_up(verdict: Verdict, watch_id: UUID) -> None:
    """Tell the member, who has long gone on to something else."""
    with unit_of_work() as session:
        watch = session.get(Watch, watch_id)
        if watch is None or verdict.state != "failed":
            return
        said = explain(FAILURES, verdict.code, verdict.fields)
        tell(
            session,
            "watch_not_made",
            [watch.member_id],
            "Your watch could not be made",
            f"{said.what} {said.action}",
            link=f"/watches/{watch.id}",
            dedupe_key=f"watch-not-made:{new_id()}",
        )


def _model(session: Session) -> Model:
    own = session.scalar(select(ModelConnection))
    if own is not None:
        return Model(own.base_url, own.model, key_of(own), own=True)
    limits = settings()
    if limits.model_base_url is None:
        raise GiveUp("model_not_connected")
    key = limits.model_key.get_secret_value() if limits.model_key else None
    return Model(limits.model_base_url, limits.model_name, key, own=False)


def _rule(asked: Model, text: str) -> Rule:
    messages, shape = writing.opening(text), writing.response_format()
    said = model.ask(asked, messages, shape)
    try:
        rule = writing.read(said)
    except writing.NoRule as problem:
        said = model.ask(asked, [*messages, *writing.correction(said, problem)], shape)
        try:
            rule = writing.read(said)
        except writing.NoRule as again:
            raise GiveUp("rule_not_understood", str(again)) from again
    if rule is None:
        raise GiveUp("rule_not_possible")
    return rule
