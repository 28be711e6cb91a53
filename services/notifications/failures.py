"""What people are told when a job of notifications fails: what happened, what it means, what we do, what they do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from shared.jobs import FailureText

__all__ = ["FAILURES"]

FAILURES: Final[Mapping[str, FailureText]] = {}
