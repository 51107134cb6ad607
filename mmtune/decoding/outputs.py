"""From decoded ids to what a task reads."""

from mmtune.decoding.requests import Decoded
from mmtune.models.tokenizer import Tokenizer
from mmtune.records import Output


def as_output(decoded: Decoded, tokenizer: Tokenizer, ends: tuple[int, ...]) -> Output:
    """Returns the text and the tokens of an answer without the token that ended it.

    Args:
        decoded: What was written.
        tokenizer: The vocabulary.
        ends: Ids of the tokens that end an answer.
    """
    ids = list(decoded.ids)
    if ids and ids[-1] in ends:
        ids = ids[:-1]
    tokens = tokenizer.texts(ids)
    return Output("".join(tokens), tuple(tokens), decoded.logprobs[: len(ids)])
