"""Which vocabulary lies in a folder of a Hugging Face checkpoint."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmtune.data.json_files import load_json
from mmtune.errors import DataError, ModelError
from mmtune.files import json_text
from mmtune.models.json_tokenizer import JSON, JsonTokenizer
from mmtune.models.spm_tokenizer import SENTENCEPIECE, SentencePieceTokenizer
from mmtune.models.tokenizer import SETTINGS, Tokenizer

# Control tokens are named in either file; what `SETTINGS` says counts.
_FORMER = "special_tokens_map.json"


def read_tokenizer(folder: Path) -> Tokenizer:
    """Returns the vocabulary of a checkpoint.

    That of `tokenizer.json`, which knows a fine-tune's own tokens, where there is one, otherwise that of
    `tokenizer.model`.

    Raises:
        ModelError: When there is neither, or a file is broken.
    """
    if (folder / JSON).is_file():
        return _from_json(folder)
    if (folder / SENTENCEPIECE).is_file():
        return SentencePieceTokenizer((folder / SENTENCEPIECE).read_bytes())
    raise ModelError(f"{folder}: expected {JSON} or {SENTENCEPIECE}, found neither: a model needs its vocabulary")


def _from_json(folder: Path) -> Tokenizer:
    settings: dict[str, Any] = {}
    for name in (_FORMER, SETTINGS):
        if (folder / name).is_file():
            settings |= _object(folder / name)
    try:
        content = (folder / JSON).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ModelError(f"{folder / JSON}: expected UTF-8, but byte {error.start} is none") from error
    tokenizer = JsonTokenizer(content, json_text(settings, indent=2) + "\n")
    try:
        for name in ("bos", "eos", "pad"):
            getattr(tokenizer, name)
    except ModelError as error:
        raise ModelError(f"{folder / JSON}: {error}") from error
    return tokenizer


def _object(file: Path) -> Mapping[str, Any]:
    try:
        content = load_json(file)
    except DataError as error:
        raise ModelError(str(error)) from error
    if not isinstance(content, Mapping):
        raise ModelError(f"{file}: expected a JSON object, found {type(content).__name__}")
    return content
