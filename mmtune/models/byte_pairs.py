"""Byte-pair encoding over bytes, as in GPT-2 and Llama 3: a pattern splits a text, then pairs are merged."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# Published with Llama 3 (meta-llama/llama3, tokenizer.py).
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
LLAMA_SPLITS = ("llama-bpe", "llama3")
SPLITS = ("default", "gpt-2", *LLAMA_SPLITS, "smollm")
"""How a text is split before pairs are merged, by the names that llama.cpp gives the patterns."""


def byte_pairs(vocabulary: Mapping[str, int], merges: Iterable[tuple[str, str]], split: str) -> Any:
    """Returns a `tokenizers.Tokenizer` without special tokens.

    Args:
        vocabulary: Id of each piece; pieces are written in the letters that stand for bytes.
        merges: Pairs of pieces, the first that is merged first.
        split: One of `SPLITS`.
    """
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers

    llama = split in LLAMA_SPLITS
    # Llama 3 takes a part of a text that is a piece as it is, whether or not its merges lead there.
    model = tokenizers.Tokenizer(models.BPE(dict(vocabulary), list(merges), ignore_merges=llama))
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not llama)
    if llama:
        parts = pre_tokenizers.Split(tokenizers.Regex(_LLAMA_3), "isolated")
        letters = pre_tokenizers.Sequence([parts, letters])
    if split == "smollm":
        letters = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), letters])
    model.pre_tokenizer = letters
    model.decoder = decoders.ByteLevel()
    return model


def add_tokens(model: Any, special: Sequence[str], plain: Sequence[str], bos: str | None) -> None:
    """Tells a tokenizer which tokens it finds in a text before anything else, and which one begins a text.

    Args:
        model: A `tokenizers.Tokenizer`.
        special: Control tokens; decoding skips them.
        plain: Tokens that are text, such as those of a fine-tune.
        bos: The token that begins a text; None: none does.
    """
    from tokenizers import AddedToken, processors

    model.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    model.add_tokens([AddedToken(token, normalized=False, special=False) for token in plain])
    if bos is not None:
        model.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, model.token_to_id(bos))]
        )
