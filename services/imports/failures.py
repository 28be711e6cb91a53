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
_PAGES_STAY: Final = "What was taken over before stays; the rest is still to come."
_NEXT_HOUR: Final = "We ask again within the hour."
_VENDOR: Final = "Show the log of the connection to whoever looks after the ERP."
_MEND: Final = "Mend the file and upload it again."

WAITING: Final[Mapping[str, str]] = {
    "host_busy": "Other pictures of the same website are being fetched; this one follows.",
    "picture_not_due": "The website did not give us the picture; we try again a little later.",
    "erp_changed": "The connection to the ERP was changed meanwhile; it is asked again.",
    "provider_rate_limited": "The ERP wants us to come back a little later.",
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
    "provider_not_authorized": FailureText(
        what="The ERP does not accept our access.",
        meaning="Nothing more is taken over from it.",
        doing="We do not ask it again until its connection has a new key.",
        action="Get a new access key in the ERP and enter it in the connection.",
    ),
    "provider_unavailable": FailureText(
        what="The ERP did not answer as it should.",
        meaning=_PAGES_STAY,
        doing="We tried several times over ten minutes, and ask again within the hour.",
        action="Check whether the ERP is up, then press Retry.",
    ),
    "provider_refused": FailureText(
        what="The ERP refused our question.",
        meaning=_PAGES_STAY,
        doing=_NEXT_HOUR,
        action=_VENDOR,
    ),
    "erp_answer_malformed": FailureText(
        what="The answer of the ERP is not as it was agreed.",
        meaning=_PAGES_STAY,
        doing="We kept the beginning of the answer in the log, and ask again within the hour.",
        action=_VENDOR,
    ),
    "erp_redirects": FailureText(
        what="The ERP wants to send us to another address.",
        meaning="We do not go there, since our access is for the address that you entered.",
        doing=_NEXT_HOUR,
        action="Enter the new address, with its access key, in the connection.",
    ),
    "erp_pages_repeat": FailureText(
        what="The ERP leads us in a circle: the next page is one that we had before.",
        meaning="What was on these pages is taken over; the rest cannot be reached.",
        doing="We begin anew within the hour.",
        action=_VENDOR,
    ),
    "erp_too_many_pages": FailureText(
        what="The ERP had not come to an end after {limit} pages.",
        meaning="What was on these pages is taken over; the rest was left out.",
        doing="We begin anew within the hour.",
        action=_VENDOR,
    ),
    "answer_too_large": FailureText(
        what="The ERP sent far more than a page may have.",
        meaning=_PAGES_STAY,
        doing=_NEXT_HOUR,
        action=_VENDOR,
    ),
    "encoding_refused": FailureText(
        what="The ERP sent a compressed answer, although we want it plain.",
        meaning=_PAGES_STAY,
        doing=_NEXT_HOUR,
        action=_VENDOR,
    ),
    "invalid_request": FailureText(
        what="No question can be made for the address of the ERP.",
        meaning="Nothing is taken over from it.",
        doing=_NEXT_HOUR,
        action="Check the address in the connection.",
    ),
    "url_not_allowed": FailureText(
        what="The address of the ERP does not lead to a server on the internet.",
        meaning="Nothing is taken over from it, and it was not asked.",
        doing=_NEXT_HOUR,
        action="Enter an address in the connection that can be reached from everywhere.",
    ),
    "url_host_unknown": FailureText(
        what="Nobody knows the address of the ERP.",
        meaning=_PAGES_STAY,
        doing="We tried several times over ten minutes, and ask again within the hour.",
        action="Check the address in the connection.",
    ),
    "url_timeout": FailureText(
        what="The address of the ERP could not be looked up in time.",
        meaning=_PAGES_STAY,
        doing="We tried several times over ten minutes, and ask again within the hour.",
        action="Check the address in the connection, then press Retry.",
    ),
}
