"""Doing what a page of documentation says: its files are written, and its tests are run.

A page shows whole files in fenced blocks that name them:

    ```python title="services/greetings/jobs.py"

With `add` behind the title a block goes to the end of a file that is there already, and its imports to
those at the file's top. Among the files are tests, which the reader is told to write; they check what the
page promises. A page may stand on another: `<!-- follows: add-a-service.md -->` has that one's files
written first.

Everything happens in a copy of the project that consists of links, so that nothing of the page is left in
the project itself, and the page's tests run in a process of their own.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ROOT", "Block", "blocks", "follow", "prerequisites"]

ROOT = Path(__file__).parents[2]

_FENCE = re.compile(r"^```(?P<language>\w+)(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_TITLE = re.compile(r'title="(?P<path>[^"]+)"(?P<add> add)?')
_FOLLOWS = re.compile(r"<!-- follows: (?P<page>\S+) -->")
_NOT_LINKED = {".git", ".venv", ".pytest_cache", ".ruff_cache", ".mypy_cache", ".hypothesis", ".backroom"}


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page; `path` is the file that it shows, None where it shows none."""

    language: str
    text: str
    path: str | None = None
    add: bool = False


def blocks(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page, in order."""
    for fence in _FENCE.finditer(page.read_text(encoding="utf-8")):
        title = _TITLE.search(fence["info"])
        yield Block(fence["language"], fence["text"], title and title["path"], bool(title and title["add"]))


def prerequisites(page: Path) -> list[Path]:
    """Return the pages that a reader of this one has followed before, the first one first."""
    found: list[Path] = []
    for follows in _FOLLOWS.finditer(page.read_text(encoding="utf-8")):
        before = page.parent / follows["page"]
        found += [one for one in (*prerequisites(before), before) if one not in found]
    return found


def follow(page: Path, directory: Path, environment: dict[str, str]) -> str:
    """Follow a page in an empty directory; return what its tests printed. Raises AssertionError.

    `environment` is what its tests need on top of ours, such as where PostgreSQL is.
    """
    for entry in ROOT.iterdir():
        if entry.name not in _NOT_LINKED:
            (directory / entry.name).symlink_to(entry)
    for before in prerequisites(page):
        _write(before, directory)
    written = _write(page, directory)
    python = sorted({path for path in written if path.endswith(".py")})
    added = sorted({block.path for block in blocks(page) if block.path is not None and block.add})
    if added:
        # As `make format` does for whoever adds imports at the top.
        _run(directory, ["ruff", "check", "--quiet", "--fix", "--select", "I", *added], environment)
    tests = [path for path in python if Path(path).name.startswith("test_")]
    assert tests, f"{page.name} shows no test, so nothing checks what it says"
    _run(directory, ["ruff", "check", "--quiet", *python], environment)
    _run(directory, ["ruff", "format", "--quiet", "--diff", *python], environment)
    # Each on its own: no shuffling and no plugins that the reader did not ask for.
    return _run(directory, ["pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", *tests], environment)


def _write(page: Path, directory: Path) -> list[str]:
    written = []
    for block in blocks(page):
        if block.path is None:
            continue
        _unlink_way(directory, Path(block.path))
        path = directory / block.path
        text = _added(path.read_text(encoding="utf-8"), block.text) if block.add else block.text
        path.unlink(missing_ok=True)
        path.write_text(text, encoding="utf-8")
        written.append(block.path)
    return written


def _added(before: str, block: str) -> str:
    """Return a file's text with a block at its end, and the imports of the block at the top."""
    imports = [line for line in block.splitlines() if line.startswith(("from ", "import "))]
    rest = "\n".join(line for line in block.splitlines() if line not in imports).strip("\n")
    first = re.search(r"^(from|import) ", before, re.MULTILINE)
    if imports and first:
        before = before[: first.start()] + "\n".join(imports) + "\n" + before[first.start() :]
    return f"{before.rstrip()}\n\n\n{rest}\n"


def _unlink_way(directory: Path, path: Path) -> None:
    """Make every directory on the way to a file a real one, with links to what the linked one holds."""
    here = directory
    for name in path.parent.parts:
        here = here / name
        if here.is_symlink():
            there = here.resolve()
            here.unlink()
            here.mkdir()
            for entry in there.iterdir():
                if entry.name != "__pycache__":
                    (here / entry.name).symlink_to(entry)
        here.mkdir(exist_ok=True)


def _run(directory: Path, module_and_arguments: list[str], environment: dict[str, str]) -> str:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "BACKROOM_"))}
    done = subprocess.run(
        [sys.executable, "-m", *module_and_arguments],
        cwd=directory,
        env={**inherited, "PYTHONPATH": str(directory), **environment},
        capture_output=True,
        text=True,
        timeout=110,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, f"{' '.join(module_and_arguments)} ended {done.returncode}:\n{said}"
    return said
