"""The exported contracts are those of the code, and whatever was an example once is still read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from shared.events import EventContract, example, export
from shared.events.contracts import contracts
from shared.events.export import BreakingChange, examples_of, outdated, schema_of
from shared.runtime.service import all_services

DIRECTORY = Path(__file__).parents[2] / "docs" / "contracts"


def test_what_is_checked_in_is_what_the_code_says() -> None:
    wrong = [path.name for path in outdated(DIRECTORY, all_services())]
    assert wrong == [], "run: backroom events export (and remove files of types that are no more)"


@pytest.mark.parametrize("path", examples_of(DIRECTORY), ids=lambda path: path.name)
def test_today_s_code_reads_every_example_that_ever_was(path: Path) -> None:
    event_type, event = examples_of(DIRECTORY)[path]
    assert event["type"] == event_type
    assert contracts()[event_type].model_validate(event["data"])


@pytest.mark.parametrize("event_type", contracts())
def test_the_schema_is_one_and_takes_what_is_told(event_type: str) -> None:
    declared = contracts()[event_type]
    schema = schema_of(declared)
    Draft202012Validator.check_schema(schema)
    data = declared.example().model_dump(mode="json")
    Draft202012Validator(schema, format_checker=FormatChecker()).validate(data)


@pytest.fixture
def thing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Declare one contract, and declare it anew: `thing(fields, example)`; it is the only one there is."""
    found: dict[str, type[EventContract]] = {}
    monkeypatch.setattr(export, "contracts", lambda: found)

    def declare(annotations: dict[str, Any], **fields: Any) -> None:
        members = {
            "__module__": __name__,
            "__qualname__": "Thing",
            "__annotations__": {"type": ClassVar[str], **annotations},
            "type": "backroom.bus.thing.exported.v1",
            "model_config": example(**fields),
            **{name: None for name, kind in annotations.items() if kind == (str | None)},
        }
        found["backroom.bus.thing.exported.v1"] = type("Thing", (EventContract,), members)

    return declare


def names(directory: Path) -> list[str]:
    return sorted(path.name.removeprefix("backroom.bus.thing.exported.v1") for path in (directory / "events").iterdir())


def test_yesterday_s_example_is_kept_for_ever(tmp_path: Path, thing: Any) -> None:
    thing({"name": str}, name="first")
    assert len(export.export(tmp_path, [])) == 3
    assert export.export(tmp_path, []) == []
    thing({"name": str, "note": str | None}, name="second", note="new")
    export.export(tmp_path, [])
    thing({"name": str, "note": str | None}, name="third")
    export.export(tmp_path, [])
    assert names(tmp_path) == [".example.1.json", ".example.2.json", ".example.json", ".json"]
    kept = [event["data"]["name"] for _, event in export.examples_of(tmp_path).values()]
    assert kept == ["first", "second", "third"]
    assert export.outdated(tmp_path, []) == []


def test_what_breaks_readers_is_refused_and_nothing_is_written(tmp_path: Path, thing: Any) -> None:
    thing({"name": str}, name="first")
    export.export(tmp_path, [])
    before = {path: path.read_text() for path in tmp_path.rglob("*.json")}
    thing({"title": str}, title="first")
    with pytest.raises(BreakingChange, match=r"thing\.exported\.v1 /name: was removed(.|\n)*next version"):
        export.export(tmp_path, [])
    assert {path: path.read_text() for path in tmp_path.rglob("*.json")} == before


def test_files_that_are_not_as_they_should_be_are_named(tmp_path: Path, thing: Any) -> None:
    thing({"name": str}, name="first")
    assert len(export.outdated(tmp_path, [])) == 3
    export.export(tmp_path, [])
    schema = tmp_path / "events" / "backroom.bus.thing.exported.v1.json"
    schema.write_text(json.dumps({}))
    orphan = tmp_path / "events" / "backroom.bus.thing.forgotten.v1.json"
    orphan.write_text("{}")
    assert export.outdated(tmp_path, []) == [schema, orphan]
