"""Ids: UUIDv7 (RFC 9562), which sort by their time of birth, so that indexes grow at one end.

PostgreSQL makes them itself only from version 18 on, so they are made here.
"""

from __future__ import annotations

import uuid
from datetime import datetime

import uuid_utils

__all__ = ["new_id", "uuid7_floor"]


def new_id() -> uuid.UUID:
    """Return a new UUIDv7."""
    return uuid.UUID(int=uuid_utils.uuid7().int)


def uuid7_floor(moment: datetime) -> uuid.UUID:
    """Return the smallest UUIDv7 of that moment, to select by age over the primary key."""
    milliseconds = int(moment.timestamp() * 1000)
    return uuid.UUID(int=(milliseconds << 80) | (0x7 << 76) | (0x2 << 62))
