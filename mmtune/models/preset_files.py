"""The files of a Keras preset, looked at before KerasHub reads them: its own errors name no file."""

from pathlib import Path
from typing import Any

from mmtune.errors import ModelError
from mmtune.models.config_files import read_object
from mmtune.models.folder_files import CONFIG
from mmtune.models.folder_files import PRESET_INDEX as _INDEX
from mmtune.models.folder_files import PRESET_WEIGHTS as _WEIGHTS

# Where Keras keeps the embedding tables within the weights.
_EMBEDDING = "layers/reversible_embedding/vars"


def preset_file(place: str, name: str) -> Path | None:
    """Returns a file of a preset, fetched where the preset is remote; None where there is none of that name.

    Args:
        place: Folder, name or address of the preset.
        name: The file's, within the preset.
    """
    if Path(place).is_dir():
        file = Path(place) / name
        return file if file.is_file() else None
    from keras_hub.src.utils.preset_utils import get_file

    try:
        return Path(get_file(place, name))
    except FileNotFoundError:
        return None


def preset_class(place: str) -> type:
    """Returns the class of a preset's backbone.

    Raises:
        ModelError: When the preset names none, or one that Keras does not know; names the file.
    """
    import keras
    import keras_hub  # noqa: F401 - registers its classes

    file = f"{place}/{CONFIG}"
    content = _content(place)
    name = content.get("registered_name")
    if not isinstance(name, str) or not isinstance(content.get("config"), dict):
        raise ModelError(f"{file}: expected registered_name and config of a Keras preset, found none")
    found = keras.saving.get_registered_object(name)
    if found is None:
        raise ModelError(f"{file}: Keras knows no class {name[:80]}")
    return found


def preset_dtype(place: str) -> Any:
    """Returns the dtype policies of a preset's layers where they are quantized; None where they are not.

    Raises:
        ModelError: When they are quantized in another way than int8.
    """
    dtype = _content(place)["config"].get("dtype")
    policies = dtype.get("config", {}).get("policy_map") if isinstance(dtype, dict) else None
    modes = {str(one.get("config", {}).get("mode")) for one in (policies or {}).values()}
    if modes - {"int8"}:
        raise ModelError(
            f"{place}/{CONFIG}: weights quantized as {', '.join(sorted(modes - {'int8'}))} are not supported: "
            "expected int8, or none quantized"
        )
    return dtype if policies else None


def check_weights(folder: Path) -> None:
    """Raises a ModelError unless a folder holds the weights of a preset; names the file."""
    import h5py

    if (folder / _INDEX).is_file():
        read_object(folder / _INDEX)
    elif not (folder / _WEIGHTS).is_file():
        raise ModelError(f"{folder}: expected weights in {_WEIGHTS}, or in several files with {_INDEX}, found neither")
    for file in sorted(folder.glob("*.weights.h5")):
        try:
            h5py.File(file).close()
        except OSError as error:
            raise ModelError(f"{file}: no HDF5 file, or cut off: {str(error)[:120]}") from error


def tied_embeddings(place: str) -> bool:
    """Whether the weights of a preset have one table for the embeddings of input and output."""
    import h5py

    single, index = preset_file(place, _WEIGHTS), None
    if single is None and (index := preset_file(place, _INDEX)) is None:
        return False
    names: Any = [_WEIGHTS] if index is None else read_object(index).get("weight_map", {}).get(f"/{_EMBEDDING}", [])
    tables: set[str] = set()
    for name in [names] if isinstance(names, str) else names:
        if (file := preset_file(place, name)) is not None:
            with h5py.File(file) as opened:
                tables |= {table for table in ("0", "1") if f"{_EMBEDDING}/{table}" in opened}
    return tables == {"0"}


def _content(place: str) -> dict[str, Any]:
    file = preset_file(place, CONFIG)
    if file is None:
        raise ModelError(f"{place}: expected {CONFIG} of a Keras preset, found none")
    return read_object(file)
