"""What the library's jobs must know of the service in which they run. Several may be built in one process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import MetaData
from sqlalchemy.orm import Session

from shared.context import current
from shared.jobs.actor import Actor

__all__ = ["Parts", "parts", "register"]


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of one built service."""

    actors: Mapping[str, Actor[Any, Any]]
    tables: MetaData
    """The service's own; the library's are not among them."""
    destroy_credentials: Callable[[Session], int] | None = None
    """Destroys what lets us into third parties on behalf of the session's tenant; returns how much there was."""
    dead_letters: Callable[[], Mapping[str, int]] = dict
    """Counts the dead letters of each queue; may raise BrokerAway."""


_by_service: dict[str, Parts] = {}


def register(service: str, built: Parts) -> None:
    """Make the parts of a service known; of one that is built again the latest count."""
    _by_service[service] = built


def parts() -> Parts:
    """Return the parts of the current service; raises RuntimeError when it is not built."""
    found = _by_service.get(current().service)
    if found is None:
        raise RuntimeError(f"the service {current().service!r} is not built in this process")
    return found
