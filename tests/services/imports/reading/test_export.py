"""CSV for people: safe to open, and read back as it was."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.imports.reading.batch import check_batch
from services.imports.reading.detect import Dialect, detect
from services.imports.reading.export import REASON, failed_rows, neutralize, restore, write_csv
from services.imports.reading.kinds import KINDS
from services.imports.reading.mapping import propose
from services.imports.reading.table import Batch, read_header
from tests.services.imports.reading.files import read

EXCEL = Dialect("utf-8-sig", ",")

cells = st.text(
    st.sampled_from("'=+-@＝＋－＠\t\r\n 1.,\u200b\ufeff\u00a0x\"") | st.characters(codec="utf-8"), max_size=8
)
cells = cells.filter(lambda cell: "\0" not in cell)


@pytest.mark.parametrize(
    "cell",
    ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\rx", "\nx", "\tx", " =1", "\u00a0=1", "\u200b=1",
     "\ufeff=1", "＝1", "＋1+1", "－A1", "＠A1", "−A1", "=", "-", "+", "@", "-1-1", "+49-30-1234", "+1 (555) 1234",
     "-1e5", "+1\n=2", "-12.5%", "'=1", "''=1", "' =1"],
)  # fmt: skip
def test_formulas_are_disarmed(cell: str) -> None:
    assert neutralize(cell) == f"'{cell}"


@pytest.mark.parametrize(
    "cell",
    ["", "x", "1", "-12.5", "+5", "-1,234.50", "-1.234,50", "+49 30 1234", "a=1", "1+1", "a@b.de", "'", "'x", "x\t=1",
     "12:30", "2024-01-31", "(5)", "'-12.5", "'+49 30 1234"],
)  # fmt: skip
def test_what_is_harmless_stays(cell: str) -> None:
    # An apostrophe before a number is somebody's own.
    assert neutralize(cell) == (cell if not cell.startswith("'-") and not cell.startswith("'+") else f"'{cell}")
    assert restore(neutralize(cell)) == cell


@pytest.mark.parametrize("cell", ["'-12.5", "'+49 30 1234", "'x", "'", "=1"])
def test_what_was_never_added_is_not_taken_away(cell: str) -> None:
    assert restore(cell) == cell


@given(cells)
def test_what_is_done_can_be_undone(cell: str) -> None:
    safe = neutralize(cell)
    assert restore(safe) == cell
    assert safe in (cell, f"'{cell}")
    assert neutralize(neutralize(cell)).lstrip("'") == cell.lstrip("'")


@given(cells)
def test_nothing_that_begins_like_a_formula_is_left(cell: str) -> None:
    safe = neutralize(cell)
    shown = safe.strip().lstrip("\u200b\ufeff")
    if shown[:1] in tuple("=+-@＝＋－＠"):
        assert shown[0] in "+-"
        assert shown[1:].replace(" ", "").replace(",", "").replace(".", "").isdigit()
    assert safe[:1] not in ("\t", "\r", "\n")


rows_of_cells = st.lists(st.lists(cells, min_size=3, max_size=3).filter(any), max_size=6)


@given(rows_of_cells)
def test_what_is_written_is_read(rows: list[list[str]]) -> None:
    data = b"".join(write_csv(["Title", "SKU", "x"], rows))
    assert data.startswith(b"\xef\xbb\xbfTitle,SKU,x\r\n")
    assert detect(data, whole=True).encoding == "utf-8-sig"
    found = read(data, EXCEL)
    assert found == [[neutralize(cell) for cell in row] for row in rows]
    assert [[restore(cell) for cell in row] for row in found] == rows


def test_a_file_comes_in_pieces() -> None:
    parts = list(write_csv(["Title"], ([f"Sample {number}"] for number in range(50_000))))
    assert len(parts) > 5
    assert max(map(len, parts)) < 100_000
    assert len(read(b"".join(parts), EXCEL)) == 50_000


HEADER = ["Title", "Cost", "Note"]


@given(rows_of_cells)
def test_failed_rows_come_back_as_they_were(rows: list[list[str]]) -> None:
    data = b"".join(failed_rows(HEADER, ((row, ["One.", "=Two."]) for row in rows)))
    header = read_header(io.BytesIO(data), EXCEL)
    assert header == [*HEADER, REASON]
    found = read(data, EXCEL)
    assert [row[3] for row in found] == ["One. =Two."] * len(rows)
    # Their mapping is the one of the first time, and what they hold is what they held.
    mapping = {"title": 0, "custom:Cost": 1, "custom:Note": 2}
    samples = KINDS["samples"]
    before = check_batch(samples, mapping, HEADER, Batch(2, rows))
    again = check_batch(samples, mapping, header, Batch(2, found))
    assert (again.values, again.custom, again.keys) == (before.values, before.custom, before.keys)
    assert [issue.code for issue in again.issues] == [issue.code for issue in before.issues]
    # Failing again, they make the same file.
    assert b"".join(failed_rows(header, ((row, "One. =Two.") for row in found))) == data


def test_rows_that_are_too_short_or_too_long() -> None:
    data = b"".join(failed_rows(HEADER, [(["Mug"], "a"), (["Cup", "1", "n", "", "x"], ["b", "c"]), ([], "d")]))
    expected = [["Mug", "", "", "a"], ["Cup", "1", "n", "b c", "", "x"], ["", "", "", "d"]]
    assert read(data, EXCEL) == expected
    again = b"".join(failed_rows([*HEADER, REASON], [(row, row[3]) for row in expected]))
    assert again == data
    checked = check_batch(KINDS["samples"], {"title": 0}, [*HEADER, REASON], Batch(2, expected))
    assert [(issue.row, issue.code) for issue in checked.issues] == [(3, "row_too_long"), (4, "required")]


def test_a_column_of_reasons_may_be_anywhere() -> None:
    data = b"".join(failed_rows([REASON, "Title"], [(["old", "'=Mug"], "new")]))
    assert data.decode("utf-8-sig") == f"Title,{REASON}\r\n'=Mug,new\r\n"


def test_reasons_are_nobodys_field() -> None:
    for kind in KINDS.values():
        assert propose(kind, [REASON, "Reason", "reason"]) == {}


def test_headers_are_disarmed_too() -> None:
    assert b"".join(write_csv(["=1"], [])) == b"\xef\xbb\xbf'=1\r\n"
