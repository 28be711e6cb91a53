"""People are told about every failure, in full and in their own words; settings are described."""

from __future__ import annotations

import ast
import re
from dataclasses import asdict
from pathlib import Path

import pytest

import services.workspaces
from services.workspaces.failures import FAILURES
from services.workspaces.service import service
from services.workspaces.settings import settings

PACKAGE = Path(services.workspaces.__file__).parent

FORBIDDEN = re.compile(
    r"exception|traceback|null|none\b|timeout|http|json|api\b|token|webhook|transaction|server error|payload|"
    r"\b[45]\d\d\b|_",
    re.IGNORECASE,
)


def raised_codes() -> set[str]:
    """The codes of GiveUp, Retry and Unknown in the source."""
    nodes = [node for file in PACKAGE.rglob("*.py") for node in ast.walk(ast.parse(file.read_text()))]
    calls = [node for node in nodes if isinstance(node, ast.Call) and node.args]
    return {
        str(call.args[0].value)
        for call in calls
        if getattr(call.func, "id", "") in ("GiveUp", "Retry", "Unknown") and isinstance(call.args[0], ast.Constant)
    }


def test_every_code_has_its_sentences() -> None:
    raised = raised_codes()
    assert raised, "the search finds what there is"
    assert raised <= set(service.failures())


@pytest.mark.parametrize("code", sorted(FAILURES))
def test_sentences_are_for_people(code: str) -> None:
    for part, sentence in asdict(FAILURES[code]).items():
        words = re.sub(r"\{\w+\}", "x", sentence)
        assert words.strip().endswith("."), part
        assert 1 <= len(re.findall(r"[.!?](?:\s|$)", words)) <= 2, part
        assert not FORBIDDEN.search(words), (part, words)


def test_settings_are_described() -> None:
    assert all(field.description for field in type(settings()).model_fields.values())
