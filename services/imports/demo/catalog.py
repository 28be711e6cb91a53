"""The file of the story, and what must become of it."""

from __future__ import annotations

import csv
import io
from typing import Final

__all__ = ["DUPLICATES", "HEADER", "ROWS", "WRONG", "catalog"]

HEADER: Final = ("Title", "SKU", "Category", "Unit cost", "Image URL", "Color")

ROWS: Final = 5_000
DUPLICATES: Final = 120
WRONG: Final = 80

_GOOD: Final = 120
_PICTURES: Final = {
    "/images/{}.png": "is there",
    "/images/{}.jpg": "is there, as another kind of file",
    "/images/status/404/{}.png": "is not there",
    "/images/html/{}.gif": "is a page that asks to sign in",
}


def catalog(pictures: str) -> bytes:
    """Return the file; `pictures` is the address of the website that has them."""
    paths = list(_PICTURES)
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(HEADER)
    for number in range(ROWS):
        title, cost, image = f"Sample box {number}", f"{number % 90 + 10}.50", ""
        if number % 25 == 24 and number < 25 * WRONG:
            title, cost = ("", cost) if number % 2 else (title, "€ 12")
        elif number % 40 == 38 and number < 40 * DUPLICATES:
            title = f"SAMPLE  box {number - 7}"
        elif number % 40 == 3 and number < 40 * _GOOD:
            image = pictures + paths[number // 40 % len(paths)].format(f"box-{number}")
        category = ("Boxes > Small", "Boxes > Large", "Mailers")[number % 3]
        writer.writerow((title, f"SB-{number:05d}", category, cost, image, ("kraft", "white", "red")[number % 3]))
    return file.getvalue().encode()
