"""SentencePiece vocabularies, as PaliGemma and Gemma have them."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

from mmtune.errors import ModelError
from mmtune.models.tokenizer import Tokenizer, plain_piece


@final
@dataclass(frozen=True)
class SentencePieceTokenizer(Tokenizer):
    """A SentencePiece vocabulary.

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
        """Number of pieces."""
        return self._model.vocab_size()

    @property
    def bos(self) -> int:
        """Id of the piece that the model calls so."""
        return self._model.bos_id()

    @property
    def eos(self) -> int:
        """Id of the piece that the model calls so."""
        return self._model.eos_id()

    @property
    def pad(self) -> int:
        """Id of the piece that the model calls so."""
        return self._model.pad_id()

    def find(self, piece: str) -> int | None:
        """Returns the id of exactly this piece, or None."""
        found = self._model.piece_to_id(piece)
        return found if self._model.id_to_piece(found) == piece else None

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text."""
        return self._model.encode(text)

    def piece(self, token: int) -> str | bytes:
        """Returns the text or the byte of a token."""
        if self._model.is_control(token):
            return ""
        piece = self._model.id_to_piece(token)
        return plain_piece(piece) if self._model.is_byte(token) else piece.replace("▁", " ")
