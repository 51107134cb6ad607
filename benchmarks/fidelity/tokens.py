"""Vocabularies: the same text, the same tokens."""

import json
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.fidelity.finding import Finding, versioned

_TEXTS = (
    "The cat sat on the mat.",
    "def f(x):\n    return x + 1\n",
    "if a:\n        b = [1, 22, 333, 4444]\n",
    "\tindented by a tab",
    "It's 12:30, isn't it?",
    "Two  spaces   and three.",
    "One line\n\nand another.\n",
    "1234567 + 89 = 1234656",
    "x_1 = y2 * 3.14159",
    "naïve café, 日本語 and 😀",
    "    \n    only spaces before",
    "(a), [b]; {c}!",
    "a table:\n  1   22   333\n",
    "    1. one\n    2. two\n",
)
_CONTROL = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
# How Llama 3 splits text before byte pairs are merged.
_LLAMA_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def llama_split() -> Finding:
    """Without TensorFlow KerasHub gives its split pattern to tokenizers as a text to look for, not as a pattern."""
    import keras_hub
    from transformers import AutoTokenizer

    from mmtune.models.hf_tokenizer import read_tokenizer

    built = _llama()
    with TemporaryDirectory() as name:
        folder = Path(name)
        built.save(str(folder / "tokenizer.json"))
        named = {"bos_token": _CONTROL[0], "eos_token": _CONTROL[1], "tokenizer_class": "PreTrainedTokenizerFast"}
        (folder / "tokenizer_config.json").write_text(json.dumps(named))
        (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
        theirs: Any = keras_hub.models.Llama3Tokenizer.from_preset(name)
        reference, ours = AutoTokenizer.from_pretrained(name), read_tokenizer(folder)
    return Finding(
        f"Of {len(_TEXTS)} texts, how many does a vocabulary like Llama 3's cut as its own `tokenizer.json` says (read "
        f"by {versioned('tokenizers')})?",
        "KerasHub",
        f"{version('keras-hub')} without TensorFlow",
        _same(built, [[int(i) for i in theirs(text)] for text in _TEXTS]),
        versioned("transformers"),
        _same(built, [reference.encode(text, add_special_tokens=False) for text in _TEXTS]),
        _same(built, [ours.encode(text) for text in _TEXTS]),
    )


def gguf_digits() -> Finding:
    """The cut before each digit is lost: texts are split as GPT-2 splits them."""
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    from mmtune.models.gguf_files import GgufFile
    from mmtune.models.gguf_tokenizer import gguf_tokenizer

    digits = pre_tokenizers.Digits(individual_digits=True)
    built = _trained(pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)]))
    with TemporaryDirectory() as name:
        file = Path(name) / "model.gguf"
        _write_gguf(file, built)
        theirs = AutoTokenizer.from_pretrained(name, gguf_file=file.name)
        ours = gguf_tokenizer(GgufFile(file))
    return Finding(
        f"Of {len(_TEXTS)} texts, how many does a vocabulary like SmolLM2's, which cuts numbers into digits, cut as "
        "before when it is read from a GGUF file?",
        "transformers",
        version("transformers"),
        _same(built, [theirs.encode(text, add_special_tokens=False) for text in _TEXTS]),
        f"the vocabulary itself, by {versioned('tokenizers')}",
        _same(built, [built.encode(text, add_special_tokens=False).ids for text in _TEXTS]),
        _same(built, [ours.encode(text) for text in _TEXTS]),
    )


def unasked_start() -> Finding:
    """KerasHub's preprocessor forgets `add_start_token` where it prepares a prompt."""
    import keras_hub
    import numpy as np

    from mmtune.models.json_tokenizer import JsonTokenizer

    pieces = _llama()
    vocabulary, merges = pieces.get_vocab(), json.loads(pieces.to_str())["model"]["merges"]
    joined = [pair if isinstance(pair, str) else " ".join(pair) for pair in merges]
    cutter = keras_hub.models.Llama3Tokenizer(vocabulary=vocabulary, merges=joined)
    preprocess: Any = keras_hub.models.Llama3CausalLMPreprocessor(
        tokenizer=cutter, sequence_length=32, add_start_token=False
    )
    start = vocabulary[_CONTROL[0]]

    def starts(inputs: Any) -> int:
        ids, mask = (np.asarray(inputs[name])[0] for name in ("token_ids", "padding_mask"))
        return int((ids[mask.astype(bool)] == start).sum())

    settings = {"bos_token": _CONTROL[0], "eos_token": _CONTROL[1], "add_bos_token": False}
    ours = JsonTokenizer(pieces.to_str(), json.dumps(settings))
    return Finding(
        "A vocabulary begins no text with a start token (`add_start_token=False`): how many stand before a "
        "prompt of `generate`?",
        "KerasHub",
        version("keras-hub"),
        starts(preprocess.generate_preprocess(["The cat"])),
        f"{versioned('keras-hub', 'KerasHub')}, for `fit`",
        starts(preprocess(["The cat"])[0]),
        ours.prompt("The cat").count(start),
    )


def _llama() -> Any:
    """Returns a vocabulary in the manner of Llama 3."""
    from tokenizers import Regex, pre_tokenizers

    split = pre_tokenizers.Split(Regex(_LLAMA_SPLIT), "isolated")
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return _trained(pre_tokenizers.Sequence([split, letters]))


def _trained(pre_tokenizer: Any) -> Any:
    """Returns a byte-pair vocabulary learned on the texts below a way to split them."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    built: Any = Tokenizer(models.BPE())
    built.pre_tokenizer, built.decoder = pre_tokenizer, decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=_CONTROL, initial_alphabet=alphabet, show_progress=False
    )
    built.train_from_iterator(_TEXTS * 20, trainer)
    return built


def _same(built: Any, found: list[list[int]]) -> int:
    """Returns how many texts have the tokens of the vocabulary itself."""
    wanted = [built.encode(text, add_special_tokens=False).ids for text in _TEXTS]
    return sum(ids == right for ids, right in zip(found, wanted, strict=True))


def _write_gguf(file: Path, built: Any) -> None:
    """Writes a vocabulary as llama.cpp's converter writes SmolLM2's, with the sizes of a model but no weights."""
    import gguf

    vocabulary = built.get_vocab(with_added_tokens=True)
    tokens = sorted(vocabulary, key=vocabulary.get)
    merges = json.loads(built.to_str())["model"]["merges"]
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(32)
    writer.add_head_count(2)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in _CONTROL else 1 for token in tokens])
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in merges])
    writer.add_bos_token_id(vocabulary[_CONTROL[0]])
    writer.add_eos_token_id(vocabulary[_CONTROL[1]])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
