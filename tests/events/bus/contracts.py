"""What the service `bus` tells."""

from __future__ import annotations

from typing import ClassVar

from shared.events import EventContract, example

__all__ = ["FOREIGN", "ThingHappened", "ThingIgnored"]

FOREIGN = "com.example.parcel.dropped.v1"
"""A type of somebody else's, for which there is no contract."""


class ThingHappened(EventContract):
    """A thing happened."""

    type: ClassVar[str] = "backroom.bus.thing.happened.v1"
    model_config = example(name="first", weight=3)

    name: str
    weight: int = 0


class ThingIgnored(EventContract):
    """A thing happened that nobody here cares for."""

    type: ClassVar[str] = "backroom.bus.thing.ignored.v1"
    model_config = example(name="first")

    name: str
