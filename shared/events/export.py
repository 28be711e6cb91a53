"""The contracts as files, for readers in any language: a JSON Schema and an example per type, and one AsyncAPI
document of all services. They are checked in; a test finds out when they are not those of the code.

    docs/contracts/asyncapi.json
    docs/contracts/events/<type>.json               the schema of the event's data
    docs/contracts/events/<type>.example.json       a whole CloudEvent
    docs/contracts/events/<type>.example.1.json     an example as it was before: kept, and read by today's code

A schema that would break readers of the checked-in one is refused: that is a new version of the type.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from shared.events.asyncapi import ServiceLike, asyncapi_document
from shared.events.compatibility import breaking_changes
from shared.events.contracts import EventContract, contracts
from shared.events.contracts.contract import service_of
from shared.events.envelope import envelope

__all__ = ["BreakingChange", "example_event", "examples_of", "export", "outdated", "schema_of"]

_EVENT_ID = uuid.UUID("0199a1b2-7c3d-7e4f-8a5b-000000000001")
_AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class BreakingChange(Exception):
    """A contract changed in a way that breaks its readers; the message says where, and what to do."""


def schema_of(contract: type[EventContract]) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the data of a contract's events."""
    schema = contract.model_json_schema()
    # The example stands in a file of its own, as a whole event.
    schema.pop("examples", None)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"/contracts/events/{contract.type}.json",
        **schema,
        "title": contract.type,
    }


def example_event(contract: type[EventContract]) -> dict[str, Any]:
    """Return the contract's example as the CloudEvent that others receive."""
    row = SimpleNamespace(
        id=_EVENT_ID,
        tenant_id="acme",
        type=contract.type,
        subject="0199a1b2-7c3d-7e4f-8a5b-6c7d8e9f0a1b",
        sequence=7,
        data=contract.example().model_dump(mode="json"),
        principal="user:eve",
        correlation_id="0199a1b2-7c3d-7e4f-8a5b-000000000002",
        causation_id="0199a1b2-7c3d-7e4f-8a5b-000000000003",
        traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        replay_of=None,
        created_at=_AT,
    )
    return envelope(service_of(contract.type), row)


def export(directory: Path, services: Iterable[ServiceLike]) -> list[Path]:
    """Write what is not as it should be below `directory` (`docs/contracts`); return the files written or removed.

    Raises BreakingChange, and then writes nothing.
    """
    known = contracts()
    _refuse_breaking_changes(directory, known)
    written = []
    for path, content in _wanted(directory, known, services).items():
        before = path.read_text() if path.exists() else None
        if before == content:
            continue
        if before is not None and path.name.endswith(".example.json"):
            path.with_name(_next_name(path)).write_text(before)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        written.append(path)
    return written


def outdated(directory: Path, services: Iterable[ServiceLike]) -> list[Path]:
    """Return the files that are missing, not those of this code, or of a type for which there is no contract."""
    known = contracts()
    wanted = _wanted(directory, known, services)
    wrong = [path for path, content in wanted.items() if not path.exists() or path.read_text() != content]
    orphans = [path for path in (directory / "events").glob("*.json") if _type_of(path) not in known]
    return sorted([*wrong, *orphans])


def examples_of(directory: Path) -> dict[Path, tuple[str, dict[str, Any]]]:
    """Return all examples that were ever exported: file → (type, the whole event)."""
    files = sorted((directory / "events").glob("*.example*.json"))
    return {path: (_type_of(path), json.loads(path.read_text())) for path in files}


def _refuse_breaking_changes(directory: Path, known: Mapping[str, type[EventContract]]) -> None:
    problems = []
    for event_type, contract in known.items():
        path = directory / "events" / f"{event_type}.json"
        if path.exists():
            changes = breaking_changes(json.loads(path.read_text()), schema_of(contract))
            problems += [f"{event_type} {change}" for change in changes]
    if problems:
        raise BreakingChange(
            "\n".join([*problems, "Readers would break. Declare the next version of the type, and publish both."])
        )


def _wanted(
    directory: Path, known: Mapping[str, type[EventContract]], services: Iterable[ServiceLike]
) -> dict[Path, str]:
    wanted = {directory / "asyncapi.json": _text(asyncapi_document(services))}
    for event_type, contract in known.items():
        wanted[directory / "events" / f"{event_type}.json"] = _text(schema_of(contract))
        wanted[directory / "events" / f"{event_type}.example.json"] = _text(example_event(contract))
    return wanted


def _text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _type_of(path: Path) -> str:
    return re.sub(r"(\.example(\.\d+)?)?\.json$", "", path.name)


def _next_name(path: Path) -> str:
    stem = path.name.removesuffix(".json")
    number = 1 + len(list(path.parent.glob(f"{stem}.*.json")))
    return f"{stem}.{number}.json"
