"""Where the files of pictures lie in the store: by tenant and content, so that the same bytes are kept once."""

from __future__ import annotations

from typing import Final

from shared.blobs import tenant_part

__all__ = ["THUMBNAIL_MEDIA_TYPE", "original_key", "thumbnail_key"]

THUMBNAIL_MEDIA_TYPE: Final = "image/webp"


def original_key(tenant_id: str, sha256: str) -> str:
    """Return the key of a picture as it came."""
    return f"imports/{tenant_part(tenant_id)}/images/{sha256}"


def thumbnail_key(tenant_id: str, sha256: str) -> str:
    """Return the key of the thumbnail of the picture with this digest."""
    return f"imports/{tenant_part(tenant_id)}/thumbnails/{sha256}"
