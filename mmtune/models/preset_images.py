"""How a Keras preset prepares images: KerasHub's `ImageConverter` as our description of a vision tower."""

import logging
import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from mmtune.data.pixels import RESAMPLING
from mmtune.errors import ModelError
from mmtune.models.config_files import read_object
from mmtune.models.folder_files import PRESET_IMAGES as CONVERTER
from mmtune.models.preset_files import preset_file
from mmtune.models.spec import VisionSpec

_log = logging.getLogger(__name__)
_OURS = {"crop_to_aspect_ratio": False, "antialias": True}
_MOST = 10.0  # of means and deviations of colors in 0..1


def read_converter(place: str, vision: VisionSpec) -> VisionSpec:
    """Returns a tower's description with how its preset prepares images.

    KerasHub's own defaults, a crop to the square and resizing without antialiasing, are not what PaliGemma was trained
    with: images are squeezed with antialiasing whatever the preset says, and the difference is logged.

    Args:
        place: Folder, name or address of the preset; without an image converter, images are prepared as PaliGemma's.
        vision: The tower's description.

    Raises:
        ModelError: When the file is broken, or asks for what is not done here; names the key and its value.
    """
    file = preset_file(place, CONVERTER)
    if file is None:
        return vision
    values = read_object(file).get("config")
    if not isinstance(values, dict):
        raise ModelError(f"{file}: expected the config of a Keras layer, found none")
    side, size = vision.image_size, values.get("image_size", _former_size(values))
    if size is not None and size != [side, side]:
        raise ModelError(f"{file}: image_size: expected {[side, side]}, as the backbone has it, got {str(size)[:80]}")
    if values.get("pad_to_aspect_ratio"):
        raise ModelError(f"{file}: pad_to_aspect_ratio: true is not supported: images are squeezed to the square")
    way = next((one for one in RESAMPLING if one == values.get("interpolation", vision.resample)), None)
    if way is None:
        got = str(values["interpolation"])[:80]
        raise ModelError(f"{file}: interpolation: expected {' or '.join(RESAMPLING)}, got {got}")
    scale, offset = _colors(values, file)
    # KerasHub: color in 0..255 * scale + offset; ours: (color in 0..1 - mean) / std.
    std = tuple(round(1 / (255 * one), 9) if one > 0 else 0.0 for one in scale)
    mean = tuple(round(-shift * one, 9) for shift, one in zip(offset, std, strict=True))
    if not all(0 < one < _MOST for one in std) or not all(abs(one) < _MOST for one in mean):
        raise ModelError(f"{file}: scale and offset: expected colors brought to about -1..1, got {scale} and {offset}")
    ignored = [f"{name} = {values[name]}" for name, ours in _OURS.items() if values.get(name, ours) != ours]
    if ignored:
        trained = "images are squeezed whole, with antialiasing, as PaliGemma was trained"
        _say(f"{file}: {', '.join(ignored)} is ignored: {trained}")
    return replace(vision, resample=way, mean=mean, std=std)


def _colors(values: dict[str, Any], file: Path) -> tuple[list[float], list[float]]:
    """Returns scale and offset of each color."""
    scale = _triple(values, "scale", file)
    if "mean" in values and "variance" in values:  # as KerasHub stored it at first; the scale comes before them
        std = [math.sqrt(max(one, 1e-12)) for one in _triple(values, "variance", file)]
        means = _triple(values, "mean", file)
        return [a / b for a, b in zip(scale, std, strict=True)], [-a / b for a, b in zip(means, std, strict=True)]
    return scale, _triple(values, "offset", file)


def _former_size(values: dict[str, Any]) -> list[Any] | None:
    """Returns the size as KerasHub stored it at first."""
    return [values["height"], values["width"]] if "height" in values and "width" in values else None


@cache
def _say(message: str) -> None:
    """Logs each message once in a process."""
    _log.warning(message)


def _triple(values: dict[str, Any], name: str, file: Path) -> list[float]:
    """Returns a setting as a number for each color."""
    value = values.get(name) or 0.0
    numbers = value if isinstance(value, list) else [value] * 3
    if len(numbers) != 3 or not all(type(one) in (int, float) and abs(one) < 1e6 for one in numbers):
        raise ModelError(f"{file}: {name}: expected a number or three, got {str(value)[:80]}")
    return [float(one) for one in numbers]
