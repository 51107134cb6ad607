"""Pictures of a page: small JPEGs within it."""

import base64
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from mmtune.errors import DataError
from mmtune.records import Record

SIDE = 320
"""Longest side in pixels: a card is about as wide, and 300 of them make some five megabytes."""

_QUALITY = 72


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A reduced picture.

    Attributes:
        source: Its bytes as a data address.
        width, height: In pixels.
        scale: What (x, y) of the whole picture is multiplied by.
    """

    source: str
    width: int
    height: int
    scale: tuple[float, float]


def thumbnails(records: Sequence[Record]) -> list[Thumbnail | None]:
    """Returns the pictures of records, None for those that have none that can be opened."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(thumbnail, records))


def thumbnail(record: Record) -> Thumbnail | None:
    """Returns the picture of a record, None where there is none that can be opened."""
    if record.picture is None:
        return None
    try:
        image = record.picture.open()
    except DataError:
        return None
    full = image.size
    image.thumbnail((SIDE, SIDE))
    held = io.BytesIO()
    image.save(held, "JPEG", quality=_QUALITY, optimize=True)
    source = f"data:image/jpeg;base64,{base64.b64encode(held.getvalue()).decode()}"
    scale = (image.width / full[0], image.height / full[1])
    return Thumbnail(source, image.width, image.height, scale)
