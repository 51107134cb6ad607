"""What the page takes from strangers: how large, how long, how many. Everything that comes in passes here."""

import math
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from mmtune.data.images import FilePicture, open_small
from mmtune.errors import DataError, UsageError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""What Pillow may take a file for; others start programs (EPS) or fetch files."""

_MEGABYTE = 2**20
_ONE_LARGE = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of one server.

    Attributes:
        upload: Bytes of a file that is sent, a zipped data set included.
        picture: Bytes of a picture's file.
        pixels: Pixels of a picture that is asked about as it is; a larger one is scaled down to as many.
        most_pixels: Pixels of a picture at most.
        body: Bytes of any other message.
        prompt: Characters of a prompt.
        tokens: Tokens of an answer.
        models: Models side by side.
        waiting: Questions that wait to be answered.
        files: Files in a data set.
        unpacked: Bytes of a data set, unpacked.
        sent_bytes: Bytes that an address may upload within two hours.
        all_sent_bytes: Bytes that all together may.
        visitor_bytes: Bytes of a visitor's data sets, unpacked.
        visitor_sets: Data sets of a visitor.
        all_bytes: Bytes of the data sets of all visitors.
        upload_hours: How long an uploaded data set is kept after its last use.
        check_seconds: How long looking a data set over may take.
        check_memory: Bytes of memory that it may take.
    """

    upload: int = 128 * _MEGABYTE
    picture: int = 20 * _MEGABYTE
    pixels: int = 24_000_000
    most_pixels: int = 100_000_000
    body: int = _MEGABYTE
    prompt: int = 2000
    tokens: int = 512
    models: int = 3
    waiting: int = 64
    files: int = 20_000
    unpacked: int = 1024 * _MEGABYTE
    sent_bytes: int = 2 * 1024 * _MEGABYTE
    all_sent_bytes: int = 16 * 1024 * _MEGABYTE
    visitor_bytes: int = 4 * 1024 * _MEGABYTE
    visitor_sets: int = 20
    all_bytes: int = 32 * 1024 * _MEGABYTE
    upload_hours: float = 24
    check_seconds: int = 300
    check_memory: int = 6 * 1024 * _MEGABYTE


LIMITS = Limits()


def checked_text(text: Any, what: str, limits: Limits = LIMITS) -> str:
    """Returns a text of the user's.

    Raises:
        UsageError: When it is none, too long, or cannot be written as UTF-8.
    """
    if text is None:
        return ""
    if not isinstance(text, str):
        raise UsageError(f"the {what} must be a text")
    if len(text) > limits.prompt:
        raise UsageError(f"the {what} has {len(text):,} characters, at most {limits.prompt:,} are taken: shorten it")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise UsageError(f"the {what} holds half of a surrogate pair, which is no character: remove it")
    return text.replace("\0", "")


def checked_tokens(count: Any, limits: Limits = LIMITS) -> int | None:
    """Returns how many tokens an answer may have; None and 0 leave it to the task.

    Raises:
        UsageError: When it is no whole number from 0 to the limit.
    """
    if count is None:
        return None
    number = float(count) if isinstance(count, int | float) and not isinstance(count, bool) else math.nan
    if not (0 <= number <= limits.tokens and number.is_integer()):
        raise UsageError(f"max_tokens: expected a whole number from 0 (the task's choice) to {limits.tokens}")
    return int(number) or None


def checked_share(value: Any, what: str) -> float:
    """Returns a number from 0 to 1.

    Raises:
        UsageError: When it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise UsageError(f"{what}: expected a number from 0 to 1")
    return float(value)


def opened_picture(file: str | Path, limits: Limits = LIMITS) -> Image.Image:
    """Returns the upright picture of a file that a stranger sent, mode RGB.

    Size and format are read from its header before anything is decoded.

    Raises:
        DataError: When it is too large or no picture; the sentence names no path of ours.
    """
    file = Path(file)
    if not file.is_file():
        raise DataError("the picture is gone: give it again")
    if (size := file.stat().st_size) > limits.picture:
        raise DataError(
            f"the picture's file has {size / _MEGABYTE:.0f} MB, at most {limits.picture // _MEGABYTE} MB are taken: "
            "save it smaller"
        )
    try:
        with Image.open(file, formats=FORMATS) as image:
            width, height = image.size
    except Image.DecompressionBombError as error:
        raise DataError(_too_large(limits)) from error
    except Exception as error:  # decoders raise anything
        raise DataError(
            f"this is no picture that can be read: give a file of one of the kinds {', '.join(FORMATS)}"
        ) from error
    if width * height > limits.most_pixels:
        raise DataError(f"the picture has {width} x {height} pixels; {_too_large(limits)}")
    size = scaled_size(width, height, limits)
    try:
        if size == (width, height):
            return FilePicture(file).open()
        with _ONE_LARGE:  # at a time: each may take 300 MB
            image = open_small(FilePicture(file), max(size))
            turned = size if (image.width < image.height) == (size[0] < size[1]) else (size[1], size[0])
            return image.resize(turned, Image.Resampling.BILINEAR, reducing_gap=2.0)
    except DataError as error:
        raise DataError(str(error).replace(str(file), "the picture")) from error


def scaled_size(width: int, height: int, limits: Limits = LIMITS) -> tuple[int, int]:
    """Returns the size that a picture is asked about at: its own, or that of `limits.pixels` in its shape."""
    shrink = min(1.0, math.sqrt(limits.pixels / (width * height)))
    return max(1, math.floor(width * shrink)), max(1, math.floor(height * shrink))


def _too_large(limits: Limits) -> str:
    return f"expected a picture of at most {limits.most_pixels / 1e6:.0f} million pixels: scale it down"
