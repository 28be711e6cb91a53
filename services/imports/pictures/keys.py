"""Where the files of pictures lie in the store: by tenant and content, so that the same bytes are kept once."""

from __future__ import annotations

import hashlib
import re
from typing import Final

__all__ = ["THUMBNAIL_MEDIA_TYPE", "original_key", "thumbnail_key"]

THUMBNAIL_MEDIA_TYPE: Final = "image/webp"

_PLAIN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def original_key(tenant_id: str, sha256: str) -> str:
    """Return the key of a picture as it came."""
    return f"imports/{_directory(tenant_id)}/images/{sha256}"


def thumbnail_key(tenant_id: str, sha256: str) -> str:
    """Return the key of the thumbnail of the picture with this digest."""
    return f"imports/{_directory(tenant_id)}/thumbnails/{sha256}"


def _directory(tenant_id: str) -> str:
    """Return the tenant's name in keys; an id that is no plain name goes by its hash."""
    return tenant_id if _PLAIN.fullmatch(tenant_id) else hashlib.sha256(tenant_id.encode()).hexdigest()
