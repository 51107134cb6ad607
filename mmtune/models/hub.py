"""Models on the Hugging Face hub, fetched whole into the hub's own cache and checked before they are read."""

import errno
import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmtune.errors import ModelError, UsageError
from mmtune.models.folder_files import FETCHED, WEIGHTS

SCHEME = "hf://"

_SHA256 = re.compile("[0-9a-f]{64}")
_CHECKED = ".mmtune-checked"


def fetch(address: str, *, weights: bool = True) -> Path:
    """Returns the folder of a model, downloaded where the cache does not hold it yet; a cut download is gone on with.

    Args:
        address: `hf://org/name`, or with `@` and a revision behind.
        weights: False: all files but the weights.

    Raises:
        UsageError: When the address is none.
        ModelError: When the model cannot be had, in one sentence.
    """
    from huggingface_hub import snapshot_download

    name, revision = split_address(address)
    with sentences(address, revision or "main"):
        left: list[str] = [] if weights else list(WEIGHTS)
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=list(FETCHED), ignore_patterns=left))
        if not any(folder.rglob("*.json")):
            raise ModelError(f"{address}: expected a model (config.json and weights), found none in this repository")
        _check(folder, address)
    return folder


def split_address(address: str) -> tuple[str, str | None]:
    """Returns the name and the revision, if any, of `hf://org/name@revision`.

    Raises:
        UsageError: When it is no such address.
    """
    name, _, revision = address.removeprefix(SCHEME).partition("@")
    if name.count("/") != 1 or not all(name.split("/")):
        raise UsageError(f"{address}: expected hf://org/name, or hf://org/name@revision")
    return name, revision or None


def _check(folder: Path, address: str) -> None:
    """Compares large files with the hashes that the hub knows them by, each once; a wrong one is removed."""
    checked = folder.parent.parent / _CHECKED
    for file in sorted(folder.rglob("*")):
        blob = file.resolve()
        if not file.is_file() or not _SHA256.fullmatch(blob.name) or (checked / blob.name).exists():
            continue
        with blob.open("rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
        if found != blob.name:
            file.unlink()
            blob.unlink(missing_ok=True)
            raise ModelError(
                f"{address}: {file.name} was damaged on its way (its hash is not the hub's) and was removed: try again"
            )
        checked.mkdir(exist_ok=True)
        (checked / blob.name).touch()


@contextmanager
def sentences(address: str, revision: str) -> Iterator[None]:
    """Turns what goes wrong with the hub into one sentence."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        problem = "access is granted by its owner: accept the licence on its page, and log in with `hf auth login`"
        raise ModelError(f"{address}: {problem}") from error
    except errors.RepositoryNotFoundError as error:
        problem = "there is no such model on the hub, or it is private: check the name, or log in with `hf auth login`"
        raise ModelError(f"{address}: {problem}") from error
    except errors.RevisionNotFoundError as error:
        raise ModelError(f"{address}: the model has no revision {revision}") from error
    except errors.HFValidationError as error:
        raise UsageError(f"{address}: {error}") from error
    except (errors.LocalEntryNotFoundError, errors.HfHubHTTPError, RuntimeError) as error:  # the last around uploads
        raise ModelError(f"{address}: {_answer(error)}") from error
    except OSError as error:
        full = error.errno == errno.ENOSPC
        problem = "there is no room left for it on the disk" if full else f"the transfer failed: {_first(error)}"
        raise ModelError(f"{address}: {problem}; what is complete is kept, try again") from error


def _answer(error: BaseException) -> str:
    """Returns what the hub answered, or that it could not be asked."""
    cause: BaseException | None = error
    while cause is not None:
        response = getattr(cause, "response", None)
        if response is not None:
            if response.status_code == 429:
                return "the hub wants fewer requests (429): try again in a few minutes, or log in with `hf auth login`"
            if response.status_code in (401, 403):
                return f"the hub refuses this ({response.status_code}): log in with `hf auth login`"
            return f"the hub answered with the status {response.status_code}: try again later"
        cause = cause.__cause__
    return "it is not in the cache, and the hub cannot be reached: check the network (and HF_HUB_OFFLINE)"


def _first(error: BaseException) -> str:
    return str(error).strip().split("\n")[0][:160]
