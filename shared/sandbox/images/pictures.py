"""Small pictures made by name: the same name gives the same bytes, another name others.

Real files of four kinds, written by hand, so that nobody's decoder is needed to make them.
"""

import base64
import hashlib
import struct
import zlib

#: Media types by the ending of a name.
MEDIA_TYPES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
}

#: A checkered JPEG of 32 by 24 pixels. Where its two tables of quantization have their first entry: that one decides
#: about brightness and colour.
_JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdBRkxOUlNS"
    "Mj5aYVpQYEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09P"
    "T0//wAARCAAYACADASIAAhEBAxEB/8QAFgABAQEAAAAAAAAAAAAAAAAAAAME/8QAFBABAAAAAAAAAAAAAAAAAAAAAP/EABUBAQEAAAAA"
    "AAAAAAAAAAAAAAAD/8QAIBEAAQEIAwAAAAAAAAAAAAAAAIEFERI1UWKRwTFCQ//aAAwDAQACEQMRAD8AypiiktuiTjNSs1thV78UCYoS"
    "26JOM1E1thV78UCYDH7psNzzXRRMBj902G55ro//2Q=="
)
_JPEG_TABLES = (25, 94)


def picture(name: str) -> bytes:
    """The picture of a name, of the kind that its ending says; PNG for any other ending."""
    digest = hashlib.sha256(name.encode()).digest()
    ending = name.rpartition(".")[2].lower()
    if ending in ("jpg", "jpeg"):
        return _jpeg(digest)
    if ending == "gif":
        return _gif(digest)
    return _webp(digest) if ending == "webp" else _png(digest)


def _png(digest: bytes) -> bytes:
    """64 by 48 pixels in the colours of the digest."""
    rows = (
        b"\0" + b"".join(digest[(x // 8 + y // 8) % 10 * 3 :][:3] for x in range(64)) for y in range(48)
    )  # each row says first that it is not filtered
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", 64, 48, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"".join(rows))),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def _jpeg(digest: bytes) -> bytes:
    """The one that is kept here, in another light, with the digest as its comment."""
    data = bytearray(_JPEG)
    for at, value in zip(_JPEG_TABLES, digest, strict=False):
        data[at] = 4 + value % 28
    comment = digest.hex().encode()
    return bytes(data[:2]) + b"\xff\xfe" + struct.pack(">H", len(comment) + 2) + comment + bytes(data[2:])


def _gif(digest: bytes) -> bytes:
    """16 by 16 pixels of four colours, of which each is said anew: the dictionary is cleared after every two."""
    clear, end = 4, 5
    codes = []
    for pixel in range(256):
        if pixel % 2 == 0:
            codes.append(clear)
        codes.append((pixel // 4 + pixel // 64) % 4)
    bits = "".join(f"{code:03b}"[::-1] for code in [*codes, end])
    packed = _packed(bits)
    blocks = [packed[at : at + 255] for at in range(0, len(packed), 255)]
    return (
        b"GIF89a" + struct.pack("<HHBBB", 16, 16, 0xF1, 0, 0) + digest[:12]
        + b"," + struct.pack("<HHHHB", 0, 0, 16, 16, 0)
        + b"\x02" + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0;"
    )  # fmt: skip


def _webp(digest: bytes) -> bytes:
    """16 by 16 pixels of one colour: each channel has one symbol only, so that a pixel needs no bit."""
    red, green, blue = digest[:3]
    fields = [(15, 14), (15, 14), (0, 1), (0, 3), (0, 1), (0, 1), (0, 1)]
    for symbol in (green, red, blue, 255, 0):
        fields += [(1, 1), (0, 1), (1, 1), (symbol, 8)]
    bits = "".join(f"{value:0{width}b}"[::-1] for value, width in fields)
    data = b"\x2f" + _packed(bits)
    # The tail of a RIFF file is for anybody's chunks: this one makes names of the same colour differ.
    chunks = _chunk(b"VP8L", data) + _chunk(b"NAME", digest)
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


def _chunk(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def _packed(bits: str) -> bytes:
    """Bits, the first of them the lowest of the first byte."""
    return bytes(int(bits[at : at + 8][::-1], 2) for at in range(0, len(bits), 8))
