"""People are told about every failure, in full and in their own words."""

from __future__ import annotations

import ast
import re
import string
from dataclasses import asdict
from pathlib import Path

import pytest

from services.notifications import failures
from services.notifications.failures import FAILURES
from services.notifications.service import service
from services.notifications.settings import settings

PACKAGE = Path(failures.__file__).parent

FORBIDDEN = re.compile(
    r"exception|traceback|null|none\b|timeout|timed out|http|json|api\b|smtp|token|webhook|transaction|server error|"
    r"payload|\b[45]\d\d\b|_",
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
"""Codes of shared.outbound's client, which any call to a language model may raise."""


def raised_codes() -> set[str]:
    """Codes in the source: of GiveUp, Retry and Unknown, and those that errors of providers and of addresses have."""
    found: set[str] = set()
    for node in (node for file in PACKAGE.rglob("*.py") for node in ast.walk(ast.parse(file.read_text()))):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        first = node.args[0] if node.args else None
        if name in ("GiveUp", "Retry", "Unknown", "BadAddress") and isinstance(first, ast.Constant):
            found.add(str(first.value))
        for keyword in node.keywords:
            if keyword.arg == "code" and isinstance(keyword.value, ast.Constant):
                found.add(str(keyword.value.value))
    return found | CLIENT


def test_every_code_has_its_sentences() -> None:
    raised = raised_codes()
    assert {"webhook_refused", "rule_not_possible", "model_quota"} <= raised, "the search finds what there is"
    assert {"mail_recipient_refused", "mail_unreadable", "address_invalid"} <= raised, "the search finds what there is"
    assert not raised - set(service.failures())


def test_no_sentences_are_left_over() -> None:
    assert set(FAILURES) <= raised_codes()


@pytest.mark.parametrize("code", sorted(FAILURES))
def test_sentences_are_for_people(code: str) -> None:
    for part, sentence in asdict(FAILURES[code]).items():
        words = re.sub(r"\{\w+\}", "x", sentence)
        assert [field for _, field, _, _ in string.Formatter().parse(sentence) if field] == [], part
        assert words.strip().endswith("."), part
        assert 1 <= len(re.findall(r"[.!?](?:\s|$)", words)) <= 2, part
        assert not FORBIDDEN.search(words), (part, words)


def test_settings_are_described() -> None:
    assert all(field.description for field in type(settings()).model_fields.values())
