"""Each how-to is followed, word for word, by a reader who does nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.testing.servers import PostgresServer
from tests.docs.follow import ROOT, blocks, follow

PAGES = sorted((ROOT / "docs" / "how-to").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_who_follows_the_page_gets_what_it_promises(page: Path, tmp_path: Path, postgres: PostgresServer) -> None:
    said = follow(page, tmp_path, {"BACKROOM_TEST_DATABASE_URL": postgres.url})
    assert " passed" in said


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_file_of_the_page_is_named(page: Path) -> None:
    """Code without the name of its file is code that nobody tries."""
    assert all(block.path is not None for block in blocks(page) if block.language == "python")


def test_a_page_whose_promise_is_broken_is_noticed(tmp_path: Path, postgres: PostgresServer) -> None:
    page = tmp_path / "broken.md"
    page.write_text(
        '```python title="tests/docs/test_broken.py"\ndef test_it() -> None:\n    assert sum([1, 1]) == 3\n```\n'
    )
    directory = tmp_path / "project"
    directory.mkdir()
    with pytest.raises(AssertionError, match="1 failed"):
        follow(page, directory, {"BACKROOM_TEST_DATABASE_URL": postgres.url})
