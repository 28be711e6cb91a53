"""Which of the four kinds of picture some bytes begin as."""

from __future__ import annotations

from typing import Final, Literal

__all__ = ["HEAD", "MediaType", "sniff"]

MediaType = Literal["image/jpeg", "image/png", "image/gif", "image/webp"]

HEAD: Final = 16
"""Bytes that `sniff` wants to see."""


def sniff(head: bytes) -> MediaType | None:
    """Return the media type of what begins so, None for anything but JPEG, PNG, GIF and WEBP."""
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "image/webp"
    return None
