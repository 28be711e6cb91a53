"""What `other` does about the events of `bus`: the row of the job says enough."""

from __future__ import annotations

from shared.jobs import Event, handler
from tests.events.bus.contracts import ThingHappened


@handler(ThingHappened)
def hear(event: Event[ThingHappened]) -> None:
    """Hear of a thing."""
    assert event.source == "/backroom/bus"
