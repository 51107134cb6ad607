"""Text to token ids and back, for PaliGemma's and Gemma's SentencePiece vocabularies."""

import codecs
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mmtune.errors import ModelError

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


@dataclass(frozen=True)
class Tokenizer:
    """A SentencePiece vocabulary with PaliGemma's location and segmentation tokens, where it has them.

    Args:
        proto: The serialised SentencePiece model.
    """

    proto: bytes

    @cached_property
    def _model(self) -> Any:
        import sentencepiece

        if not self.proto:
            # An empty model is no error to SentencePiece until it is used.
            raise ModelError("the tokenizer is no SentencePiece model: its file is empty")
        try:
            return sentencepiece.SentencePieceProcessor(model_proto=self.proto)
        except RuntimeError as error:
            raise ModelError(f"the tokenizer is no SentencePiece model: {error}") from error

    @property
    def vocabulary_size(self) -> int:
        """Number of pieces; ids are below it."""
        return self._model.vocab_size()

    @property
    def bos(self) -> int:
        """Id of the token that begins a prompt."""
        return self._model.bos_id()

    @property
    def eos(self) -> int:
        """Id of the token that ends an answer."""
        return self._model.eos_id()

    @property
    def pad(self) -> int:
        """Id of the token that fills rows."""
        return self._model.pad_id()

    def find(self, piece: str) -> int | None:
        """Returns the id of exactly this piece, or None."""
        found = self._model.piece_to_id(piece)
        return found if self._model.id_to_piece(found) == piece else None

    @cached_property
    def loc(self) -> int | None:
        """Id of `<loc0000>`, the first of 1,024 location tokens with ids in a row; None in a text-only vocabulary."""
        return self.find("<loc0000>")

    @cached_property
    def seg(self) -> int | None:
        """Id of `<seg000>`, the first of 128 segmentation tokens; None for a text-only vocabulary."""
        return self.find("<seg000>")

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text, without bos and eos."""
        return self._model.encode(text)

    def prompt(self, text: str) -> list[int]:
        """Returns the ids of a prompt: bos, the text, and the newline that closes it, added where the text has none.

        Newlines at the end are tokenised apart: joined, pieces would merge across.
        """
        body = text.rstrip("\n")
        return [self.bos, *self.encode(body), *self.encode(text[len(body) :] or "\n")]

    def texts(self, ids: Sequence[int]) -> list[str]:
        """Returns the text of each token, so that joined they are the decoded text.

        A character spread over several byte tokens stands at the last of them; bytes that are no UTF-8, and ids past
        the vocabulary (a padded embedding table has more rows), become U+FFFD.
        """
        pieces = [self._piece(i) for i in ids]
        texts = [piece if isinstance(piece, str) else "" for piece in pieces]
        start = 0
        while start < len(pieces):
            if isinstance(pieces[start], str):
                start += 1
                continue
            end = start
            while end < len(pieces) and isinstance(pieces[end], bytes):
                end += 1
            for index, char in _characters([p for p in pieces[start:end] if isinstance(p, bytes)]):
                texts[start + index] += char
            start = end
        return texts

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of the ids; control tokens (bos, eos, padding) have none."""
        return "".join(self.texts(ids))

    def _piece(self, token: int) -> str | bytes:
        if not 0 <= token < self.vocabulary_size:
            return "\ufffd"
        if self._model.is_control(token):
            return ""
        piece = self._model.id_to_piece(token)
        if self._model.is_byte(token) and (match := _BYTE.fullmatch(piece)):
            return bytes([int(match[1], 16)])
        return piece.replace("▁", " ")


def _characters(run: list[bytes]) -> list[tuple[int, str]]:
    """Returns (index, characters) wherever a byte of a run of single bytes completes characters."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    last = len(run) - 1
    decoded = ((index, decoder.decode(byte, final=index == last)) for index, byte in enumerate(run))
    return [(index, text) for index, text in decoded if text]
