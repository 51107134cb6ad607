"""Text to token ids and back: what every vocabulary can do."""

import abc
import codecs
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from mmtune.codecs.boxes import LOCATION_TOKENS, SEGMENT_TOKENS
from mmtune.errors import ModelError

_HALVES = re.compile("[\ud800-\udfff]")
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class Tokenizer(abc.ABC):
    """A vocabulary, with PaliGemma's location and segmentation tokens where it has them."""

    @property
    @abc.abstractmethod
    def vocabulary_size(self) -> int:
        """Number of pieces; ids are below it."""

    @property
    @abc.abstractmethod
    def bos(self) -> int:
        """Id of the token that begins a prompt."""

    @property
    @abc.abstractmethod
    def eos(self) -> int:
        """Id of the token that ends an answer."""

    @property
    @abc.abstractmethod
    def pad(self) -> int:
        """Id of the token that fills rows."""

    @abc.abstractmethod
    def find(self, piece: str) -> int | None:
        """Returns the id of exactly this piece, or None."""

    @abc.abstractmethod
    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text, without bos and eos.

        Of control tokens that stand in a text, only those of chats, boxes and masks are read as such.
        """

    @abc.abstractmethod
    def save(self, folder: Path) -> None:
        """Writes the vocabulary into a folder as Hugging Face's checkpoints hold it; `read_tokenizer` reads it back."""

    @abc.abstractmethod
    def piece(self, token: int) -> str | bytes:
        """Returns the text of one token, or its bytes where it may be a part of a character; control tokens have none.

        Args:
            token: Below `vocabulary_size`.
        """

    @abc.abstractmethod
    def pieces(self) -> list[str]:
        """Returns the pieces in the order of their ids, as the vocabulary spells them; "" where an id has none."""

    @cached_property
    def loc(self) -> int | None:
        """Id of `<loc0000>`, the first of 1,024 location tokens with ids in a row; None in a text-only vocabulary.

        Raises:
            ModelError: When some of them are missing or have ids elsewhere.
        """
        return self._first(LOCATION_TOKENS)

    @cached_property
    def seg(self) -> int | None:
        """Id of `<seg000>`, the first of 128 segmentation tokens; as `loc`."""
        return self._first(SEGMENT_TOKENS)

    @property
    def puts_space(self) -> bool:
        """Whether a space that is no part of a text is put before it, as in Llama 2, to be taken off when decoding."""
        return False

    @property
    def chat_template(self) -> str:
        """The program that writes conversations, as the checkpoint brings it; "": none."""
        return ""

    @property
    def start(self) -> list[int]:
        """The ids before the text of a prompt: bos, unless the vocabulary's texts begin without."""
        return [self.bos]

    def prompt(self, text: str, closed: bool = True) -> list[int]:
        """Returns the ids of a prompt: `start`, the text, and the newline that closes it, added where it has none.

        Newlines at the end are tokenised apart: joined, pieces would merge across.

        Args:
            text: What is asked.
            closed: False for a text that is gone on with as it stands: no newline is added.
        """
        if not closed:
            return [*self.start, *self.encode(text)]
        body = text.rstrip("\n")
        return [*self.start, *self.encode(body), *self.encode(text[len(body) :] or "\n")]

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
        first = next((index for index, text in enumerate(texts) if text), None)
        if first is not None and self.puts_space:
            texts[first] = texts[first].removeprefix(" ")
        return texts

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of the ids; control tokens (bos, eos, padding) have none."""
        return "".join(self.texts(ids))

    def _first(self, pieces: Sequence[str]) -> int | None:
        first = self.find(pieces[0])
        if first is None:
            return None
        for expected, piece in enumerate(pieces, first):
            if (token := self.find(piece)) != expected:
                raise ModelError(
                    f"expected {piece} of the vocabulary to have the id {expected}, as {pieces[0]} has {first}, found "
                    f"{'none' if token is None else token}: location and segmentation tokens need ids in a row"
                )
        return first

    def _piece(self, token: int) -> str | bytes:
        return self.piece(int(token)) if 0 <= token < self.vocabulary_size else "\ufffd"


def whole_text(text: str) -> str:
    r"""Returns a text with U+FFFD for halves of characters: they stand for bytes of no text, and no library takes them.

    >>> whole_text("a\udcff") == "a\N{REPLACEMENT CHARACTER}"
    True
    """
    return _HALVES.sub("\ufffd", text)


def plain_piece(piece: str) -> str | bytes:
    """Returns what a piece of a SentencePiece vocabulary stands for: spaces for its marks, a byte for <0x41>."""
    if match := _BYTE.fullmatch(piece):
        return bytes([int(match[1], 16)])
    return piece.replace("▁", " ")


def _characters(run: list[bytes]) -> list[tuple[int, str]]:
    """Returns (index, characters) wherever a byte of a run of single bytes completes characters."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    last = len(run) - 1
    decoded = ((index, decoder.decode(byte, final=index == last)) for index, byte in enumerate(run))
    return [(index, text) for index, text in decoded if text]
