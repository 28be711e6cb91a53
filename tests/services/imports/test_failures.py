"""People are told about every failure, in full and in their own words."""

from __future__ import annotations

import ast
import re
import string
from dataclasses import asdict
from pathlib import Path

import pytest

from services.imports import service as definition
from services.imports.failures import FAILURES
from services.imports.service import service
from shared.jobs.failures import COMMON

PACKAGE = Path(definition.__file__).parent

FORBIDDEN = re.compile(
    r"exception|traceback|null|none\b|timeout|timed out|http|json|api\b|token|webhook|transaction|server error|"
    r"payload|retry-after|\b[45]\d\d\b|_",
    re.IGNORECASE,
)


CLIENT = {
    "answer_too_large",
    "encoding_refused",
    "invalid_request",
    "url_not_allowed",
    "url_host_unknown",
    "url_timeout",
}
"""Codes of shared.outbound's client, which any call to an ERP may raise."""


def raised_codes() -> set[str]:
    """Codes with which a job gives up, those of a file that cannot be read, and those that providers give errors."""
    found: set[str] = set()
    for node in (node for file in PACKAGE.rglob("*.py") for node in ast.walk(ast.parse(file.read_text()))):
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name in ("GiveUp", "Retry", "Unknown", "FileProblem"):
                found.add(str(node.args[0].value))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("Refused", "Unavailable"):
            found |= {
                str(keyword.value.value)
                for keyword in node.keywords
                if keyword.arg == "code" and isinstance(keyword.value, ast.Constant)
            }
    return found | CLIENT


def test_every_code_has_its_sentences() -> None:
    raised = raised_codes()
    assert len(raised) > 8, "the search finds what there is"
    assert not raised - set(service.failures())


def test_no_sentences_are_left_over() -> None:
    assert not set(FAILURES) - raised_codes() - set(COMMON)


@pytest.mark.parametrize("code", sorted(FAILURES))
def test_sentences_are_for_people(code: str) -> None:
    for part, sentence in asdict(FAILURES[code]).items():
        words = re.sub(r"\{\w+\}", "x", sentence)
        assert words.strip().endswith("."), part
        assert 1 <= len(re.findall(r"[.!?](?:\s|$)", words)) <= 2, part
        assert not FORBIDDEN.search(words), (part, words)
        fields = {field for _, field, _, _ in string.Formatter().parse(sentence) if field}
        assert fields <= {"row", "limit", "encoding", "offset"}, part
