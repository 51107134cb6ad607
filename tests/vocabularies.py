"""Small vocabularies of the chat families: the embedded one with their control tokens, as their real ones hold them."""

import functools

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
