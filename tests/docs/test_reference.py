"""Pages that are made from the code are as the code is, and pages about files agree with them."""

from __future__ import annotations

import re
import tomllib

import pytest

from shared.runtime import reference
from tests.docs.follow import ROOT


@pytest.mark.parametrize("name", ["docs/reference/settings.md", "docs/reference/jobs.md"])
def test_generated_pages_are_fresh(name: str) -> None:
    written = (ROOT / name).read_text(encoding="utf-8")
    assert reference.pages()[name] == written, f"{name} is out of date: run python -m shared.runtime.reference"


def _names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=!~\[ ]", requirement)[0] for requirement in requirements}


def test_every_dependency_is_explained_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = _names(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        wanted |= _names(extra)
    page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]+) \| ([^|]+) \|$", page, re.MULTILINE)
    explained = [name for name, _, _ in rows]
    assert sorted(explained) == sorted(wanted)
    assert all(reason.strip() and license.strip() for _, reason, license in rows)


def test_both_pages_draw_the_same_states() -> None:
    """The reference is the source, and its own test walks its arrows; the architecture shows a copy."""
    drawn = []
    for name in ("docs/reference/job-states.md", "docs/architecture.md"):
        found = re.search(r"^```mermaid\nstateDiagram-v2\n(.*?)^```$", (ROOT / name).read_text("utf-8"), re.M | re.S)
        assert found is not None
        drawn.append(found[1])
    assert drawn[0] == drawn[1], "copy the diagram of docs/reference/job-states.md into docs/architecture.md"
