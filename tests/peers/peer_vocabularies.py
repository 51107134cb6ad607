"""Vocabularies of the supported families, trained on twenty scripts, as a checkpoint's folder holds them."""

import io
import json

import sentencepiece
import tokenizers
from script_strings import corpus
from sentencepiece import sentencepiece_model_pb2
from test_peer_chat import LLAMA_SPLIT
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers

from mmtune.files import write_json

# What a prompt may hold: boxes and masks are written and read as text.
PLACES = (*(f"<loc{i:04d}>" for i in range(1024)), *(f"<seg{i:03d}>" for i in range(128)))
GEMMA_TURNS = ("<start_of_turn>", "<end_of_turn>")
LLAMA_TURNS = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
_BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))


def pieces(folder, *, space):
    """SentencePiece: Gemma's, or Llama 2's, which puts a space before texts and has nothing that fills rows."""
    written = io.BytesIO()
    controls = dict(zip(("pad", "eos", "bos", "unk"), ("<pad>", "<eos>", "<bos>", "<unk>"), strict=True))
    ids = {"pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3}
    if space:
        controls |= {"bos": "<s>", "eos": "</s>"}
        ids = {"pad_id": -1, "unk_id": 0, "bos_id": 1, "eos_id": 2}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()),
        model_writer=written,
        model_type="bpe",
        vocab_size=1600,
        byte_fallback=True,
        normalization_rule_name="identity",
        add_dummy_prefix=space,
        remove_extra_whitespaces=False,
        split_digits=True,
        character_coverage=0.98,
        user_defined_symbols=[] if space else ["\n", "<unused0>"],
        **{f"{name}_piece": piece for name, piece in controls.items()},
        **ids,
        num_threads=1,
        minloglevel=2,
    )
    model = sentencepiece_model_pb2.ModelProto.FromString(written.getvalue())
    for piece in () if space else (*GEMMA_TURNS, *PLACES):
        model.pieces.add(piece=piece, score=0.0, type=sentencepiece_model_pb2.ModelProto.SentencePiece.USER_DEFINED)
    (folder / "tokenizer.model").write_bytes(model.SerializeToString(deterministic=True))
    kind = "LlamaTokenizer" if space else "GemmaTokenizer"
    names = {f"{name}_token": piece for name, piece in controls.items() if not (space and name == "pad")}
    write_json(folder / "tokenizer_config.json", names | {"tokenizer_class": kind})


def bytewise(folder):
    """Byte pairs over bytes, split as Llama 3 splits."""
    built = tokenizers.Tokenizer(models.BPE(ignore_merges=True))
    split = pre_tokenizers.Split(Regex(LLAMA_SPLIT), "isolated")
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    built.pre_tokenizer = pre_tokenizers.Sequence([split, letters])
    built.decoder = decoders.ByteLevel()
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<pad>", *LLAMA_TURNS]
    _train(built, special, vocab_size=1500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    _write(folder, built, dict(zip(("bos", "eos", "pad"), special, strict=False)))


def spaced(folder, *, front):
    """Byte pairs over characters, bytes for the rest: Gemma's tokenizer.json, or Llama 2's with a space in front.

    Args:
        folder: Of the checkpoint.
        front: Where a space is put: "" nowhere, "each" before each part between tokens, "first" before the text.
    """
    built = tokenizers.Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    back = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if front == "first":
        built.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    else:
        prepend = [normalizers.Prepend("▁")] if front else []
        built.normalizer = normalizers.Sequence([*prepend, normalizers.Replace(" ", "▁")])
    built.decoder = decoders.Sequence([*back, *([decoders.Strip(" ", 1, 0)] if front else [])])
    special = ["<bos>", "<eos>", "<pad>", "<unk>", *GEMMA_TURNS]
    _train(built, [*special, *_BYTES], vocab_size=1800, limit_alphabet=400)
    content = json.loads(built.to_str())
    # Bytes are no control tokens; the trainer can only make them as such.
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] not in _BYTES]
    built = tokenizers.Tokenizer.from_str(json.dumps(content))
    _write(folder, built, dict(zip(("bos", "eos", "pad", "unk"), special, strict=False)))


def _train(built, special, **options):
    trainer = trainers.BpeTrainer(special_tokens=special, show_progress=False, **options)
    built.train_from_iterator(corpus(), trainer)


def _write(folder, built, names):
    built.add_tokens([AddedToken(piece, normalized=False) for piece in PLACES])
    (folder / "tokenizer.json").write_text(built.to_str(), encoding="utf-8")
    settings = {f"{name}_token": piece for name, piece in names.items()}
    write_json(folder / "tokenizer_config.json", settings | {"tokenizer_class": "PreTrainedTokenizerFast"})


WRITERS = {
    "gemma pieces": lambda folder: pieces(folder, space=False),
    "llama 2 pieces": lambda folder: pieces(folder, space=True),
    "llama 3 bytes": bytewise,
    "gemma json": lambda folder: spaced(folder, front=""),
    "llama 2 json": lambda folder: spaced(folder, front="each"),
    "llama 2 json of today": lambda folder: spaced(folder, front="first"),
}
