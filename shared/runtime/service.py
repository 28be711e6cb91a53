"""The definition of a service: what it is made of. Everything else is made from it.

    service = Service(
        "shipping",
        title="Shipping",
        queues=(Queue("labels", provider="shippo", per_tenant=4), Queue("default")),
    )

By convention its parts lie beside it: `api` (an `Api` named `api`), `jobs`, `events`, `failures`
(`FAILURES`), `settings` (`Settings`), `keys` (`jwks`), `archive` (`destroy_credentials`), `migrations/`. A part
that is missing is a part that it has not.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic_settings import BaseSettings
from sqlalchemy import MetaData
from sqlalchemy.orm import Session

from shared.jobs import library
from shared.jobs.actor import Actor, registry
from shared.jobs.failures import COMMON, FailureText
from shared.jobs.handlers import handlers_of
from shared.jobs.relay import QueueSettings as Queue

__all__ = ["LIBRARY", "Queue", "Service", "all_services", "find_service"]

LIBRARY = library.__name__
"""The package of the jobs and handlers that every service has."""

_PACKAGE = "services"


@dataclass(frozen=True)
class Service:
    """A service by its name; `services.<name>` is its package."""

    name: str
    title: str
    queues: Sequence[Queue] = ()
    package: str = field(default="")

    def __post_init__(self) -> None:
        if not self.package:
            object.__setattr__(self, "package", f"{_PACKAGE}.{self.name}")

    def part(self, name: str) -> ModuleType | None:
        """Return a module of the service, or None where it has no such part."""
        full_name = f"{self.package}.{name}"
        if importlib.util.find_spec(full_name) is None:
            return None
        return importlib.import_module(full_name)

    def apis(self) -> list[Any]:
        """Return the service's declared HTTP operations."""
        module = self.part("api")
        return [] if module is None else [module.api]

    def actors(self) -> list[Actor[Any, Any]]:
        """Return all jobs and handlers of the service, the library's own included."""
        modules = [f"{self.package}.{part}" for part in ("jobs", "events") if self.part(part) is not None]
        return registry.of(LIBRARY, *modules)

    def handlers(self) -> dict[str, list[Actor[Any, Any]]]:
        """Return the handlers of events, by type; the library's own included."""
        return handlers_of(LIBRARY, *([f"{self.package}.events"] if self.part("events") is not None else []))

    def destroy_credentials(self) -> Callable[[Session], int] | None:
        """Return what destroys a workspace's credentials when it is archived, None where the service has none."""
        return getattr(self.part("archive"), "destroy_credentials", None)

    def failures(self) -> Mapping[str, FailureText]:
        """Return the service's failure texts, on top of the library's."""
        module = self.part("failures")
        return {**COMMON, **(module.FAILURES if module is not None else {})}

    def tables(self) -> MetaData:
        """Return the service's own tables; the library's are not among them."""
        module = self.part("models")
        return module.Base.metadata if module is not None else MetaData()

    def waiting(self) -> Mapping[str, str]:
        """Return the sentences for the codes with which the service's jobs put themselves off (`WAITING`)."""
        return getattr(self.part("failures"), "WAITING", {})

    def keys(self) -> Callable[[], dict[str, Any]] | None:
        """Return what reads the public keys of a service that issues tokens, for it publishes them; None of others."""
        return getattr(self.part("keys"), "jwks", None)

    def settings_class(self) -> type[BaseSettings] | None:
        module = self.part("settings")
        return None if module is None else module.Settings

    def migrations(self) -> list[Path]:
        """Return the directories of the service's own migrations."""
        module = importlib.import_module(self.package)
        assert module.__file__ is not None
        directory = Path(module.__file__).parent / "migrations"
        return [directory] if directory.is_dir() else []


def find_service(name: str) -> Service:
    """Return a service by name, or by the dotted path of its package if it lies elsewhere.

    Raises LookupError that lists the ones there are.
    """
    if "." in name and importlib.util.find_spec(f"{name}.service") is not None:
        return importlib.import_module(f"{name}.service").service
    if name not in _names():
        raise LookupError(f"there is no service {name!r}; there are: {', '.join(_names())}")
    return importlib.import_module(f"{_PACKAGE}.{name}.service").service


def all_services() -> list[Service]:
    """Return all services, by name."""
    return [find_service(name) for name in _names()]


def _names() -> list[str]:
    package = importlib.import_module(_PACKAGE)
    return sorted(
        module.name
        for module in pkgutil.iter_modules(package.__path__)
        if importlib.util.find_spec(f"{_PACKAGE}.{module.name}.service") is not None
    )
