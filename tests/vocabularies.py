"""Small vocabularies of the chat families: the embedded one with their control tokens, as their real ones hold them."""

import functools
import json

from mmtune.models.spm_tokenizer import SentencePieceTokenizer
from mmtune.models.tiny import tiny_tokenizer

CONTROLS = {
    "gemma": ("<start_of_turn>", "<end_of_turn>"),
    "llama3": ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|end_of_text|>"),
}


def with_pieces(pieces):
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto.FromString(tiny_tokenizer().proto)
    for piece in pieces:
        model.pieces.add(piece=piece, score=0.0, type=sentencepiece_model_pb2.ModelProto.SentencePiece.USER_DEFINED)
    return SentencePieceTokenizer(model.SerializeToString(deterministic=True))


@functools.cache
def chat_tokenizer(family):
    """Returns the vocabulary of "gemma", "llama3" or "plain"."""
    return with_pieces(CONTROLS[family]) if family in CONTROLS else tiny_tokenizer()


LLAMA_3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA_3_CONTROLS = ("<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", *CONTROLS["llama3"][:3])
LINES = [
    "the cat sat on the mat, the dog didn't",
    "zwölf Boxkämpfer jagen 日本語 12345",
    "def f(x):\n    return x + 1\n\n",
]


@functools.cache
def llama_3_library(pieces=400):
    """Returns a small vocabulary built as Llama 3's tokenizer.json is, by the library that reads those."""
    import tokenizers
    from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, trainers

    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    built = tokenizers.Tokenizer(models.BPE())
    built.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA_3_SPLIT), "isolated"), letters])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=pieces, initial_alphabet=alphabet, show_progress=False)
    built.train_from_iterator(LINES * 9, trainer)
    content = json.loads(built.to_str())
    # The last pairs are no merges here: their pieces stand for a whole part of a text alone, as in the real one.
    content["model"] |= {"merges": content["model"]["merges"][:-20], "ignore_merges": True}
    built = tokenizers.Tokenizer.from_str(json.dumps(content))
    built.decoder = decoders.ByteLevel()
    built.add_special_tokens([AddedToken(piece, special=True, normalized=False) for piece in LLAMA_3_CONTROLS])
    return built


def keras_llama_3(content):
    """Returns KerasHub's tokenizer of a tokenizer.json, made of it as KerasHub does: no reserved tokens."""
    from keras_hub.models import Llama3Tokenizer

    added = {token["content"]: token["id"] for token in content["added_tokens"] if "reserved" not in token["content"]}
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in content["model"]["merges"]]
    return Llama3Tokenizer(content["model"]["vocab"] | added, merges, misc_special_tokens=set(added))
