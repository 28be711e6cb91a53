"""The checker of contracts finds what breaks readers, and nothing else; no contract ever broke one."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from pydantic import BaseModel

from shared.events import EventContract, example
from shared.events.compatibility import breaking_changes
from shared.events.contracts import contracts
from shared.events.export import schema_of

ROOT = Path(__file__).parents[2]
CONTRACTS = "docs/contracts/events"


class Part(BaseModel):
    """Something within."""

    name: str
    size: int | None = None


class Whole(EventContract):
    """A contract with one of each."""

    type: ClassVar[str] = "backroom.bus.whole.changed.v1"
    model_config = example(name="a", kind="small", parts=[{"name": "b"}], main={"name": "c"})

    name: str
    kind: Literal["small", "large"]
    only: Literal["this"] = "this"
    weight: int = 0
    note: str | None = None
    parts: list[Part]
    main: Part
    labels: dict[str, int] | None = None


OLD = schema_of(Whole)


def changed(change: Callable[[dict[str, Any]], object]) -> list[str]:
    """Return what the checker says of a change to the schema."""
    new = copy.deepcopy(OLD)
    change(new)
    assert new != OLD, "the change changed nothing"
    return breaking_changes(OLD, new)


def properties(schema: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = schema["properties"]
    return found


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda s: properties(s).pop("name"), "/name: was removed"),
        (lambda s: properties(s).pop("weight"), "/weight: was removed"),
        (lambda s: properties(s)["name"].update(type="integer"), "/name: type was 'string', is 'integer'"),
        (lambda s: properties(s)["name"].update(format="uuid"), "/name: format"),
        (lambda s: properties(s)["name"].update(maxLength=3), "/name: maxLength"),
        (lambda s: s["required"].append("weight"), "/weight: is required now"),
        (
            lambda s: (properties(s).update(new={"type": "string"}), s["required"].append("new")),
            "/new: is required now",
        ),
        (lambda s: s["required"].remove("name"), "/name: may be missing now"),
        (lambda s: properties(s)["kind"].update(enum=["small"]), "/kind: can no longer be 'large'"),
        (lambda s: properties(s)["kind"].pop("enum"), "/kind: was 'small' or 'large', is anything"),
        (lambda s: properties(s)["weight"].update(enum=[1, 2]), "/weight: was anything, is 1 or 2"),
        (lambda s: properties(s)["only"].update(const="that"), "/only: can no longer be 'this'"),
        (lambda s: properties(s)["note"]["anyOf"].pop(), "/note: what it may be changed"),
        (lambda s: properties(s)["note"]["anyOf"][0].update(type="integer"), "/note: type"),
        (lambda s: properties(s).update(name={"anyOf": [{"type": "string"}, {"type": "null"}]}), "/name"),
        (lambda s: properties(s)["parts"].update(items={"type": "string"}), "/parts/*"),
        (lambda s: s["$defs"]["Part"]["properties"].pop("size"), "/parts/*/size: was removed"),
        (lambda s: s["$defs"]["Part"]["required"].append("size"), "/main/size: is required now"),
        (lambda s: properties(s)["labels"]["anyOf"][0]["additionalProperties"].update(type="string"), "/labels/*"),
        (lambda s: s.update(additionalProperties=False), "/*"),
    ],
)
def test_what_breaks_readers_is_found(change: Callable[[dict[str, Any]], object], where: str) -> None:
    found = changed(change)
    assert any(problem.startswith(where) for problem in found), found


@pytest.mark.parametrize(
    "change",
    [
        lambda s: properties(s).update(new={"type": "string", "default": ""}),
        lambda s: s["$defs"]["Part"]["properties"].update(new={"type": "string"}),
        lambda s: properties(s)["kind"].update(enum=["large", "small", "huge"]),
        lambda s: (properties(s)["only"].pop("const"), properties(s)["only"].update(enum=["this", "that"])),
        lambda s: properties(s)["name"].update(title="Its name", description="What people call it."),
        lambda s: properties(s)["weight"].update(default=1),
        lambda s: s.update(description="Otherwise told."),
        lambda s: (
            s["$defs"].update(Piece=s["$defs"].pop("Part")),
            properties(s)["parts"]["items"].update({"$ref": "#/$defs/Piece"}),
            properties(s)["main"].update({"$ref": "#/$defs/Piece"}),
        ),
    ],
)
def test_what_breaks_nobody_is_allowed(change: Callable[[dict[str, Any]], object]) -> None:
    assert changed(change) == []


def test_a_contract_agrees_with_itself() -> None:
    for declared in contracts().values():
        assert breaking_changes(schema_of(declared), schema_of(declared)) == []


# -- against what was published ----------------------------------------------------------------------------


# A skip on a laptop; in CI, where nobody looks at skips, a failure.
missing = pytest.fail if os.environ.get("CI") else pytest.skip


def git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True)
    if done.returncode:
        missing(f"the history is not here: {done.stderr.strip()[:200]}")
    return done.stdout


def test_no_version_of_a_contract_ever_broke_its_readers() -> None:
    """Today's schemas against every schema that was ever checked in for the same type.

    Unless it was withdrawn meanwhile, its file removed in a commit of its own.
    """
    if shutil.which("git") is None:
        missing("there is no git")
    known = contracts()
    log = git("log", "--format=commit %H", "--name-status", "--no-renames", "--", CONTRACTS)
    problems, commit, withdrawn = [], "", set()
    for line in log.splitlines():
        if line.startswith("commit "):
            commit = line.removeprefix("commit ")
            continue
        status, _, path = line.partition("\t")
        name = path.removeprefix(f"{CONTRACTS}/").removesuffix(".json")
        if name not in known or name in withdrawn:
            continue
        if status == "D":
            # Going back in time: what was there before it was withdrawn binds nobody.
            withdrawn.add(name)
            continue
        old = json.loads(git("show", f"{commit}:{path}"))
        changes = breaking_changes(old, schema_of(known[name]))
        problems += [f"{name} {change} (since {commit[:10]})" for change in changes]
    assert problems == []
