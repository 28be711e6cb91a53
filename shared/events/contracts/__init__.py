"""The contracts of events: what each service tells the others. Services meet here and nowhere else.

One module per service, named after it, and `jobs` with what the library tells on every service's behalf.

    contract("backroom.shipping.label.purchased.v1")     # the class
    contracts()                                          # all of them, by type
"""

from __future__ import annotations

import importlib
import pkgutil

from shared.events.contracts.contract import EventContract, NotAContract, known
from shared.events.contracts.jobs import library_contracts

__all__ = ["EventContract", "NotAContract", "contract", "contracts", "services"]

_NOT_SERVICES = ("contract", "jobs")


def services() -> list[str]:
    """Return the names of the services that have contracts here, in order."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name not in _NOT_SERVICES)


def contracts() -> dict[str, type[EventContract]]:
    """Return every contract of this package by its type, in order: those of services, and the library's for each."""
    found: dict[str, type[EventContract]] = {}
    for service in services():
        module = importlib.import_module(f"{__name__}.{service}")
        found.update(
            {declared.type: declared for declared in known().values() if declared.__module__ == module.__name__}
        )
        found.update({declared.type: declared for declared in library_contracts(service)})
    return dict(sorted(found.items()))


def contract(event_type: str) -> type[EventContract]:
    """Return the contract of a type, declared here or elsewhere.

    Raises LookupError for a type that nobody promised.
    """
    found = contracts().get(event_type) or known().get(event_type)
    if found is None:
        raise LookupError(f"there is no contract for events of type {event_type!r}")
    return found
