"""Pictures as the vision tower takes them."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmtune.errors import UsageError
from mmtune.records import WHOLE, Part, Picture

if TYPE_CHECKING:
    from PIL import Image


RESAMPLING = {"bilinear": 2, "bicubic": 3}
"""Ways to resample, with the numbers that pillow and transformers give them."""


def to_image(picture: Any) -> "Image.Image":
    """Returns an upright RGB image from whatever a user holds.

    Args:
        picture: A PIL image, a (height, width, 3) uint8 array, a `Picture`, or a file name.

    Raises:
        DataError: When a file cannot be decoded.
        UsageError: For anything else.
    """
    from PIL import Image

    from mmtune.data.images import FilePicture, upright_rgb

    if isinstance(picture, Image.Image):
        return upright_rgb(picture)
    if isinstance(picture, str | Path):
        return FilePicture(Path(picture)).open()
    if isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.ndim == 3:
        return Image.fromarray(picture).convert("RGB")
    if isinstance(picture, Picture):
        return picture.open()
    raise UsageError(
        f"a picture of type {type(picture).__name__} is not understood: "
        "expected a file name, a PIL image, or a uint8 array of (height, width, 3)"
    )


def to_square(
    picture: Any, size: int, resample: str = "bilinear", draft: bool = False, part: Part = WHOLE
) -> np.ndarray:
    """Returns a picture squeezed to the model's square, (size, size, 3) uint8.

    No crop and no aspect keeping: PaliGemma was trained so, and boxes stay fractions of the whole picture. With
    antialiasing, as in big_vision's transfers.

    Args:
        picture: See `to_image`; a uint8 array of just this shape is taken as it is.
        size: Side in pixels.
        resample: A key of `RESAMPLING`.
        draft: Whether JPEG files are decoded at a fraction of their size, as near as that comes to the square's from
            above. Pixels then differ a little from those of the whole picture.
        part: What of the picture is shown.
    """
    from PIL import Image

    from mmtune.data.images import FilePicture, open_small

    if (
        part == WHOLE
        and isinstance(picture, np.ndarray)
        and picture.shape == (size, size, 3)
        and picture.dtype == np.uint8
    ):
        return picture
    if draft and isinstance(picture, str | Path):
        picture = FilePicture(Path(picture))
    y0, x0, y1, x1 = part
    enough = math.ceil(size / min(y1 - y0, x1 - x0))
    image = open_small(picture, enough) if draft and isinstance(picture, Picture) else to_image(picture)
    edges = (x0 * image.width, y0 * image.height, x1 * image.width, y1 * image.height)
    return np.asarray(image.resize((size, size), Image.Resampling(RESAMPLING[resample]), edges))
