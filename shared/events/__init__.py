"""The bus: what happened in one service, for all who care, by way of the transaction in which it happened.

    from shared.events import publish

    with unit_of_work():
        label.buy(...)
        publish(None, LabelPurchased(...), subject=label.id, sequence=label.version)     # both or neither

An event is a fact in the past tense; its contract lies in `shared.events.contracts`. Whoever handles it
declares a handler (`shared.jobs.handler`).
"""

from shared.events.contracts.contract import EventContract, example
from shared.events.publish import NotOurEvent, Occurrence, publish, publish_many

__all__ = ["EventContract", "NotOurEvent", "Occurrence", "example", "publish", "publish_many"]
