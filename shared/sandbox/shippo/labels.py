"""Label files behind signed links that expire, as Shippo's are.

Small but valid PDF, PNG and ZPL with the tracking number on them. An altered or expired link is answered
with 403 and XML, as the object store behind Shippo's links does.
"""

import hashlib
import hmac
import struct
import zlib
from typing import TYPE_CHECKING, Any

from shared.sandbox.web import HttpError, Request, Response, Route

if TYPE_CHECKING:
    from shared.sandbox.core import Core

    from .transactions import Transactions

#: https://github.com/goshippo/shippo-python-sdk docs/models/components/labelfiletypeenum.md; sizes in inches.
LABEL_TYPES = {
    "PNG": (4.0, 6.0),
    "PNG_2.3x7.5": (2.3, 7.5),
    "PDF": (4.0, 6.0),
    "PDF_2.3x7.5": (2.3, 7.5),
    "PDF_4x6": (4.0, 6.0),
    "PDF_4x8": (4.0, 8.0),
    "PDF_A4": (8.27, 11.69),
    "PDF_A5": (5.83, 8.27),
    "PDF_A6": (4.13, 5.83),
    "ZPLII": (4.0, 6.0),
}
DEFAULT_TYPE = "PDF_4x6"
_MEDIA = {"pdf": "application/pdf", "png": "image/png", "zpl": "application/octet-stream"}

#: Signs links. Fixed, so that links stay valid over a restart; nothing here is worth a secret.
_KEY = b"sandbox label links"

#: 3 by 5 pixels per character, one octal digit per row; five digits per character.
_CHARACTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DOTS = (
    "755572622771747717175571174717747577111175757757177575565656744476555674647746447455755755"
    "722271115755655444475775575555755577574475571757657471772222555575555255775552555522271247"
)


class Labels:
    """Makes links and serves what they lead to."""

    def __init__(self, core: "Core"):
        self._core = core

    def routes(self, transactions: "Transactions") -> list[Route]:
        def file(request: Request, name: str) -> Response:
            return self._serve(request, name, transactions)

        return [Route("GET", "/labels/{name}", file, public=True)]

    def link(self, base_url: str, transaction: dict[str, Any]) -> str:
        """The URL of a transaction's label, valid for `label_seconds` from now."""
        name = f"{transaction['object_id']}.{_suffix(transaction['label_file_type'])}"
        expires = str(int(self._core.clock.now() + self._core.options.label_seconds))
        return f"{base_url}/labels/{name}?Expires={expires}&Signature={_signature(name, expires)}"

    def _serve(self, request: Request, name: str, transactions: "Transactions") -> Response:
        expires, given = request.query.get("Expires", ""), request.query.get("Signature", "")
        if not hmac.compare_digest(given.encode(), _signature(name, expires).encode()):
            return _denied("SignatureDoesNotMatch")
        if int(expires) < self._core.clock.now():
            return _denied("Request has expired")
        transaction = transactions.find_anywhere(name.partition(".")[0])
        if transaction is None:
            raise HttpError(404, {"detail": "Not found."})
        file_type = transaction["label_file_type"]
        data = label_file(file_type, transaction["tracking_number"], transaction["metadata"])
        return Response(200, data, _MEDIA[_suffix(file_type)])


def label_file(file_type: str, number: str, note: str = "") -> bytes:
    """The file's bytes."""
    width, height = LABEL_TYPES[file_type]
    suffix = _suffix(file_type)
    if suffix == "zpl":
        return f"^XA^FO40,60^A0N,48,48^FD{number}^FS^FO40,140^BCN,200,Y,N,N^FD{number}^FS^XZ\n".encode()
    return _png(width, height, number) if suffix == "png" else _pdf(width, height, number, note)


def _glyph(char: str) -> str:
    at = 5 * _CHARACTERS.find(char)
    return _DOTS[at : at + 5] if at >= 0 else "00000"


def _suffix(file_type: str) -> str:
    return file_type[:3].lower()


def _signature(name: str, expires: str) -> str:
    return hmac.new(_KEY, f"{name}?{expires}".encode(), hashlib.sha256).hexdigest()


def _denied(message: str) -> Response:
    error = f"<Error><Code>AccessDenied</Code><Message>{message}</Message></Error>"
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n{error}'
    return Response(403, body.encode(), "application/xml")


def _pdf(width: float, height: float, number: str, note: str) -> bytes:
    """One page with two lines of text; 72 points are an inch."""
    box = f"[0 0 {width * 72:g} {height * 72:g}]"
    top = height * 72 - 60
    safe = "".join(char for char in note if char.isalnum() or char in " -_|.:")
    text = f"BT /F1 11 Tf 14 {top:g} Td ({number}) Tj 0 -18 Td /F1 7 Tf ({safe}) Tj ET".encode("latin-1", "replace")
    parts = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        f"<< /Type /Page /Parent 2 0 R /MediaBox {box} /Contents 4 0 R"
        " /Resources << /Font << /F1 5 0 R >> >> >>".encode(),
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(text), text),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    data, offsets = b"%PDF-1.4\n", []
    for at, part in enumerate(parts, start=1):
        offsets.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (at, part)
    rows = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    table = b"xref\n0 6\n0000000000 65535 f \n" + rows
    return data + table + b"trailer\n<< /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % len(data)


def _png(width: float, height: float, number: str) -> bytes:
    """One bit per pixel at 100 dots per inch; the number in dots, and as text of the file."""
    columns, rows, dot = int(width * 100), int(height * 100), 3
    pixels = [bytearray(b"\xff" * ((columns + 7) // 8)) for _ in range(rows)]
    per_line = (columns - 20) // (4 * dot)
    for index, char in enumerate(number):
        left, top = 10 + index % per_line * 4 * dot, 30 + index // per_line * 7 * dot
        for row, digit in enumerate(_glyph(char)):
            for column in range(3 * dot):
                if int(digit, 8) >> (2 - column // dot) & 1:
                    x = left + column
                    for y in range(top + row * dot, top + (row + 1) * dot):
                        pixels[y][x // 8] &= ~(0x80 >> x % 8) & 0xFF
    image = zlib.compress(b"".join(b"\0" + row for row in pixels))
    header = struct.pack(">IIBBBBB", columns, rows, 1, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"tEXt", b"Title\0" + number.encode()), (b"IDAT", image), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
