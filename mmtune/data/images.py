"""Pictures: opening them upright and in RGB, whatever their file holds. `mmtune.data.finding` finds their files."""

import io
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from mmtune.data.confinement import current_root, open_file
from mmtune.errors import DataError
from mmtune.records import Picture

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = frozenset(
    [".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"]
)
"""Suffixes, in lower case, by which a file in a folder is taken for a picture."""

LIMIT = "MMTUNE_MAX_PIXELS"
"""The environment variable that may say how many pixels a picture has at most; without it, Pillow's own limit holds."""

_ORIENTATION = 0x0112  # EXIF tag 274
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")


@dataclass(frozen=True, slots=True)
class FilePicture:
    """A picture in a file.

    Attributes:
        path: The file.
        upright: Whether its EXIF orientation is applied; False where the annotations are in the stored orientation.
        root: The folder that the file must lie in, of a confined data set; None: any.
    """

    path: Path
    upright: bool = True
    root: Path | None = field(default_factory=current_root, repr=False, compare=False)

    @property
    def name(self) -> str:
        """The path, to show to a user."""
        return str(self.path)

    def open(self) -> "Image.Image":
        """Returns the picture in mode RGB; raises `DataError` when it cannot be decoded."""
        return _decoded(self, self.name, self.upright)


@dataclass(frozen=True, slots=True)
class BytesPicture:
    """A picture whose encoded file is held in memory, as in a parquet data set.

    Attributes:
        data: The bytes of a JPEG, PNG, WebP, ... file.
        name: What to show to a user.
    """

    data: bytes = field(repr=False)
    name: str

    def open(self) -> "Image.Image":
        """Returns the upright picture in mode RGB; raises `DataError` when it cannot be decoded."""
        return _decoded(io.BytesIO(self.data), self.name, upright=True)


def open_small(picture: Picture, side: int) -> "Image.Image":
    """Returns the picture as `picture.open()` does, decoded at a half, a quarter or an eighth where it is a JPEG.

    Args:
        picture: Any.
        side: Neither width nor height falls below this many pixels by it.

    Raises:
        DataError: When it cannot be decoded.
    """
    if isinstance(picture, FilePicture):
        return _decoded(picture, picture.name, picture.upright, side)
    if isinstance(picture, BytesPicture):
        return _decoded(io.BytesIO(picture.data), picture.name, True, side)
    return picture.open()


def size_of(picture: Picture) -> tuple[int, int]:
    """Returns (width, height) in pixels of what `picture.open()` gives, read from the file's header where there is one.

    Raises:
        DataError: When there is no such file or it is no picture.
    """
    if isinstance(picture, FilePicture):
        return _size(picture, picture.name, picture.upright)
    if isinstance(picture, BytesPicture):
        return _size(io.BytesIO(picture.data), picture.name, upright=True)
    return picture.open().size


def upright_rgb(image: "Image.Image", *, upright: bool = True) -> "Image.Image":
    """Returns a picture turned upright and in mode RGB, as a copy.

    Transparent pixels are laid on white. Values of 16 bit are scaled to 8 bit, not clipped.

    Args:
        image: Of any mode that Pillow decodes.
        upright: Whether to apply the EXIF orientation.
    """
    from PIL import Image

    turn = _turn(image) if upright else None
    if image.mode in _SIXTEEN_BIT or image.mode in ("I", "F"):
        image = Image.fromarray(_eight_bit(np.asarray(image), integer=image.mode != "F"))
    if image.has_transparency_data:
        opaque = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", opaque.size, "white"), opaque)
    rgb = image.convert("RGB")
    return rgb if turn is None else rgb.transpose(turn)


def _eight_bit(values: np.ndarray, *, integer: bool) -> np.ndarray:
    """Returns uint8 grey values of an array of wider ones.

    Whole numbers are taken as 16 bit, the only wider ones that picture files hold in practice; where they go beyond
    that, and for floats, the picture's own range is stretched, as nothing says which range was meant.
    """
    values = values.astype(np.float64)
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if integer and low >= 0 and high <= 65535:
        low, high = 0.0, 65535.0
    scaled = (values - low) * (255.0 / (high - low)) if high > low else np.zeros_like(values)
    return np.round(np.nan_to_num(scaled)).astype(np.uint8)


def _turn(image: "Image.Image") -> "Image.Transpose | None":
    """Returns the transposition that makes the picture upright, or None."""
    from PIL import Image

    if image.format == "TIFF":
        return None  # Pillow turns these while it decodes, and its header gives the turned size
    if image.format == "PNG" and "exif" not in image.info and "Raw profile type exif" not in image.info:
        return None  # asking for EXIF would decode the whole picture in search of a late chunk
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Exception:  # a broken EXIF block raises anything from SyntaxError to struct.error, and is no reason to stop
        return None
    turns: dict[object, Image.Transpose] = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    return turns.get(orientation)


def _decoded(source: FilePicture | BinaryIO, name: str, upright: bool, side: int | None = None) -> "Image.Image":
    from PIL import Image

    try:
        with _stream(source) as stream, Image.open(stream) as image:
            _check_pixels(*image.size)
            if side is not None:
                image.draft(None, (side, side))
            return upright_rgb(image, upright=upright)
    except Exception as error:  # decoders raise anything: OSError, SyntaxError, ValueError, struct.error, zlib.error
        raise DataError(_why(error, name)) from error


def _size(source: FilePicture | BinaryIO, name: str, upright: bool) -> tuple[int, int]:
    from PIL import Image

    try:
        with _stream(source) as stream, Image.open(stream) as image:
            width, height = image.size
            _check_pixels(width, height)
            turn = _turn(image) if upright else None
    except Exception as error:  # as above
        raise DataError(_why(error, name)) from error
    quarter = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270)
    sideways = (*quarter, Image.Transpose.TRANSPOSE, Image.Transpose.TRANSVERSE)
    return (height, width) if turn in sideways else (width, height)


def _check_pixels(width: int, height: int) -> None:
    from PIL import Image

    limit = _most_pixels()
    if limit and width * height > limit:
        raise Image.DecompressionBombError(f"it has {width} x {height}, and {LIMIT} is {limit}")


def _most_pixels() -> int:
    """Returns the limit that the environment gives, 0 for none."""
    text = os.environ.get(LIMIT, "")
    return int(text) if text.isdecimal() else 0


def _stream(source: FilePicture | BinaryIO) -> BinaryIO:
    return open_file(source.path, source.root) if isinstance(source, FilePicture) else source


def _why(error: Exception, name: str) -> str:
    """Returns one sentence for a picture that cannot be read: the file, what was expected, what to do."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, FileNotFoundError):
        return f"{name}: expected a picture, but there is no such file; check the path and the folder of the pictures"
    if isinstance(error, (PermissionError, IsADirectoryError)):
        return f"{name}: expected a picture that can be read, but {error.strerror}; check what lies at that path"
    if isinstance(error, Image.DecompressionBombError):
        limit = _most_pixels() or 2 * (Image.MAX_IMAGE_PIXELS or 0)
        return f"{name}: expected a picture of at most {limit} pixels; scale it down or cut it into tiles ({error})"
    if isinstance(error, UnidentifiedImageError):
        return f"{name}: expected a picture (JPEG, PNG, WebP, ...), but the file is none; replace or remove it"
    detail = str(error) or type(error).__name__
    return f"{name}: expected a whole picture, but it is truncated or broken ({detail}); replace or remove it"
