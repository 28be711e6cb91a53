"""What tenants' own systems are told about: a handler for each type that can be subscribed to."""

from __future__ import annotations

from typing import Any

from services.notifications.webhooks.catalog import PUBLISHED, Published
from services.notifications.webhooks.outbox import tell_endpoints
from shared.db import unit_of_work
from shared.jobs import Actor, Event, handler

__all__ = ["HANDLERS"]


def _teller(published: Published) -> Actor[Any, None]:
    def tell(event: Event[Any]) -> None:
        # An event that is told again has been told before.
        message_id = event.replay or event.id
        with unit_of_work() as session:
            tell_endpoints(session, published.name, message_id, event.time, published.data(event.data))

    tell.__name__ = f"tell_endpoints_{published.name.replace('.', '_')}"
    tell.__doc__ = f"Tell the endpoints that want `{published.name}`."
    return handler(published.contract)(tell)


HANDLERS = [_teller(published) for published in PUBLISHED.values()]
