"""Pictures of strangers: from bytes to something that is safe to show.

    media_type = sniff(head)                            # by its first bytes, whatever anybody claims
    prepared = prepare(file, max_pixels=50_000_000)     # decoded whole, in a process of its own

What passes is a JPEG, PNG, GIF or WEBP that a decoder could read to its end, with bounded pixels, of which there is
a small thumbnail that we made ourselves. What does not raises `NotAPicture` with a code that `TEXTS` puts into
words. No file takes this process down, holds it up or makes it grow: `child` says how.

The original is kept as it came, so that a file which is a picture and something else besides is still both: whoever
serves it does so under the media type found here, with `X-Content-Type-Options: nosniff`.
"""

from services.imports.pictures.child import DecoderTrouble
from services.imports.pictures.keys import THUMBNAIL_MEDIA_TYPE, original_key, thumbnail_key
from services.imports.pictures.picture import Picture, Prepared, examine, prepare, thumbnail
from services.imports.pictures.signatures import sniff
from services.imports.pictures.texts import TEXTS, NotAPicture

__all__ = [
    "TEXTS",
    "THUMBNAIL_MEDIA_TYPE",
    "DecoderTrouble",
    "NotAPicture",
    "Picture",
    "Prepared",
    "examine",
    "original_key",
    "prepare",
    "sniff",
    "thumbnail",
    "thumbnail_key",
]
