"""Vocabularies in the form tokenizer.json, which the library tokenizers reads: Llama's, and most fine-tunes'."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, final

from mmtune.codecs.chat import CONTROLS
from mmtune.errors import ModelError
from mmtune.files import atomic
from mmtune.models.tokenizer import SETTINGS, Tokenizer, plain_piece

JSON = "tokenizer.json"
"""The vocabulary's file in a checkpoint."""


@final
@dataclass(frozen=True)
class JsonTokenizer(Tokenizer):
    """A vocabulary as tokenizer.json describes it.

    Args:
        content: The file's text.
        settings: The text of `tokenizer_config.json`, a JSON object: names the tokens that begin a prompt and end an
            answer, and may name one that fills rows (else the end does, as no row is ever read beyond it).
    """

    content: str
    settings: str

    @cached_property
    def _model(self) -> Any:
        import tokenizers

        try:
            model = tokenizers.Tokenizer.from_str(self.content)
        except Exception as error:  # the library raises nothing narrower
            raise ModelError(f"the tokenizer is no tokenizer.json: {error}") from error
        model.no_truncation()
        model.no_padding()
        # What users write stays text, whatever it looks like; `encode` picks out the tokens of chats.
        model.encode_special_tokens = True
        return model

    @cached_property
    def vocabulary_size(self) -> int:
        """One more than the largest id."""
        return max(self._model.get_vocab(with_added_tokens=True).values(), default=-1) + 1

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
        """What the settings bring."""
        found = self._settings.get("chat_template")
        return found if isinstance(found, str) else ""

    @cached_property
    def start(self) -> list[int]:
        """What the vocabulary itself puts before a text, unless the settings say whether bos begins one."""
        if isinstance(begins := self._settings.get("add_bos_token"), bool):
            return [self.bos] if begins else []
        return self._model.encode("", add_special_tokens=True).ids[:1]

    @cached_property
    def pad(self) -> int:
        """Id of `pad_token`, where there is one."""
        return self.eos if self._named("pad") is None else self._control("pad")

    def find(self, piece: str) -> int | None:
        """Returns the id of exactly this piece, or None."""
        return self._model.token_to_id(piece)

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text; of control tokens, all but those of chats are read as the text they look like."""
        ids: list[int] = []
        for place, part in enumerate(self._chat.split(text) if self._chat else [text]):
            ids += (
                [self._model.token_to_id(part)] if place % 2 else self._model.encode(part, add_special_tokens=False).ids
            )
        return ids

    @cached_property
    def _chat(self) -> re.Pattern[str] | None:
        known = [re.escape(piece) for piece in CONTROLS if self.find(piece) is not None]
        return re.compile(f"({'|'.join(known)})") if known else None

    def save(self, folder: Path) -> None:
        """Writes both files as they were read."""
        for name, text in ((JSON, self.content), (SETTINGS, self.settings)):
            with atomic(folder / name) as temporary:
                temporary.write_text(text, encoding="utf-8")

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
            raise ModelError(f"the tokenizer has no token {piece}, which {SETTINGS} calls {name}_token")
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
