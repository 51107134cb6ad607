"""Vocabularies in the form tokenizer.json, which the library tokenizers reads: Llama's, and most fine-tunes'."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, final

from mmtune.codecs.boxes import OBJECT_TOKENS
from mmtune.codecs.chat import CONTROLS
from mmtune.errors import DataError, ModelError
from mmtune.files import write_text
from mmtune.models.folder_files import JSON, SETTINGS
from mmtune.models.tokenizer import Tokenizer, plain_piece, whole_text

# What prompts and answers are written with: single tokens wherever the vocabulary has them, as registered tokens or
# (boxes and masks in the published PaliGemma files) among the pieces of its byte pairs only.
_SINGLE_TOKENS = (*CONTROLS, *OBJECT_TOKENS)


@final
@dataclass(frozen=True)
class JsonTokenizer(Tokenizer):
    """A vocabulary as tokenizer.json describes it.

    Args:
        content: The file's text.
        settings: The text of `tokenizer_config.json`, a JSON object: names the tokens that begin a prompt and end an
            answer, and may name one that fills rows (else the end does, as no row is ever read beyond it).
        rows: Rows of the model's embedding table where it has fewer than there are tokens: texts cannot use the others.
            None: all can be used.
    """

    content: str
    settings: str
    rows: int | None = None

    @cached_property
    def _model(self) -> Any:
        import tokenizers

        try:
            model = tokenizers.Tokenizer.from_str(self._readable)
        except Exception as error:  # the library raises nothing narrower
            raise ModelError(f"the tokenizer is no tokenizer.json: {str(error)[:160]}") from error
        model.no_truncation()
        model.no_padding()
        # What users write stays text, whatever it looks like, except the tokens of chats and objects.
        model.encode_special_tokens = True
        in_vocabulary = [piece for piece in _SINGLE_TOKENS if model.token_to_id(piece) is not None]
        model.add_tokens([tokenizers.AddedToken(piece, normalized=False) for piece in in_vocabulary])
        return model

    @cached_property
    def _readable(self) -> str:
        """The file's text, none of `_SINGLE_TOKENS` a control token in it: the library is to find them in texts.

        Cut there and encoded apart, texts would get other ids in vocabularies that put a space before the first only.
        """
        parsed = self._parsed
        added = parsed.get("added_tokens")
        found = [one for one in added if isinstance(one, dict)] if isinstance(added, list) else []
        hidden = [one for one in found if one.get("content") in _SINGLE_TOKENS and one.get("special") is True]
        if not hidden:
            return self.content
        for one in hidden:
            one["special"] = False
        return json.dumps(parsed, ensure_ascii=False)

    @cached_property
    def _parsed(self) -> dict[str, Any]:
        try:
            found = json.loads(self.content)
        except (ValueError, RecursionError):
            return {}  # the library says what is wrong
        return found if isinstance(found, dict) else {}

    @cached_property
    def vocabulary_size(self) -> int:
        """One more than the largest id that has an embedding."""
        size = max(self._model.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        return size if self.rows is None else min(size, self.rows)

    @cached_property
    def ordinary_size(self) -> int:
        """One more than the largest id of the pieces that any text is made of; added tokens may lie behind them."""
        ids = self._model.get_vocab(with_added_tokens=True).values()
        return max((token for token in ids if token not in self._added), default=-1) + 1

    @cached_property
    def bos(self) -> int:
        """Id of `bos_token`."""
        return self._control("bos")

    @cached_property
    def eos(self) -> int:
        """Id of `eos_token`."""
        return self._control("eos")

    @property
    def chat_template(self) -> str:
        """What the settings bring; of several templates, the one named default."""
        found = self._settings.get("chat_template")
        if isinstance(found, list):
            named = [entry for entry in found if isinstance(entry, Mapping) and entry.get("name") == "default"]
            found = named[0].get("template") if named else None
        return found if isinstance(found, str) else ""

    @cached_property
    def start(self) -> list[int]:
        """What the vocabulary itself puts before a text, unless the settings say whether bos begins one."""
        if isinstance(begins := self._settings.get("add_bos_token"), bool):
            return [self.bos] if begins else []
        return self._model.encode("", add_special_tokens=True).ids[:1]

    @cached_property
    def pad(self) -> int:
        """Id of `pad_token`, where there is one that the model has an embedding for."""
        piece = self._named("pad")
        token = None if piece is None else self.find(piece)
        return self.eos if token is None else token

    def find(self, piece: str) -> int | None:
        """Returns the id of exactly this piece, or None."""
        token = self._model.token_to_id(piece) if piece == whole_text(piece) else None
        return None if token is None or not self._embedded(token) else token

    def _embedded(self, token: int) -> bool:
        return self.rows is None or token < self.rows

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text; control tokens, but for `_SINGLE_TOKENS`, are read as the text they look like.

        Raises:
            DataError: When the text uses a token that the model has no embedding for.
        """
        encoded = self._model.encode(whole_text(text), add_special_tokens=False)
        for token, piece in zip(encoded.ids, encoded.tokens, strict=True) if self.rows is not None else ():
            if not self._embedded(token):
                raise DataError(
                    f"{text[:80]!r} uses the token {piece[:80]}, id {token}, but the model has embeddings for "
                    f"{self.rows} tokens only: leave it out, or resize the model's embeddings where it was added"
                )
        return encoded.ids

    def save(self, folder: Path) -> None:
        """Writes both files as they were read."""
        for name, text in ((JSON, self.content), (SETTINGS, self.settings)):
            write_text(folder / name, text)

    def piece(self, token: int) -> str | bytes:
        """Returns the text or the bytes of a token."""
        added = self._added.get(token)
        if added is not None:
            return "" if added.special or added.content in CONTROLS else added.content
        piece = self._model.id_to_token(token)
        if piece is None:
            return "\ufffd"
        if not self._bytewise:
            return plain_piece(piece)
        return bytes(_bytes_of()[char] for char in piece) if all(char in _bytes_of() for char in piece) else piece

    def pieces(self) -> list[str]:
        """Returns the pieces of `tokenizer.json`, added tokens among them, as far as the model has embeddings."""
        found = [""] * self.vocabulary_size
        for piece, token in self._model.get_vocab(with_added_tokens=True).items():
            if self._embedded(token):
                found[token] = piece
        return found

    @cached_property
    def _added(self) -> dict[int, Any]:
        return self._model.get_added_tokens_decoder()

    @cached_property
    def _bytewise(self) -> bool:
        """Whether the letters of the vocabulary are bytes, as in GPT-2's and Llama 3's."""
        return _decodes_with(self._parsed.get("decoder"), "ByteLevel")

    @cached_property
    def puts_space(self) -> bool:
        """Whether a decoder of the vocabulary takes a space off the front."""
        return _decodes_with(self._parsed.get("decoder"), "Strip")

    @cached_property
    def _settings(self) -> Mapping[str, Any]:
        return json.loads(self.settings)

    def _named(self, name: str) -> str | None:
        """Returns a control token, which stands as text or as an object with its content."""
        entry = self._settings.get(f"{name}_token")
        piece = entry.get("content") if isinstance(entry, Mapping) else entry
        return piece if isinstance(piece, str) else None

    def _control(self, name: str) -> int:
        piece = self._named(name)
        if piece is None:
            raise ModelError(f"expected {name}_token in {SETTINGS}, found none")
        found = self.find(piece)
        if found is None:
            raise ModelError(f"the tokenizer has no token {piece[:80]}, which {SETTINGS} calls {name}_token")
        return found


def _decodes_with(decoder: Any, kind: str) -> bool:
    """Whether a decoder is of a kind, or holds one; "Strip" is only what takes spaces off the front."""
    if not isinstance(decoder, Mapping):
        return False
    if decoder.get("type") == kind:
        return kind != "Strip" or (decoder.get("content") == " " and decoder.get("start", 0) > 0)
    return any(_decodes_with(inner, kind) for inner in decoder.get("decoders", ()))


@cache
def _bytes_of() -> dict[str, int]:
    """Returns the byte that each letter of a byte-level vocabulary stands for.

    Bytes that print as a character of Latin 1 are that character, the others the characters from U+0100 on.
    """
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + place): byte for place, byte in enumerate(hidden)}
