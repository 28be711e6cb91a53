"""Every benchmark runs, in its short form, and finds figures; how large they are is not for tests to judge."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.testing.servers import PostgresServer, RabbitServer
from tests.benchmarks import __main__ as benchmarks
from tests.benchmarks import report
from tests.benchmarks.bench import Result, Row

ELSEWHERE = {"recovery", "retry_clock"}
"""Those that tests/jobs tries, and judges."""


@pytest.mark.parametrize("name", [name for name in benchmarks.NAMES if name not in ELSEWHERE])
def test_a_benchmark_finds_figures(name: str, postgres: PostgresServer, rabbitmq: RabbitServer) -> None:
    result = benchmarks.run(name, long=False)

    assert result.title
    assert result.rows
    assert all(row.what and row.figure for row in result.rows)
    assert benchmarks.text_of(name)


def test_a_section_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    """What one benchmark found anew stands beside what the others found before, and in the summary."""
    document = tmp_path / "docs" / "benchmarks.md"
    before = Result("Speed of A", [Row("speed", "1x", "at least 2x", False), Row("by the way", "7")])
    other = Result("Speed of B", [Row("speed", "3x", "at least 2x", True)])
    sections = {name: report.section(name, found, "How.", "a machine") for name, found in (("a", before), ("b", other))}
    report.write(sections, ["a", "b"], document)
    after = Result("Speed of A", [Row("speed", "4x", "at least 2x", True)], "As it was said.")

    report.write({"a": report.section("a", after, "How.", "a machine")}, ["a", "b"], document)

    text = document.read_text()
    assert "1x" not in text
    assert "| [a](#speed-of-a) | speed | 4x | at least 2x | yes |" in text
    assert "| [b](#speed-of-b) | speed | 3x | at least 2x | yes |" in text
    assert text.count("## Speed of A") == 1
    assert "As it was said." in text
