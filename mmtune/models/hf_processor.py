"""Which file of a checkpoint says how pictures are prepared: the one that transformers 5 would follow."""

import logging
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from mmtune.errors import ModelError
from mmtune.models.config_files import read_object
from mmtune.models.folder_files import PREPROCESSOR, PROCESSOR

_log = logging.getLogger(__name__)

_NESTED = "image_processor"
SIGLIP: dict[str, Any] = {
    "size": None,
    "resample": 3,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "rescale_factor": 1 / 255,
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
    "do_center_crop": None,
    "do_pad": None,
}
"""What transformers' `SiglipImageProcessor` takes where a file leaves a setting out; None: it depends, or nothing."""


def image_settings(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """Returns the file that says how pictures are prepared, and its settings; None where no file does.

    transformers 5 writes them into `processor_config.json`, under `image_processor`, earlier versions into
    `preprocessor_config.json`. Where both are there, the former counts alone, and a difference is logged once.

    Args:
        folder: Of the checkpoint.

    Raises:
        ModelError: When a file is broken.
    """
    file, former = folder / PROCESSOR, folder / PREPROCESSOR
    nested = read_object(file).get(_NESTED) if file.is_file() else None
    before = read_object(former) if former.is_file() else None
    if nested is None:
        return None if before is None else (former, before)
    if not isinstance(nested, dict):
        raise ModelError(f"{file}: {_NESTED}: expected an object, got {type(nested).__name__}")
    if before is not None and (names := _differing(nested, before)):
        _say(f"{file}: differs from {PREPROCESSOR} in {', '.join(names)}, and is what counts, as in transformers 5")
    return file, nested


def _differing(settings: Mapping[str, Any], others: Mapping[str, Any]) -> list[str]:
    """Returns the names of the settings in which two files differ; what means "no" is alike."""
    return [
        name
        for name, usual in SIGLIP.items()
        if (settings.get(name, usual) or None) != (others.get(name, usual) or None)
    ]


@cache
def _say(notice: str) -> None:
    """Logs a notice the first time: a checkpoint's settings are read several times while it is loaded."""
    _log.warning("%s", notice)
