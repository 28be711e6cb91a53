"""Every link in every page leads somewhere, and no page knows the machine on which it was written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.docs.follow import ROOT

_SKIPPED = {".venv", ".git", "node_modules", ".pytest_cache", ".backroom", "build", "dist"}
_LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
_REFERENCE = re.compile(r"^\[[^\]]+\]:\s+(\S+)", re.MULTILINE)
_CODE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`[^`\n]*`")
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)
_ANCHOR = re.compile(r"<a\s+(?:id|name)=\"([^\"]+)\"")
_MACHINE = re.compile(r"(?<![\w.<>:/-])/(?:home|root|work|Users|private|mnt|opt|tmp)/[\w.-]+|[A-Za-z]:\\Users\\")


def _pages() -> list[Path]:
    return sorted(
        path for path in ROOT.rglob("*.md") if not any(part in _SKIPPED for part in path.relative_to(ROOT).parts)
    )


def _links(text: str) -> Iterator[str]:
    prose = _SPAN.sub("", _CODE.sub("", text))
    yield from _LINK.findall(prose)
    yield from _REFERENCE.findall(prose)


@lru_cache(maxsize=200)
def _anchors(page: Path) -> frozenset[str]:
    """The anchors of a page's headings, as GitHub and most others make them."""
    text = page.read_text(encoding="utf-8")
    found: dict[str, int] = {}
    anchors = set(_ANCHOR.findall(text))
    for heading in _HEADING.findall(_CODE.sub("", text)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        number = found.get(slug, 0)
        found[slug] = number + 1
        anchors.add(slug if number == 0 else f"{slug}-{number}")
    return frozenset(anchors)


def problems(page: Path) -> list[str]:
    """Say of each link of a page that leads nowhere why it does."""
    found = []
    for link in _links(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z][a-z0-9+.-]*:", link):
            continue  # another site; whether that is up is no concern of a test
        path, _, anchor = link.partition("#")
        target = (page.parent / unquote(path)).resolve() if path else page
        if path.startswith("/"):
            found.append(f"{link}: not relative")
        elif not target.exists():
            found.append(f"{link}: there is no such file")
        elif anchor and target.suffix == ".md" and anchor not in _anchors(target):
            found.append(f"{link}: there is no such heading")
    return found


@pytest.mark.parametrize("page", _pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert problems(page) == []


@pytest.mark.parametrize("page", _pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_no_page_names_a_directory_of_somebodys_machine(page: Path) -> None:
    assert _MACHINE.findall(page.read_text(encoding="utf-8")) == []


def test_broken_links_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "there.md").write_text("# One thing\n\n## One thing\n\n### `code` & more\n")
    page = tmp_path / "page.md"
    page.write_text(
        "# Here\n[a](there.md) [b](there.md#one-thing-1) [c](#here) [d](https://example.com/x)\n[e](there.md#code--more)\n"
        "[f](gone.md) [g](there.md#gone) [h](#gone) ![i](gone.png) [j](/there.md) `[k](gone.md)`\n"
        "```\n[l](gone.md)\n```\n[m]: gone.md\n"
    )
    names = [problem.split(":")[0] for problem in problems(page)]
    assert names == ["gone.md", "there.md#gone", "#gone", "gone.png", "/there.md", "gone.md"]


@pytest.mark.parametrize("text", ["see /home/ada/backroom", "cd /root/x", "(/tmp/demo.png)"])
def test_paths_of_machines_are_noticed(text: str) -> None:
    assert _MACHINE.findall(text)


@pytest.mark.parametrize("text", ["`file:///var/lib/backroom/blobs`", "https://example.com/home/page", "tests/tmp/x"])
def test_other_paths_are_none(text: str) -> None:
    assert not _MACHINE.findall(text)
