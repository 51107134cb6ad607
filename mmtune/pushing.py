"""A model's folder to the Hugging Face hub or to Kaggle."""

from pathlib import Path

from mmtune.errors import ModelError, UsageError
from mmtune.models.folder_files import ADAPTER_CONFIG, CONFIG
from mmtune.models.hub import SCHEME, sentences, split_address
from mmtune.run_files import RECIPE

KAGGLE = "kaggle://"

# What shows that a folder holds a model; a run's own file is for us alone.
_MODELS = (CONFIG, ADAPTER_CONFIG)


def files_to_push(folder: Path) -> list[tuple[str, int]]:
    """Returns the files of a model's folder by their paths in it, and their bytes; hidden ones stay where they are.

    Raises:
        UsageError: When the folder holds no model.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: expected the folder of a model, such as `mmtune export` writes; there is none")
    if (folder / RECIPE).is_file():
        raise UsageError(f"{folder}: expected a model that others can load, found a run: write one by `mmtune export`")
    if not any((folder / name).is_file() for name in _MODELS):
        raise UsageError(f"{folder}: expected the folder of a model, with {' or '.join(_MODELS)}")
    if folder.suffix == ".failed":
        raise UsageError(f"{folder}: this is what was left of an export that failed: it is not the model")
    found = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
    shown = [path for path in found if not any(part.startswith(".") for part in path.parts)]
    return [(path.as_posix(), (folder / path).stat().st_size) for path in shown]


def push(folder: str | Path, address: str, *, private: bool = False) -> str:
    """Uploads a model and returns where it is to be found.

    What arrived whole is not sent again, so that a cut upload goes on where it stopped; nothing shows on the hub before
    all of it is there.

    Args:
        folder: As `Model.export` writes it.
        address: `hf://org/name`, made where it does not exist; or `kaggle://owner/model/keras/variation`.
        private: Whether a model that is made on the hub is seen by its owners alone.

    Raises:
        UsageError: When the folder holds no model, or the address is none.
        ModelError: When it cannot be uploaded, in one sentence.
    """
    folder = Path(folder)
    names = [name for name, _ in files_to_push(folder)]
    if address.startswith(KAGGLE):
        return _to_kaggle(folder, address)
    if not address.startswith(SCHEME):
        raise UsageError(
            f"{address}: expected an address such as hf://org/name or kaggle://owner/model/keras/variation"
        )
    from huggingface_hub import HfApi

    name, revision = split_address(address)
    api = HfApi()
    with sentences(address, revision or "main"):
        api.create_repo(name, private=private or None, exist_ok=True)
        done = api.upload_folder(
            repo_id=name, folder_path=folder, revision=revision, allow_patterns=names, commit_message="Upload by mmtune"
        )
    return str(done.commit_url)


def _to_kaggle(folder: Path, address: str) -> str:
    import kagglehub
    from kagglehub.exceptions import KaggleApiHTTPError

    handle = address.removeprefix(KAGGLE)
    if handle.count("/") != 3 or not all(handle.split("/")):
        raise UsageError(f"{address}: expected kaggle://owner/model/framework/variation")
    try:
        kagglehub.model_upload(handle, str(folder), ignore_patterns=[".*"])
    except (KaggleApiHTTPError, OSError, ValueError) as error:
        raise ModelError(f"{address}: the upload failed: {str(error).strip().splitlines()[0][:200]}") from error
    return address
