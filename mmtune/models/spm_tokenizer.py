"""SentencePiece vocabularies, as PaliGemma and Gemma have them."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, final

from mmtune.codecs.boxes import OBJECT_TOKENS
from mmtune.errors import ModelError
from mmtune.files import atomic, write_json
from mmtune.models.folder_files import SENTENCEPIECE, SETTINGS
from mmtune.models.tokenizer import Tokenizer, plain_piece, whole_text

_MASK = "<mask>"


@final
@dataclass(frozen=True)
class SentencePieceTokenizer(Tokenizer):
    """A SentencePiece vocabulary.

    Args:
        proto: The serialised SentencePiece model.
        begins: Whether prompts begin with bos.
    """

    proto: bytes
    begins: bool = True

    @cached_property
    def _model(self) -> Any:
        import sentencepiece
        from google.protobuf.message import DecodeError

        if not self.proto:
            # An empty model is no error to SentencePiece until it is used.
            raise ModelError("the tokenizer is no SentencePiece model: its file is empty")
        try:
            model = sentencepiece.SentencePieceProcessor(model_proto=self.proto)
            model.id_to_piece(list(range(model.vocab_size())))
            defined = _defined(self.proto, model)
            return model if defined is None else sentencepiece.SentencePieceProcessor(model_proto=defined)
        except (RuntimeError, UnicodeDecodeError, DecodeError) as error:  # UnicodeDecodeError: pieces that are no text
            raise ModelError(f"the tokenizer is no SentencePiece model: {str(error)[:160]}") from error

    @property
    def vocabulary_size(self) -> int:
        """Number of pieces."""
        return self._model.vocab_size()

    @property
    def bos(self) -> int:
        """Id of the piece that the model calls so."""
        return self._control("bos")

    @property
    def eos(self) -> int:
        """Id of the piece that the model calls so."""
        return self._control("eos")

    @property
    def pad(self) -> int:
        """Id of the piece that the model calls so; where there is none, the end, beyond which no row is read."""
        return self.eos if self._model.pad_id() < 0 else self._model.pad_id()

    @property
    def start(self) -> list[int]:
        """bos, or nothing."""
        return [self.bos] if self.begins else []

    @cached_property
    def puts_space(self) -> bool:
        """Whether the model puts a space before texts."""
        space = self.find("▁")
        return space is not None and self._model.decode([space]) == ""

    def find(self, piece: str) -> int | None:
        """Returns the id of exactly this piece, or None."""
        found = self._model.piece_to_id(piece)
        return found if self._model.id_to_piece(found) == piece else None

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text."""
        return self._model.encode(whole_text(text))

    def save(self, folder: Path) -> None:
        """Writes `tokenizer.model`, and `tokenizer_config.json`, which says how transformers is to use it."""
        with atomic(folder / SENTENCEPIECE) as temporary:
            temporary.write_bytes(self.proto)
        names = {f"{name}_token": self._model.id_to_piece(i) for name, i in self._controls().items()}
        kind = "LlamaTokenizer" if self.puts_space else "GemmaTokenizer"
        config = {"tokenizer_class": kind, "add_bos_token": self.begins, "add_eos_token": False, **names}
        if self.find(_MASK) is None:
            config["mask_token"] = None  # or transformers 5 adds it to Gemma's vocabularies, beyond the embeddings
        write_json(folder / SETTINGS, config)

    def _controls(self) -> dict[str, int]:
        return {"bos": self.bos, "eos": self.eos, "pad": self.pad, "unk": self._model.unk_id()}

    def _control(self, name: str) -> int:
        found = getattr(self._model, f"{name}_id")()
        if found < 0:
            raise ModelError(f"the tokenizer has no piece that it calls {name}")
        return found

    def piece(self, token: int) -> str | bytes:
        """Returns the text or the byte of a token."""
        if self._model.is_control(token):
            return ""
        piece = self._model.id_to_piece(token)
        return plain_piece(piece) if self._model.is_byte(token) else piece.replace("▁", " ")

    def pieces(self) -> list[str]:
        """Returns the pieces of the model."""
        return self._model.id_to_piece(list(range(self.vocabulary_size)))


def _defined(proto: bytes, model: Any) -> bytes | None:
    """Returns the model with the tokens of boxes and masks as user-defined symbols, None where they are already.

    Only user-defined symbols are always one token: normal pieces are merged from pairs, control symbols never read.
    """
    from sentencepiece import sentencepiece_model_pb2

    ids = [token for piece in OBJECT_TOKENS if model.id_to_piece(token := model.piece_to_id(piece)) == piece]
    if not ids:
        return None
    messages: Any = sentencepiece_model_pb2
    message = messages.ModelProto.FromString(proto)
    kind = messages.ModelProto.SentencePiece.USER_DEFINED
    others = [message.pieces[token] for token in ids if message.pieces[token].type != kind]
    for piece in others:
        piece.type = kind
    return message.SerializeToString(deterministic=True) if others else None
