"""What the operations of imports share: the api itself, who may, and its own problems."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from services.imports.failures import FAILURES
from shared.jobs import FailureText, explain
from shared.web import Api, Conflict, Unprocessable

__all__ = ["IMPORTERS", "ImportNotEnded", "MappingDoesNotFit", "api", "said"]

api = Api("imports", description="Uploads, imports and the catalog of samples.")

IMPORTERS: Final = ("owner", "manager")
"""Who uploads files and imports them."""


class MappingDoesNotFit(Unprocessable):
    """The columns of the file were not chosen as they must be; `errors` says which and why."""

    slug, title = "mapping-does-not-fit", "The chosen columns do not fit the file"


class ImportNotEnded(Conflict):
    """What fails is known when the import has ended. Repeat it then."""

    slug, title, retryable = "import-not-ended", "The import is still under way", True


def said(code: str, fields: Mapping[str, Any]) -> FailureText:
    """Return what people are told about a failure, here as in its job."""
    return explain(FAILURES, code, fields)
