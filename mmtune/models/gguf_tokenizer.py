"""The vocabulary in a GGUF file, as tokenizer.json would have it."""

import json
from typing import Any

from mmtune.errors import ModelError, unknown_name
from mmtune.models.byte_pairs import LLAMA_SPLITS, SPLITS, add_tokens, byte_pairs
from mmtune.models.gguf_files import GgufFile
from mmtune.models.hf_tokenizer import check_tokenizer
from mmtune.models.json_tokenizer import JsonTokenizer

# Kinds of tokens, as llama.cpp numbers them.
_CONTROL, _DEFINED = 3, 4
_NAMED = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}


def gguf_tokenizer(file: GgufFile) -> JsonTokenizer:
    """Returns the vocabulary of a file.

    Raises:
        ModelError: When it holds none, or one of another kind.
    """
    kind, tokens = file.fields.get("tokenizer.ggml.model"), _list(file, "tokens", str)
    if kind not in ("gpt2", "llama"):
        raise ModelError(f"{file.path}: {unknown_name('kind of vocabulary', str(kind)[:80], ('gpt2', 'llama'))}")
    kinds = [1] * len(tokens)
    if "tokenizer.ggml.token_type" in file.fields:
        kinds = _list(file, "token_type", int, len(tokens))
    named = {name: tokens[at] for name, key in _NAMED.items() if (at := _id(file, key, len(tokens))) is not None}
    # Where a file does not say, llama.cpp begins texts with bos in SentencePiece's and Llama 3's vocabularies only.
    usual = kind == "llama" or file.fields.get("tokenizer.ggml.pre") in LLAMA_SPLITS
    begins = bool(file.fields.get("tokenizer.ggml.add_bos_token", usual))
    try:
        model = _byte_pairs(file, tokens) if kind == "gpt2" else _pieces(file, tokens, kinds, named.get("unk"))
        control, defined = ([t for t, k in zip(tokens, kinds, strict=True) if k == one] for one in (_CONTROL, _DEFINED))
        add_tokens(model, control, defined, named["bos"] if begins and "bos" in named else None)
    except ModelError:
        raise
    except Exception as error:  # the library raises nothing narrower
        raise ModelError(f"{file.path}: its vocabulary cannot be used: {str(error)[:120]}") from error
    settings: dict[str, Any] = {f"{name}_token": token for name, token in named.items()} | {"add_bos_token": begins}
    if isinstance(template := file.fields.get("tokenizer.chat_template"), str):
        settings["chat_template"] = template
    tokenizer = JsonTokenizer(model.to_str(), json.dumps(settings, indent=2, ensure_ascii=False) + "\n")
    for name in ("bos", "eos"):
        if name not in named:
            raise ModelError(f"{file.path}: expected tokenizer.ggml.{name}_token_id, found none")
    check_tokenizer(tokenizer, file.path)
    return tokenizer


def _list(file: GgufFile, key: str, kind: type, count: int | None = None) -> list[Any]:
    """Returns a field that is a list, each of its entries of one kind; `count` is how many there must be."""
    found = file.fields.get(f"tokenizer.ggml.{key}")
    if not found:
        raise ModelError(f"{file.path}: expected the field tokenizer.ggml.{key}, found none")
    if not isinstance(found, list) or not all(type(one) is kind for one in found):
        raise ModelError(f"{file.path}: tokenizer.ggml.{key}: expected a list of {kind.__name__}, found another value")
    if count is not None and len(found) != count:
        raise ModelError(f"{file.path}: tokenizer.ggml.{key}: expected one a token, {count}, found {len(found)}")
    return found


def _id(file: GgufFile, key: str, tokens: int) -> int | None:
    name = f"tokenizer.ggml.{key}_token_id"
    found = file.fields.get(name)
    if found is not None and (type(found) is not int or not 0 <= found < tokens):
        raise ModelError(f"{file.path}: {name}: expected a number below {tokens}, found {str(found)[:80]}")
    return found


def _byte_pairs(file: GgufFile, tokens: list[str]) -> Any:
    """Byte pairs as in GPT-2 and Llama 3."""
    split = str(file.fields.get("tokenizer.ggml.pre", "default"))[:80]
    if split not in SPLITS:
        raise ModelError(f"{file.path}: {unknown_name('way to split texts', split, SPLITS)}")
    merges = [tuple(pair.split(" ")) for pair in _list(file, "merges", str)]
    return byte_pairs({token: i for i, token in enumerate(tokens)}, merges, split)


def _pieces(file: GgufFile, tokens: list[str], kinds: list[int], unknown: str | None) -> Any:
    """SentencePiece's pieces, as in Gemma: the pair that makes the likeliest piece is joined first."""
    import tokenizers
    from tokenizers import decoders, models, normalizers

    scores = _list(file, "scores", float, len(tokens))
    known = {token: i for i, token in enumerate(tokens)}
    pairs = []
    for token, score, kind in zip(tokens, scores, kinds, strict=True):
        if kind not in (_CONTROL, _DEFINED) and len(token) > 1:
            cuts = [(token[:at], token[at:]) for at in range(1, len(token))]
            made = [(known[a], known[b]) for a, b in cuts if a in known and b in known]
            pairs += [(-score, *pair) for pair in sorted(made)]
    pairs.sort(key=lambda pair: pair[0])
    merges = [(tokens[a], tokens[b]) for _, a, b in pairs]
    model = tokenizers.Tokenizer(models.BPE(known, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    front = [normalizers.Prepend("▁")] if file.fields.get("tokenizer.ggml.add_space_prefix", True) else []
    model.normalizer = normalizers.Sequence([*front, normalizers.Replace(" ", "▁")])
    back = [decoders.Strip(" ", 1, 0)] if front else []
    model.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *back])
    return model
