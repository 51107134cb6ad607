"""Vocabularies in the form tokenizer.json, which the library tokenizers reads: Llama's, and most fine-tunes'."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, final

from mmtune.errors import ModelError
from mmtune.models.tokenizer import Tokenizer, plain_piece


@final
@dataclass(frozen=True)
class JsonTokenizer(Tokenizer):
    """A vocabulary as tokenizer.json describes it.

    Args:
        content: The file's text.
        begin, end: Pieces that begin a prompt and end an answer, as the files beside it name them.
        filler: The piece that fills rows; None: the one that ends an answer, as no row is ever read beyond its end.
    """

    content: str
    begin: str
    end: str
    filler: str | None = None

    @cached_property
    def _model(self) -> Any:
        import tokenizers

        try:
            model = tokenizers.Tokenizer.from_str(self.content)
        except Exception as error:  # the library raises nothing narrower
            raise ModelError(f"the tokenizer is no tokenizer.json: {error}") from error
        model.no_truncation()
        model.no_padding()
        return model

    @cached_property
    def vocabulary_size(self) -> int:
        """One more than the largest id."""
        return max(self._model.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    @cached_property
    def bos(self) -> int:
        """Id of `begin`."""
        return self._id(self.begin)

    @cached_property
    def eos(self) -> int:
        """Id of `end`."""
        return self._id(self.end)

    @cached_property
    def pad(self) -> int:
        """Id of `filler`."""
        return self.eos if self.filler is None else self._id(self.filler)

    def find(self, piece: str) -> int | None:
        """Returns the id of exactly this piece, or None."""
        return self._model.token_to_id(piece)

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text."""
        return self._model.encode(text, add_special_tokens=False).ids

    def piece(self, token: int) -> str | bytes:
        """Returns the text or the bytes of a token."""
        added = self._added.get(token)
        if added is not None:
            return "" if added.special else added.content
        piece = self._model.id_to_token(token)
        if piece is None:
            return "\ufffd"
        if not self._bytewise:
            return plain_piece(piece)
        return bytes(_bytes_of()[char] for char in piece) if all(char in _bytes_of() for char in piece) else piece

    @cached_property
    def _added(self) -> dict[int, Any]:
        return self._model.get_added_tokens_decoder()

    @cached_property
    def _bytewise(self) -> bool:
        """Whether the letters of the vocabulary are bytes, as in GPT-2's and Llama 3's."""
        return _names_byte_level(json.loads(self.content).get("decoder"))

    def _id(self, piece: str) -> int:
        found = self.find(piece)
        if found is None:
            raise ModelError(f"the tokenizer has no token {piece}, which the files beside it name")
        return found


def _names_byte_level(decoder: Any) -> bool:
    if not isinstance(decoder, Mapping):
        return False
    return decoder.get("type") == "ByteLevel" or any(map(_names_byte_level, decoder.get("decoders", ())))


@cache
def _bytes_of() -> dict[str, int]:
    """Returns the byte that each letter of a byte-level vocabulary stands for.

    Bytes that print as a character of Latin 1 are that character, the others the characters from U+0100 on.
    """
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + place): byte for place, byte in enumerate(hidden)}
