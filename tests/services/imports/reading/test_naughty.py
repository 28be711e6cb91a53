"""The Big List of Naughty Strings as titles: each comes through unharmed, or is refused with a clear word."""

from __future__ import annotations

import io
import json

import pytest

from services.imports.reading.batch import check_batch
from services.imports.reading.detect import ENCODINGS, Dialect
from services.imports.reading.export import neutralize, restore, write_csv
from services.imports.reading.kinds import KINDS
from services.imports.reading.table import FileProblem, batches, survey
from tests.services.imports.reading.files import DATA, PLENTY, written

NAUGHTY: list[str] = json.loads((DATA / "blns" / "blns.json").read_text("utf-8"))
HEADER = ["SKU", "Title"]


def test_the_list_is_there() -> None:
    assert len(NAUGHTY) > 400


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", [name for name in ENCODINGS if name != "cp1252"])
def test_naughty_titles(encoding: str, delimiter: str) -> None:
    dialect = Dialect(encoding, delimiter)
    clean = [text for text in NAUGHTY if "\0" not in text]
    data = written([HEADER, *([f"S{number}", text] for number, text in enumerate(clean))], dialect)
    assert survey(io.BytesIO(data), dialect, PLENTY).rows == len(clean)
    (batch,) = batches(io.BytesIO(data), dialect, size=10_000)
    checked = check_batch(KINDS["samples"], {"sku": 0, "title": 1}, HEADER, batch)
    good = [text for text in clean if text.strip() and len(text.strip()) <= 200]
    assert checked.values["title"] == [text.strip() for text in good]
    assert len(good) > 400
    wrong = {issue.row: issue for issue in checked.issues}
    assert set(wrong) == set(checked.failed)
    for number, text in enumerate(clean, 2):
        assert wrong[number].code == ("too_long" if text.strip() else "required") if number in wrong else text in good
    assert all(issue.column == "Title" and issue.message.isprintable() for issue in checked.issues)


def test_a_naughty_title_with_nul_is_no_text() -> None:
    for text in [*(text for text in NAUGHTY if "\0" in text), "a\0b"]:
        data = written([HEADER, ["S1", "Mug"], ["S2", text]], Dialect("utf-8", ","))
        with pytest.raises(FileProblem) as caught:
            survey(io.BytesIO(data), Dialect("utf-8", ","), PLENTY)
        assert (caught.value.code, caught.value.fields) == ("file_nul", {"row": 3})


def test_naughty_titles_are_written_so_that_no_spreadsheet_runs_them() -> None:
    clean = [text for text in NAUGHTY if "\0" not in text]
    data = b"".join(write_csv(HEADER, ([f"S{number}", text] for number, text in enumerate(clean))))
    (batch,) = batches(io.BytesIO(data), Dialect("utf-8-sig", ","), size=10_000)
    titles = [row[1] for row in batch.rows]
    assert titles == [neutralize(text) for text in clean]
    assert [restore(title) for title in titles] == clean
    assert any(title.startswith(("'=", "'-")) for title in titles)
