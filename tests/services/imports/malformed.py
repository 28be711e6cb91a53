"""Pictures that are none: those of PngSuite's kind that must fail, bombs, lies and mixtures."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def encoded(kind: str, mode: str = "RGB", size: tuple[int, int] = (60, 40), **options: Any) -> bytes:
    """A good picture with something on it."""
    noise = Image.effect_noise(size, 80).convert(mode)
    out = io.BytesIO()
    noise.save(out, kind, **options)
    return out.getvalue()


def chunk(name: bytes, data: bytes, *, crc: int | None = None) -> bytes:
    return (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data) if crc is None else crc)
    )


def header(width: int = 8, height: int = 8, depth: int = 8, colour: int = 0, *, crc: int | None = None) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0), crc=crc)


PIXELS = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + bytes(range(8)) for _ in range(8))))
END = chunk(b"IEND", b"")
GOOD = SIGNATURE + header() + PIXELS + END

PNG_SUITE: dict[str, bytes] = {
    # What PngSuite (http://www.schaik.com/pngsuite) says of its corrupted files, done to a file of our own. The one of
    # whose pixels only the checksum is wrong is for a decoder to judge: they have another one within.
    "xs1n0g01, first byte of the signature": b"\x88" + GOOD[1:],
    "xs2n0g01, second byte of the signature": GOOD[:1] + b"Q" + GOOD[2:],
    "xs4n0g01, fourth byte of the signature": GOOD[:3] + b"H" + GOOD[4:],
    "xs7n0g01, seventh byte of the signature": GOOD[:6] + b"\x1b" + GOOD[7:],
    "xcrn0g04, carriage returns added": GOOD.replace(b"\n", b"\r\n"),
    "xlfn0g04, line feeds for returns": GOOD.replace(b"\r\n", b"\n"),
    "xhdn0g08, checksum of the header": SIGNATURE + header(crc=1) + PIXELS + END,
    "xc1n0g08, colour type 1": SIGNATURE + header(colour=1) + PIXELS + END,
    "xc9n2c08, colour type 9": SIGNATURE + header(colour=9) + PIXELS + END,
    "xd0n2c08, depth 0": SIGNATURE + header(depth=0, colour=2) + PIXELS + END,
    "xd3n2c08, depth 3": SIGNATURE + header(depth=3, colour=2) + PIXELS + END,
    "xd9n2c08, depth 99": SIGNATURE + header(depth=99, colour=2) + PIXELS + END,
    "xdtn0g01, no pixels": SIGNATURE + header() + END,
    "xcsn0g01, checksum of the pixels": SIGNATURE + header() + PIXELS[:-4] + b"\0\0\0\0" + END,
}

OTHERS: dict[str, bytes] = {
    "empty": b"",
    "one byte": b"\x89",
    "html": b"<!doctype html><title>Sign in</title>",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
    "pdf": b"%PDF-1.7\n1 0 obj",
    "bmp": encoded("BMP"),
    "tiff": encoded("TIFF"),
    "ico": encoded("ICO"),
    "jpeg 2000": encoded("JPEG2000"),
    "ppm": encoded("PPM"),
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%id) (w) file\n",
    "heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "zip": b"PK\x03\x04" + bytes(30),
    "program": b"\x7fELF" + bytes(60),
    "riff, but sound": b"RIFF\x24\0\0\0WAVEfmt " + bytes(20),
}
"""Nothing that we take, by its first bytes."""


def broken() -> Iterator[tuple[str, bytes]]:
    """They begin as pictures."""
    yield "png, signature alone", SIGNATURE
    yield "png, html", SIGNATURE + b"<script>alert(1)</script>"
    yield "png, length beyond the file", SIGNATURE + header() + struct.pack(">I", 0x7FFFFFFF) + b"IDATxxxx"
    yield "png, negative length", SIGNATURE + header() + struct.pack(">I", 0xFFFFFFFF) + b"IDATxxxx"
    yield "png, pixels that do not unpack", SIGNATURE + header() + chunk(b"IDAT", b"\x78\x9cnonsense") + END
    yield "png, too few pixels", SIGNATURE + header(4000, 4000) + PIXELS + END
    yield "png, no width", SIGNATURE + header(width=0) + PIXELS + END
    yield "png, text that grows", SIGNATURE + header() + ztxt(b"\0" * 60_000_000) + PIXELS + END
    yield "jpeg, magic alone", b"\xff\xd8\xff"
    yield "jpeg, html", b"\xff\xd8\xff<html><script>alert(1)</script></html>"
    yield "jpeg, no scan", encoded("JPEG")[:160] + b"\xff\xd9"
    yield "gif, magic alone", b"GIF89a"
    yield "gif, script", b"GIF89a/*" + b" " * 30 + b"*/=1;alert(1)//;"
    yield "gif, no pixels", b"GIF89a" + struct.pack("<HHBBB", 9, 9, 0x80, 0, 0) + bytes(6) + b";"
    yield "webp, magic alone", b"RIFF\x04\0\0\0WEBP"
    yield "webp, unknown chunk", b"RIFF\x14\0\0\0WEBPJUNK\x08\0\0\0" + bytes(8)
    yield "webp, canvas without frame", webp_canvas(100, 100)
    for kind in ("JPEG", "PNG", "GIF", "WEBP"):
        whole = encoded(kind)
        for tenths in (1, 3, 5, 7, 9):
            yield f"{kind}, {tenths} tenths of it", whole[: len(whole) * tenths // 10]


def bombs() -> Iterator[tuple[str, bytes]]:
    """Small files that would be huge pictures."""
    yield "png", SIGNATURE + header(100_000, 100_000) + PIXELS + END
    yield "png, the largest there is", SIGNATURE + header(0x7FFFFFFF, 0x7FFFFFFF) + PIXELS + END
    yield "png, one line", SIGNATURE + header(60_000_000, 1) + PIXELS + END
    yield "png, a second header", SIGNATURE + header() + header(100_000, 100_000) + PIXELS + END
    jpeg = bytearray(encoded("JPEG"))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", 65_500, 65_500)
    yield "jpeg", bytes(jpeg)
    yield "gif", b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0x80, 0, 0) + bytes(6) + gif_frame(65_535)
    yield (
        "gif, a frame beyond its screen",
        (b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6) + gif_frame(65_535)),
    )
    yield "webp, canvas", webp_canvas(16_383, 16_383)
    yield (
        "webp, lossless",
        b"RIFF\x1e\0\0\0WEBPVP8L\x12\0\0\0\x2f" + struct.pack("<I", 16_383 | 16_383 << 14) + bytes(13),
    )
    yield (
        "webp, lossy",
        (b"RIFF\x1e\0\0\0WEBPVP8 \x12\0\0\0\x10\0\0\x9d\x01\x2a" + struct.pack("<HH", 16_383, 16_383) + bytes(8)),
    )


def ztxt(text: bytes) -> bytes:
    return chunk(b"zTXt", b"Comment\0\0" + zlib.compress(text, 9))


def gif_frame(side: int) -> bytes:
    return b"," + struct.pack("<HHHHB", 0, 0, side, side, 0) + b"\x02\x02\x4c\x01\0;"


def webp_canvas(width: int, height: int) -> bytes:
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0" + size


def flat_webp(width: int, height: int) -> bytes:
    """A real lossless WEBP of one colour, transparent, in a few bytes: each channel has one symbol only."""
    fields = [(width - 1, 14), (height - 1, 14), (1, 1), (0, 3), (0, 1), (0, 1), (0, 1)]
    for symbol in (10, 20, 30, 128, 0):
        fields += [(1, 1), (0, 1), (1, 1), (symbol, 8)]
    bits = "".join(f"{value:0{width}b}"[::-1] for value, width in fields)
    data = b"\x2f" + bytes(int(bits[at : at + 8][::-1], 2) for at in range(0, len(bits), 8))
    data += b"\0" * (len(data) % 2)
    return b"RIFF" + struct.pack("<I", len(data) + 12) + b"WEBPVP8L" + struct.pack("<I", len(data)) + data
