"""The vocabulary of a Keras preset: a SentencePiece model, or the byte pairs of Llama 3."""

import json
import re
from pathlib import Path
from typing import Any

from mmtune.errors import ModelError
from mmtune.models.byte_pairs import LLAMA_SPLITS, add_tokens, byte_pairs
from mmtune.models.config_files import read_object
from mmtune.models.folder_files import JSON as TOKENIZER
from mmtune.models.folder_files import PRESET_MERGES as MERGES
from mmtune.models.folder_files import PRESET_PIECES as PIECES
from mmtune.models.folder_files import PRESET_PREPROCESSOR as PREPROCESSOR
from mmtune.models.folder_files import PRESET_VOCABULARY as VOCABULARY
from mmtune.models.hf_tokenizer import check_tokenizer
from mmtune.models.json_tokenizer import JsonTokenizer
from mmtune.models.preset_files import preset_file
from mmtune.models.spm_tokenizer import SentencePieceTokenizer
from mmtune.models.tokenizer import Tokenizer

_BYTE_PAIRS = "Llama3Tokenizer"
# The tokens that this class names by default; a preset does not store them.
_NAMES = {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"}
_CONTROL = re.compile(r"<\|.+\|>")


def read_preset_tokenizer(place: str) -> Tokenizer:
    """Returns the vocabulary of a preset; of a remote one, only the files of the vocabulary are fetched.

    Args:
        place: Folder, name or address of the preset.

    Raises:
        ModelError: When there is none, or a file is broken or asks for what is not done here; names the file.
    """
    config, begins = _settings(place, TOKENIZER), _begins(place)
    for name in ("add_bos", "add_eos", "add_prefix_space"):
        if config.get(name):
            raise ModelError(f"{place}/{TOKENIZER}: {name}: {config[name]!r} is not supported: expected false")
    if (pieces := preset_file(place, PIECES)) is not None:
        tokenizer, file = SentencePieceTokenizer(pieces.read_bytes(), begins), pieces
    else:
        vocabulary, merges = preset_file(place, VOCABULARY), preset_file(place, MERGES)
        if vocabulary is None or merges is None:
            raise ModelError(
                f"{place}: expected the vocabulary {PIECES}, or {VOCABULARY} with {MERGES}, found neither: a model "
                "needs its vocabulary"
            )
        tokenizer, file = _llama_3(place, vocabulary, merges, config.get("unsplittable_tokens"), begins), vocabulary
    check_tokenizer(tokenizer, file)
    return tokenizer


def _settings(place: str, name: str) -> dict[str, Any]:
    """Returns what KerasHub stores of a layer: the arguments to make it again, none where the file is not there."""
    file = preset_file(place, name)
    found = {} if file is None else read_object(file).get("config")
    if not isinstance(found, dict):
        raise ModelError(f"{file}: expected the config of a Keras layer, found none")
    return found


def _begins(place: str) -> bool:
    """Whether prompts begin with bos."""
    begins = _settings(place, PREPROCESSOR).get("add_start_token", True)
    if not isinstance(begins, bool):
        raise ModelError(f"{place}/{PREPROCESSOR}: add_start_token: expected true or false, got {str(begins)[:80]}")
    return begins


def _llama_3(place: str, vocabulary: Path, merges: Path, special: Any, begins: bool) -> JsonTokenizer:
    name = None if (file := preset_file(place, TOKENIZER)) is None else read_object(file).get("class_name")
    if name != _BYTE_PAIRS:
        raise ModelError(
            f"{place}/{TOKENIZER}: expected the class {_BYTE_PAIRS} for {VOCABULARY}, got {str(name)[:80]}: how its "
            "texts are split is not known here"
        )
    ids = _ids(vocabulary)
    named = [token for token in special if isinstance(token, str)] if isinstance(special, list) else []
    control = [token for token in ids if token in named or _CONTROL.fullmatch(token)]
    try:
        model = byte_pairs(ids, _merges(merges, ids), LLAMA_SPLITS[0])
        add_tokens(model, control, (), _NAMES["bos_token"] if begins and _NAMES["bos_token"] in ids else None)
        content = model.to_str()
    except ModelError:
        raise
    except Exception as error:  # the library raises nothing narrower
        raise ModelError(f"{vocabulary}: the vocabulary cannot be used: {str(error)[:120]}") from error
    return JsonTokenizer(content, json.dumps(_NAMES | {"add_bos_token": begins}, indent=2) + "\n")


def _ids(file: Path) -> dict[str, int]:
    found = read_object(file)
    wrong = next((token for token, number in found.items() if type(number) is not int or not 0 <= number < 2**31), None)
    if wrong is not None:
        raise ModelError(f"{file}: expected a number for each token, found {str(found[wrong])[:80]} for {wrong[:80]}")
    if len(set(found.values())) != len(found):
        raise ModelError(f"{file}: expected a number of its own for each token, found some twice")
    return found


def _merges(file: Path, ids: dict[str, int]) -> list[tuple[str, str]]:
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ModelError(f"{file}: expected UTF-8, but byte {error.start} is none") from error
    pairs: list[tuple[str, str]] = []
    for number, line in enumerate(lines, start=1):
        if not line or line.startswith("#version:"):
            continue
        left, _, right = line.partition(" ")
        if not all(piece in ids for piece in (left, right, left + right)):
            raise ModelError(f"{file}: line {number}: expected two tokens of {VOCABULARY}, found {line[:80]!r}")
        pairs.append((left, right))
    return pairs
