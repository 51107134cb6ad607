"""Chat templates: a conversation as the text that a family of models was tuned on, token by token.

Sources: the `chat_template` in the tokenizer_config.json of google/gemma-2-2b-it (the same in Gemma 1, 1.1 and 2), of
meta-llama/Meta-Llama-3-8B-Instruct, and of HuggingFaceTB/SmolLM2-135M-Instruct (ChatML). The token that begins a text
is not part of it: every prompt gets it anyway.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mmtune.records import Record, Span, Target, Turn

if TYPE_CHECKING:
    from mmtune.models.tokenizer import Tokenizer

SYSTEM, USER, MODEL = "system", "user", "assistant"
ROLES = (SYSTEM, USER, MODEL)


@dataclass(frozen=True)
class ChatTemplate:
    """How a conversation is written.

    Attributes:
        name: What the option `template` calls it.
        system, user, model: What stands before a text of each role. No `system`: such text stands in front of the
            first user's, an empty line between them.
        end: The token behind a turn; "" in a template without one, whose answers end with the end of sequence.
        gap: What stands between turns.
        pieces: The tokens that are the template's own.
        stops: Those behind which an answer cannot go on, besides `end`.
        trim: Whether texts are written without the white space around them.
        opening: What the system says where a conversation begins without it; "": nothing.
        closed: Whether a newline closes what is asked, where the template has none of its own.
    """

    name: str
    system: str | None
    user: str
    model: str
    end: str
    gap: str
    pieces: tuple[str, ...] = ()
    stops: tuple[str, ...] = ()
    trim: bool = True
    opening: str = ""
    closed: bool = True

    def prompt(self, turns: Sequence[Turn]) -> str:
        r"""Returns what the model goes on from when it has the word, without the token that begins a text.

        >>> GEMMA.prompt([Turn("user", "Hi ")])
        '<start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n'

        Args:
            turns: At least one, as `turn_fault` accepts them; the last is the user's.
        """
        return "".join(self._written(turn) + self.gap for turn in self._tidy(turns)) + self.model

    def target(self, turns: Sequence[Turn], first: int) -> Target:
        """Returns what the model is to write, and what users say in between without any loss.

        Args:
            turns: A conversation whose last turn is the model's; the token that ends it is left out, as the end of
                every target is.
            first: Where in it the target begins: at one of the model's turns.
        """
        spans: list[Span] = []
        said = ""
        rest = self._trimmed(turns[first:])
        for place, turn in enumerate(rest):
            if turn.role != MODEL:
                said += self.gap + self._written(turn) + self.gap + self.model
                continue
            spans += [Span(said, 0.0)] if said else []
            spans.append(Span(turn.text + (self.end if place < len(rest) - 1 else ""), turn.weight))
            said = ""
        return tuple(spans)

    def ends(self, tokenizer: "Tokenizer") -> tuple[int, ...]:
        """Returns the ids behind which an answer is over, that of targets first.

        They are the end of a turn, where the template has one, and all ends of a sequence.
        """
        found = [tokenizer.find(piece) for piece in (self.end, *self.stops) if piece]
        return tuple(dict.fromkeys([*(one for one in found if one is not None), tokenizer.eos]))

    def missing(self, tokenizer: "Tokenizer") -> list[str]:
        """Returns the control tokens that a vocabulary lacks, or splits when it meets them in a text."""
        return [piece for piece in self.pieces if not _single(tokenizer, piece)]

    def _written(self, turn: Turn) -> str:
        before = {SYSTEM: self.system or "", USER: self.user, MODEL: self.model}[turn.role]
        return before + turn.text + self.end

    def _tidy(self, turns: Sequence[Turn]) -> list[Turn]:
        tidy = self._trimmed(turns)
        if self.opening and (not tidy or tidy[0].role != SYSTEM):
            tidy = [Turn(SYSTEM, self.opening), *tidy]
        if self.system is None and len(tidy) > 1 and tidy[0].role == SYSTEM:
            joined = replace(tidy[1], text=f"{tidy[0].text}\n\n{tidy[1].text}".strip())
            return [joined, *tidy[2:]]
        return tidy

    def _trimmed(self, turns: Sequence[Turn]) -> list[Turn]:
        return [replace(turn, text=turn.text.strip()) if self.trim else turn for turn in turns]


GEMMA = ChatTemplate(
    name="gemma",
    system=None,
    user="<start_of_turn>user\n",
    model="<start_of_turn>model\n",
    end="<end_of_turn>",
    gap="\n",
    pieces=("<start_of_turn>", "<end_of_turn>"),
)

LLAMA_3 = ChatTemplate(
    name="llama3",
    system="<|start_header_id|>system<|end_header_id|>\n\n",
    user="<|start_header_id|>user<|end_header_id|>\n\n",
    model="<|start_header_id|>assistant<|end_header_id|>\n\n",
    end="<|eot_id|>",
    gap="",
    pieces=("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    stops=("<|end_of_text|>", "<|eom_id|>"),
)

CHATML = ChatTemplate(
    name="chatml",
    system="<|im_start|>system\n",
    user="<|im_start|>user\n",
    model="<|im_start|>assistant\n",
    end="<|im_end|>",
    gap="\n",
    pieces=("<|im_start|>", "<|im_end|>"),
    stops=("<|endoftext|>",),
    trim=False,
)

PLAIN = ChatTemplate(name="plain", system="", user="", model="", end="", gap="\n")
"""PaliGemma's way to ask: the text and a newline. For vocabularies without control tokens of a chat."""

TEXT = ChatTemplate(name="text", system="", user="", model="", end="", gap="", trim=False, closed=False)
"""Nothing around the text: the model goes on with it, as it was pretrained to do."""

TEMPLATES = {template.name: template for template in (GEMMA, LLAMA_3, CHATML, PLAIN, TEXT)}

CONTROLS = tuple(piece for template in TEMPLATES.values() for piece in template.pieces)
"""The control tokens of all templates."""


def _single(tokenizer: "Tokenizer", piece: str) -> bool:
    # One that is not found must not be encoded: the vocabulary may have it, and the model no embedding for it.
    return (found := tokenizer.find(piece)) is not None and tokenizer.encode(piece) == [found]


def template_of(tokenizer: "Tokenizer") -> ChatTemplate:
    """Returns the template whose control tokens a vocabulary has, the plain one for a vocabulary without any."""
    return next(opened(template, tokenizer) for template in TEMPLATES.values() if not template.missing(tokenizer))


def opened(template: ChatTemplate, tokenizer: "Tokenizer") -> ChatTemplate:
    """Returns the template with what the system says first according to the vocabulary's own published template.

    Of that template nothing else is read: it is a program, and ours are checked against the published ones.
    """
    if template.system is None or not template.pieces:
        return template
    begin, end = re.escape(template.system), re.escape(template.end)
    found = re.search(f"{begin}([^{{}}]+?){end}", tokenizer.chat_template)
    return replace(template, opening=found[1]) if found else template


def conversations(record: Record) -> tuple[tuple[Turn, ...], ...]:
    """Returns the right courses of a record's conversation, each with an answer of the model at its end.

    There are several where a question has several right answers (`texts`), and none where it has no answer.
    """
    turns = history(record)
    if record.texts:
        return tuple((*turns, Turn(MODEL, text)) for text in record.texts)
    return (turns,) if turns and turns[-1].role == MODEL else ()


def history(record: Record) -> tuple[Turn, ...]:
    """Returns what was said according to a record, answers in `texts` not included; a prefix is the user's."""
    if record.turns:
        return record.turns
    return (Turn(USER, record.prefix),) if record.prefix is not None else ()


def taught_places(turns: Sequence[Turn]) -> list[int]:
    """Returns where in a conversation the answers stand that are taught; the last answer where none is."""
    answers = [place for place, turn in enumerate(turns) if turn.role == MODEL]
    return [place for place in answers if turns[place].weight > 0] or answers[-1:]


def turn_fault(turns: Sequence[Turn]) -> tuple[str, str] | None:
    """Returns what keeps a conversation from being trained on, as a kind of fault and a sentence; None: nothing.

    Args:
        turns: All of it: a system's turn or none, then the user's and the model's in turn, the model's last.
    """
    for number, turn in enumerate(turns, start=1):
        if turn.role not in ROLES:
            return "unknown role", f"expected one of {', '.join(ROLES)}, found '{turn.role}' in turn {number}"
    talk = list(turns[1:] if turns and turns[0].role == SYSTEM else turns)
    shift = len(turns) - len(talk) + 1
    if not talk:
        return "empty conversation", "expected a question and its answer, found neither"
    for place, turn in enumerate(talk):
        expected = (USER, MODEL)[place % 2]
        if turn.role != expected:
            return "role order", f"expected turn {place + shift} to be the {expected}'s, found the {turn.role}'s"
        if not turn.text.strip():
            kind = "empty answer" if turn.role == MODEL else "empty question"
            return kind, f"expected a text in turn {place + shift}, the {turn.role}'s, found none"
    if talk[-1].role != MODEL:
        return "no last answer", f"expected the last turn to be the {MODEL}'s, found the {talk[-1].role}'s"
    if not any(turn.weight for turn in talk if turn.role == MODEL):
        return "no weight", f"expected a turn of the {MODEL}'s with a weight above 0, found none"
    return None
