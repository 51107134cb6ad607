"""Which vocabulary lies in a folder of a Hugging Face checkpoint, and whether it fits the model there."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from mmtune.data.json_files import load_json
from mmtune.errors import DataError, ModelError
from mmtune.files import json_text
from mmtune.models.folder_files import CHAT_TEMPLATE, CONFIG, FORMER_SETTINGS, JSON, SENTENCEPIECE, SETTINGS
from mmtune.models.json_tokenizer import JsonTokenizer
from mmtune.models.spm_tokenizer import SentencePieceTokenizer
from mmtune.models.tokenizer import Tokenizer

_log = logging.getLogger(__name__)

_PROBE = "detect 2 cats ; d\u00e9j\u00e0 \u732b\n\ta"


def read_tokenizer(folder: Path, starts: bool = False) -> Tokenizer:
    """Returns the vocabulary of a checkpoint.

    That of `tokenizer.json`, which knows a fine-tune's own tokens, where there is one, otherwise that of
    `tokenizer.model`.

    Args:
        folder: Of the checkpoint.
        starts: Whether every prompt starts with bos, whatever the files say. PaliGemma's do: transformers' processor
            writes bos into the text itself, so that what it saves says that the vocabulary adds none.

    Raises:
        ModelError: When there is neither, or a file is broken.
    """
    file = vocabulary_file(folder)
    tokenizer = _from_json(folder, starts) if file.name == JSON else SentencePieceTokenizer(file.read_bytes())
    check_tokenizer(tokenizer, file)
    return tokenizer


def vocabulary_file(folder: Path) -> Path:
    """Returns the file of a checkpoint that holds its vocabulary.

    Raises:
        ModelError: When there is none.
    """
    for name in (JSON, SENTENCEPIECE):
        if (folder / name).is_file():
            return folder / name
    raise ModelError(f"{folder}: expected {JSON} or {SENTENCEPIECE}, found neither: a model needs its vocabulary")


def _from_json(folder: Path, starts: bool) -> Tokenizer:
    settings: dict[str, Any] = {}
    for name in (FORMER_SETTINGS, SETTINGS):
        if (folder / name).is_file():
            settings |= _object(folder / name)
    if (folder / CHAT_TEMPLATE).is_file():  # where transformers writes it since 4.51
        settings["chat_template"] = _text(folder / CHAT_TEMPLATE)
    if starts:
        settings["add_bos_token"] = True
    return JsonTokenizer(_text(folder / JSON), json_text(settings, indent=2) + "\n")


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ModelError(f"{file}: expected UTF-8, but byte {error.start} is none") from error


def check_tokenizer(tokenizer: Tokenizer, place: str | Path) -> None:
    """Raises a ModelError that names the place unless a vocabulary begins, ends and holds texts."""
    try:
        for name in ("bos", "eos", "pad"):
            getattr(tokenizer, name)
        tokenizer.decode(tokenizer.prompt(_PROBE))
    except ModelError as error:
        raise ModelError(f"{place}: {error}") from error


def fitted_tokenizer(tokenizer: Tokenizer, rows: int, place: str | Path) -> Tokenizer:
    """Returns the vocabulary for a model with so many embeddings; warns once where added tokens have none.

    Libraries add tokens to a vocabulary without resizing the embeddings: `<mask>`, `<image>`, a padding token.

    Args:
        tokenizer: As its files have it.
        rows: Rows of the model's embedding table.
        place: The vocabulary's file, for messages.

    Raises:
        ModelError: When tokens without an embedding are not merely added ones: the two do not belong together.
    """
    size = tokenizer.vocabulary_size
    if size <= rows:
        return tokenizer
    if not isinstance(tokenizer, JsonTokenizer) or tokenizer.ordinary_size > rows:
        raise ModelError(
            f"{place}: the tokenizer has {size} tokens, the model embeddings for {rows}: they do not belong together"
        )
    for name in ("bos", "eos"):
        if (token := getattr(tokenizer, name)) >= rows:
            raise ModelError(
                f"{place}: the tokenizer's {name} has the id {token}, the model embeddings for {rows} tokens: resize "
                "the model's embeddings where the token was added"
            )
    _warn(
        f"{place}: the tokenizer has {size} tokens, the model embeddings for {rows}: texts that use an added token "
        f"from id {rows} on are refused"
    )
    return replace(tokenizer, rows=rows)


def check_placeholder(tokenizer: Tokenizer, folder: Path) -> None:
    """Warns where vocabulary and `config.json` of a checkpoint give the image placeholder different ids.

    Our pass puts image tokens before the text without a placeholder, so that answers are right all the same.
    transformers writes the vocabulary's id and looks for the configuration's.
    """
    config = _object(folder / CONFIG)
    expected, token = config.get("image_token_id", config.get("image_token_index")), tokenizer.find("<image>")
    if expected is not None and token is not None and token != expected:
        _warn(
            f"{folder}: its vocabulary gives <image> the id {token}, its {CONFIG} {expected}: pictures are read right "
            "here, but not in transformers; check that the vocabulary is this model's"
        )


@cache
def _warn(message: str) -> None:
    """Warns of each thing once in a process, however often a model is loaded."""
    _log.warning(message)


def _object(file: Path) -> Mapping[str, Any]:
    try:
        content = load_json(file)
    except DataError as error:
        raise ModelError(str(error)) from error
    if not isinstance(content, Mapping):
        raise ModelError(f"{file}: expected a JSON object, found {type(content).__name__}")
    return content
