"""The program that decodes one picture from its standard input, confined; nothing of ours is imported.

    python -I -S decode.py <directory of packages> <media type> <most pixels>

It answers with a line of JSON, {width, height} followed by the thumbnail or {code, detail}, and ends with 0. Any
other end is for its parent to judge. Pixels are counted before anything is decoded, by what the header says; a file
that lies about it is no picture. Of an animation only the first frame is decoded.
"""

from __future__ import annotations

import importlib
import io
import json
import resource
import struct
import sys
import warnings
from typing import IO, TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["main"]

BOX: Final = 256
"""Width and height into which a thumbnail fits, in pixels."""

CPU_SECONDS: Final = 20
BASE_BYTES: Final = 96 << 20
"""Addresses for Python and Pillow (28 MiB), and for the bytes of a file of the largest size; pixels apart."""
BYTES_PER_PIXEL: Final = 20
"""The hungriest is WEBP, of which 17 were measured: two canvases of its decoder, the frame, the picture."""
_ANSWER_BYTES: Final = 1 << 20
_TEXT_BYTES: Final = 4 << 20

_FORMATS: Final = {"image/jpeg": "JPEG", "image/png": "PNG", "image/gif": "GIF", "image/webp": "WEBP"}


class Refused(Exception):
    """No picture for us."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


def main(arguments: list[str]) -> int:
    """Decode; return the exit code."""
    packages, media_type, most = arguments
    sys.path.append(packages)
    _import_decoders()
    _confine(int(most))
    try:
        report, thumbnail = _decode(sys.stdin.buffer, media_type, int(most))
    except Refused as refused:
        report, thumbnail = {"code": refused.code, "detail": refused.detail}, b""
    sys.stdout.buffer.write(json.dumps(report).encode() + b"\n" + thumbnail)
    sys.stdout.buffer.flush()
    return 0


def _import_decoders() -> None:
    """Before anything is limited, so that what fails here is no picture's fault."""
    from PIL import Image, ImageFile, PngImagePlugin

    Image.preinit()
    for name in ("PIL.WebPImagePlugin", "PIL._webp"):
        importlib.import_module(name)
    # A file that ends too early is broken, and not half a picture.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    # Compressed text and colour profiles grow when they are read.
    PngImagePlugin.MAX_TEXT_CHUNK = _TEXT_BYTES
    PngImagePlugin.MAX_TEXT_MEMORY = 2 * _TEXT_BYTES


def _confine(most: int) -> None:
    """Leave this process seconds of computing, so much memory, no files but small ones, no children."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_ANSWER_BYTES, _ANSWER_BYTES))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_memory(0), _memory(most)))


def _memory(pixels: int) -> int:
    return BASE_BYTES + BYTES_PER_PIXEL * pixels


def _decode(file: IO[bytes], media_type: str, most: int) -> tuple[dict[str, Any], bytes]:
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = most
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    try:
        if media_type == "image/webp":
            # Its decoder makes room for the canvas as soon as it is opened.
            _check(_webp_size(file.read(30)), most)
            file.seek(0)
        image = Image.open(file, formats=[_FORMATS[media_type]])
        size = image.size
        _check(size, most)
        return {"width": size[0], "height": size[1]}, _thumbnail(image)
    except Refused:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Refused("image_too_many_pixels", str(error)[:200]) from None
    except (Exception, RecursionError) as error:
        # Decoders raise whatever came to their mind, MemoryError included: the picture needs more than it says.
        raise Refused("image_broken", f"{type(error).__name__}: {error}"[:200]) from None


def _check(size: tuple[int, int], most: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise Refused("image_broken", f"{width} by {height} pixels")
    if width * height > most:
        raise Refused("image_too_many_pixels", f"{width} by {height} pixels")
    # Not more than this picture needs, by what it says of itself.
    resource.setrlimit(resource.RLIMIT_AS, (_memory(width * height), _memory(most)))


def _webp_size(head: bytes) -> tuple[int, int]:
    """Width and height by the first chunk (https://developers.google.com/speed/webp/docs/riff_container)."""
    name, rest = head[12:16], head[20:].ljust(10, b"\0")
    if name == b"VP8X":
        return 1 + int.from_bytes(rest[4:7], "little"), 1 + int.from_bytes(rest[7:10], "little")
    if name == b"VP8L":
        bits = int.from_bytes(rest[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if name == b"VP8 ":
        width, height = struct.unpack("<HH", rest[6:10])
        return width & 0x3FFF, height & 0x3FFF
    raise Refused("image_broken", f"a WEBP that begins with {name!r}")


def _thumbnail(image: Image) -> bytes:
    """Decode the picture to its end, and return it small, as a WEBP with nothing in it but pixels."""
    from PIL import Image as pillow

    # A JPEG is read whole, but made small while it is.
    image.draft("RGB", (2 * BOX, 2 * BOX))
    image.load()
    small = _plain(image)
    small.thumbnail((BOX, BOX), pillow.Resampling.LANCZOS, reducing_gap=3.0)
    small = _upright(small, image)
    small.info = {}
    out = io.BytesIO()
    small.save(out, "WEBP", quality=80)
    return out.getvalue()


def _plain(image: Image) -> Image:
    """The picture in a mode that can be made small and saved: RGB, or RGBA where something shows through."""
    if image.mode.startswith("I;16"):
        image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    if image.mode in ("RGB", "RGBA", "L") and "transparency" not in image.info:
        return image
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _upright(small: Image, image: Image) -> Image:
    """The thumbnail turned as its camera says, if it says so in words that can be read."""
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    try:
        turn = turns.get(image.getexif().get(0x0112, 1))
    except Exception:
        # Metadata that nobody can read is no reason to do without the picture.
        turn = None
    return small if turn is None else small.transpose(turn)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
