"""Every code that the reading of files gives has one sentence, and every sentence has a code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from services.imports import reading
from services.imports.reading.texts import TEXTS, sentence, shown

_GIVERS = {"FileProblem", "_Wrong", "wrong"}
"""What takes a code as its first argument."""
_ELSEWHERE = {"plan_limit_reached"}
"""Of rows too, but only the database knows."""


def _codes() -> dict[str, set[str]]:
    """The codes in the sources, each with the fields that it is given everywhere."""
    found: dict[str, set[str]] = {}

    def note(code: str, fields: set[str]) -> None:
        found[code] = found.get(code, fields) & fields

    for path in Path(str(reading.__file__)).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.Call(func=ast.Name(id=name), args=[ast.Constant(value=str(code)), *_]) if name in _GIVERS:
                    named = {keyword.arg for keyword in node.keywords if keyword.arg}
                    note(code, named | ({"field"} if name == "wrong" else set()))
                # (index, "code", {…}), as checks of columns give it.
                case ast.Tuple(elts=[_, ast.Constant(value=str(code)), ast.Dict(keys=keys)]):
                    note(code, {str(key.value) for key in keys if isinstance(key, ast.Constant)})
    found["role_owner"] = set()  # given by a table of words
    return found


def test_each_code_has_a_sentence_and_each_sentence_a_code() -> None:
    assert set(_codes()) == set(TEXTS) - _ELSEWHERE


@pytest.mark.parametrize("code", sorted(TEXTS))
def test_sentences(code: str) -> None:
    given = _codes().get(code, set())
    assert set(re.findall(r"\{(\w+)\}", TEXTS[code])) <= given
    text = sentence(code, **dict.fromkeys(given, "x"))
    assert re.fullmatch(r"[A-Z“T].*[\w.”]\.", text)
    assert text.isprintable()
    assert len(text) < 200
    # What to do comes after what is wrong.
    assert "; " in text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("abc", "abc"),
        ("x" * 60, "x" * 60),
        ("x" * 61, "x" * 59 + "…"),
        (" a \n b\t", "a b"),
        ("a\x00\u202eb\ud800", "a\ufffd\ufffdb\ufffd"),
        ("{code}", "{code}"),
        (" " * 300 + "x", "…"),
        (1234567, "1,234,567"),
        (None, "None"),
    ],
)
def test_values_are_shown_on_one_short_line(value: object, expected: str) -> None:
    assert shown(value) == expected


def test_a_code_without_a_sentence() -> None:
    with pytest.raises(KeyError):
        sentence("nothing")
