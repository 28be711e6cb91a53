"""From what Shippo refused to a failure that people can read."""

from __future__ import annotations

import re
from typing import Any, Final

from shared.jobs import GiveUp
from shared.outbound import Refused

__all__ = ["given_up", "in_their_words"]

_CODE: Final = re.compile(r"[a-z0-9]+(?:_[a-z0-9]+)+|\d{3}")
_LONGEST: Final = 200


def given_up(error: Refused, number: str, **fields: Any) -> GiveUp:
    """Return the end of a job about order `number` that was refused; Shippo's sentence goes along."""
    return GiveUp(error.code, str(error), number=number, carrier_says=in_their_words(error.detail), **fields)


def in_their_words(detail: str) -> str:
    """Return the sentences of a refusal without sources and codes: `USPS: bad_zip: No such zip.` has one."""
    said: list[str] = []
    for part in detail.split("; "):
        words = [word for word in part.split(": ") if word and not _CODE.fullmatch(word)]
        if words and " " in words[-1] and not words[-1].startswith(("{", "[")):
            said.append(words[-1].rstrip("."))
    return ("; ".join(dict.fromkeys(said))[:_LONGEST] or "They gave no reason").rstrip(".")
