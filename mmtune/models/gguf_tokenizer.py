"""The vocabulary in a GGUF file, as tokenizer.json would have it."""

import json
from typing import Any

from mmtune.errors import ModelError, unknown_name
from mmtune.models.gguf_files import GgufFile
from mmtune.models.json_tokenizer import JsonTokenizer

# Kinds of tokens, as llama.cpp numbers them.
_CONTROL, _DEFINED = 3, 4

# How texts are split before pairs of bytes are joined, by the name that llama.cpp gives it.
_LLAMA_3 = "|".join(
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",
        r"[^\r\n\p{L}\p{N}]?\p{L}+",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)
_SPLITS = ("default", "gpt-2", "llama-bpe", "llama3", "smollm")


def gguf_tokenizer(file: GgufFile) -> JsonTokenizer:
    """Returns the vocabulary of a file.

    Raises:
        ModelError: When it holds none, or one of another kind.
    """
    from tokenizers import AddedToken, processors

    kind, tokens = _field(file, "model"), _field(file, "tokens")
    kinds = file.fields.get("tokenizer.ggml.token_type") or [1] * len(tokens)
    if kind not in ("gpt2", "llama"):
        raise ModelError(f"{file.path}: {unknown_name('kind of vocabulary', str(kind), ('gpt2', 'llama'))}")
    named = {
        name: tokens[int(file.fields[f"tokenizer.ggml.{key}_token_id"])]
        for name, key in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"), ("unk", "unknown"))
        if f"tokenizer.ggml.{key}_token_id" in file.fields
    }
    model = _byte_pairs(file, tokens) if kind == "gpt2" else _pieces(file, tokens, kinds, named.get("unk"))
    special = [token for token, one in zip(tokens, kinds, strict=True) if one == _CONTROL]
    defined = [token for token, one in zip(tokens, kinds, strict=True) if one == _DEFINED]
    model.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    model.add_tokens([AddedToken(token, normalized=False, special=False) for token in defined])
    begins = bool(file.fields.get("tokenizer.ggml.add_bos_token", True))
    if begins and "bos" in named:
        bos = named["bos"]
        model.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, model.token_to_id(bos))]
        )
    settings: dict[str, Any] = {f"{name}_token": token for name, token in named.items()} | {"add_bos_token": begins}
    if "tokenizer.chat_template" in file.fields:
        settings["chat_template"] = file.fields["tokenizer.chat_template"]
    tokenizer = JsonTokenizer(model.to_str(), json.dumps(settings, indent=2, ensure_ascii=False) + "\n")
    for name in ("bos", "eos"):
        try:
            getattr(tokenizer, name)
        except ModelError as error:
            raise ModelError(f"{file.path}: expected tokenizer.ggml.{name}_token_id, found none") from error
    return tokenizer


def _field(file: GgufFile, key: str) -> Any:
    found = file.fields.get(f"tokenizer.ggml.{key}")
    if not found:
        raise ModelError(f"{file.path}: expected the field tokenizer.ggml.{key}, found none")
    return found


def _byte_pairs(file: GgufFile, tokens: list[str]) -> Any:
    """Byte pairs as in GPT-2 and Llama 3."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers

    split = str(file.fields.get("tokenizer.ggml.pre", "default"))
    if split not in _SPLITS:
        raise ModelError(f"{file.path}: {unknown_name('way to split texts', split, _SPLITS)}")
    merges = [tuple(pair.split(" ")) for pair in _field(file, "merges")]
    model = tokenizers.Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if split == "smollm":
        letters = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), letters])
    if split in ("llama-bpe", "llama3"):
        parts = pre_tokenizers.Split(tokenizers.Regex(_LLAMA_3), "isolated")
        letters = pre_tokenizers.Sequence([parts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    model.pre_tokenizer = letters
    model.decoder = decoders.ByteLevel()
    return model


def _pieces(file: GgufFile, tokens: list[str], kinds: list[int], unknown: str | None) -> Any:
    """SentencePiece's pieces, as in Gemma: the pair that makes the likeliest piece is joined first."""
    import tokenizers
    from tokenizers import decoders, models, normalizers

    scores = _field(file, "scores")
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
    model.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return model
