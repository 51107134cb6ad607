"""The files of a Keras preset's folder, looked at before KerasHub reads them: its own errors name no file."""

from pathlib import Path

from mmtune.errors import ModelError
from mmtune.models.config_files import read_object
from mmtune.models.folder_files import CONFIG
from mmtune.models.folder_files import PRESET_INDEX as _INDEX
from mmtune.models.folder_files import PRESET_WEIGHTS as _WEIGHTS


def check_preset(folder: Path) -> None:
    """Raises a ModelError unless a folder's files can be those of a preset; names the file."""
    import h5py
    import keras
    import keras_hub  # noqa: F401 - registers its classes

    content = read_object(folder / CONFIG)
    name = content.get("registered_name")
    if not isinstance(name, str) or not isinstance(content.get("config"), dict):
        raise ModelError(f"{folder / CONFIG}: expected registered_name and config of a Keras preset, found none")
    if keras.saving.get_registered_object(name) is None:
        raise ModelError(f"{folder / CONFIG}: Keras knows no class {name[:80]}")
    if (folder / _INDEX).is_file():
        read_object(folder / _INDEX)
    elif not (folder / _WEIGHTS).is_file():
        raise ModelError(f"{folder}: expected weights in {_WEIGHTS}, or in several files with {_INDEX}, found neither")
    for file in sorted(folder.glob("*.weights.h5")):
        try:
            h5py.File(file).close()
        except OSError as error:
            raise ModelError(f"{file}: no HDF5 file, or cut off: {str(error)[:120]}") from error
