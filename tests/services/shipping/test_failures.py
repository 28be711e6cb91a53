"""People are told about every failure, in full and in their own words."""

from __future__ import annotations

import ast
import re
import string
from dataclasses import asdict
from pathlib import Path

import pytest

from services.shipping.failures import FAILURES
from services.shipping.jobs.said import in_their_words
from services.shipping.providers import shippo
from services.shipping.service import service
from services.shipping.settings import settings
from shared.jobs.failures import COMMON

PACKAGE = Path(shippo.__file__).parents[1]

NOT_ENDINGS = {"not_found_yet", "label_waiting"}
"""Codes with which a run is put off or skipped, never ended."""

FORBIDDEN = re.compile(
    r"exception|traceback|null|none\b|timeout|timed out|http|json|api\b|token|webhook|transaction|server error|"
    r"payload|retry-after|\b[45]\d\d\b|_",
    re.IGNORECASE,
)


def raised_codes() -> set[str]:
    """Codes in the source: of GiveUp, Retry and Unknown, and those that the client gives its errors."""
    found: set[str] = set()
    files = [*(PACKAGE / "jobs").glob("*.py"), *(PACKAGE / "providers").glob("*.py")]
    for node in (node for file in files for node in ast.walk(ast.parse(file.read_text()))):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        if name in ("GiveUp", "Retry", "Unknown") and node.args and isinstance(node.args[0], ast.Constant):
            found.add(str(node.args[0].value))
        for keyword in node.keywords:
            if keyword.arg == "code":
                found |= {
                    str(part.value)
                    for part in ast.walk(keyword.value)
                    if isinstance(part, ast.Constant) and isinstance(part.value, str)
                }
        # labels.fail(session, label, order, "code", …)
        if name == "fail":
            found |= {str(part.value) for part in node.args if isinstance(part, ast.Constant)}
    return found | {code for code, _ in shippo._CAUSES}


def test_every_code_has_its_sentences() -> None:
    raised = raised_codes() - NOT_ENDINGS
    assert len(raised) > 15, "the search finds what there is"
    missing = raised - set(service.failures())
    assert not missing


def test_no_sentences_are_left_over() -> None:
    left = set(FAILURES) - raised_codes() - set(COMMON)
    # Codes of shared.outbound's client, which any call may raise.
    assert left <= {"answer_too_large", "foreign_url"}


@pytest.mark.parametrize("code", sorted(FAILURES))
def test_sentences_are_for_people(code: str) -> None:
    for part, sentence in asdict(FAILURES[code]).items():
        plain = string.Formatter().parse(sentence)
        fields = {field for _, field, _, _ in plain if field}
        assert fields <= {"number", "carrier_says"}, (part, fields)
        words = re.sub(r"\{\w+\}", "x", sentence)
        assert words.strip().endswith("."), part
        assert 1 <= len(re.findall(r"[.!?](?:\s|$)", words)) <= 2 + ("carrier_says" in fields), part
        assert not FORBIDDEN.search(words), (part, words)


@pytest.mark.parametrize(
    ("detail", "said"),
    [
        ("USPS: invalid_address: The recipient's city is required.", "The recipient's city is required"),
        ("UPS: a_code: One thing.; UPS: b_code: Another thing.", "One thing; Another thing"),
        ('400: {"street1": ["too long"]}', "They gave no reason"),
        ("", "They gave no reason"),
        ("400: This address does not exist.", "This address does not exist"),
    ],
)
def test_their_words_come_without_codes(detail: str, said: str) -> None:
    assert in_their_words(detail) == said


def test_settings_are_described() -> None:
    assert all(field.description for field in type(settings()).model_fields.values())
