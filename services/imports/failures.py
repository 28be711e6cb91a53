"""What people are told when a job of imports fails: what happened, what it means, what we do, what they can do.

A test keeps this complete. What is wrong with single rows is in `reading.texts`, and is no failure of a job.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from shared.jobs import FailureText

__all__ = ["FAILURES", "WAITING"]

_NOTHING: Final = "Nothing was imported from it."
_STOPPED: Final = "We have stopped, since reading it again would end the same way."
_MEND: Final = "Mend the file and upload it again."

WAITING: Final[Mapping[str, str]] = {
    "host_busy": "Other pictures of the same website are being fetched; this one follows.",
    "picture_not_due": "The website did not give us the picture; we try again a little later.",
}
"""Why a job of ours has put itself off, for whoever asks."""

FAILURES: Final[Mapping[str, FailureText]] = {
    "file_gone": FailureText(
        what="The uploaded file is no longer there.",
        meaning="The rest of it could not be imported. What was imported before stays.",
        doing="We keep uploaded files for a limited time only.",
        action="Upload the file again and start a new import; what exists already is skipped.",
    ),
    "file_empty": FailureText(
        what="The file is empty.",
        meaning=_NOTHING,
        doing=_STOPPED,
        action="Check the file and upload it again.",
    ),
    "file_header_missing": FailureText(
        what="The file has no line with the names of its columns.",
        meaning=_NOTHING,
        doing=_STOPPED,
        action="Put the names of the columns into the first line and upload the file again.",
    ),
    "file_encoding": FailureText(
        what="The file is not written in the encoding that was chosen ({encoding}); it breaks at byte {offset}.",
        meaning=_NOTHING,
        doing=_STOPPED,
        action="Choose another encoding, or save the file as UTF-8 and upload it again.",
    ),
    "file_nul": FailureText(
        what="Row {row} of the file holds a character that no text may hold, so it is probably no table.",
        meaning=_NOTHING,
        doing=_STOPPED,
        action="Save the table as CSV in UTF-8 and upload it again.",
    ),
    "file_quote_open": FailureText(
        what="A quotation mark that opens in row {row} is never closed.",
        meaning=_NOTHING,
        doing=_STOPPED,
        action=_MEND,
    ),
    "file_too_many_rows": FailureText(
        what="The file has more rows than the {limit} that an import may have.",
        meaning=_NOTHING,
        doing=_STOPPED,
        action="Split the file into several and upload each.",
    ),
    "file_too_many_columns": FailureText(
        what="The file has more columns than the {limit} that an import may have.",
        meaning=_NOTHING,
        doing=_STOPPED,
        action="Leave away the columns that you do not need and upload the file again.",
    ),
    "file_field_too_long": FailureText(
        what="A cell in row {row} of the file is longer than a cell may be.",
        meaning=_NOTHING,
        doing=_STOPPED,
        action=_MEND,
    ),
    "mapping_does_not_fit": FailureText(
        what="The file does not have the columns that were chosen for it.",
        meaning=_NOTHING,
        doing=_STOPPED,
        action="Start the import again and choose which column is which.",
    ),
    "picture_not_looked_at": FailureText(
        what="We fetched the picture, but could not look at it.",
        meaning="The sample goes without it for now. Nothing else is affected.",
        doing="We recorded the details for our engineers, and fetch the picture again a few minutes later.",
        action="Wait for the next try. If the picture is still missing then, send us the reference of this job.",
    ),
}
