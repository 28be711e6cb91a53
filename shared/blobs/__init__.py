"""Files of tenants: label files, uploads, exports. Kept behind one small interface, wherever they lie.

    store().put("shipping/acme/labels/01a2….pdf", [content])
    for chunk in store().get("shipping/acme/labels/01a2….pdf"): ...

A key is a path of plain names, `<service>/<tenant>/<kind>/<name>`; anything else is refused, so that no key
ever leads out of the store. A file is there whole or not at all. A request gives out `url_for` where the
store has addresses of its own, and reads the file only where it has none. Whoever stores the key in a row stores the
file first: a file without a row is waste that a clean-up finds, a row without its file is a lie.
"""

from shared.blobs.store import BadKey, BlobStore, NoSuchBlob, check_key, tenant_part
from shared.blobs.stores import configure, open_store, receive, store

__all__ = [
    "BadKey",
    "BlobStore",
    "NoSuchBlob",
    "check_key",
    "configure",
    "open_store",
    "receive",
    "store",
    "tenant_part",
]
