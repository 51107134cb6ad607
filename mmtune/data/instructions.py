"""Questions and conversations in rows of tables: messages in the forms of OpenAI and ShareGPT, and instructions."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mmtune.codecs.chat import MODEL, SYSTEM, USER, conversations, turn_fault
from mmtune.data.dataset import FaultLog
from mmtune.data.json_lines import short
from mmtune.data.tables import as_texts, first_key
from mmtune.records import Record, Turn

CHATS = ("messages", "conversations", "conversation")
ASKS = ("prefix", "instruction", "prompt", "question", "query")
CONTEXTS = ("input", "context")
ANSWERS = ("suffix", "output", "completion", "response", "answers", "answer", "texts", "text")
SYSTEMS = ("system", "system_prompt")
COLUMNS = (*CHATS, *ASKS, *CONTEXTS, *ANSWERS, *SYSTEMS, "id")
"""Every name that this file understands."""

_ROLES = {
    "system": SYSTEM, "developer": SYSTEM,
    "user": USER, "human": USER,
    "assistant": MODEL, "gpt": MODEL, "model": MODEL, "chatgpt": MODEL, "bot": MODEL,
}  # fmt: skip
_SPEAKERS, _SAYINGS = ("role", "from"), ("content", "value", "text")
_PICTURES = ("image", "img", "picture", "photo")

Asked = tuple[tuple[Turn, ...], tuple[str, ...]]
"""What was said, and where the last turn is the user's the right answers."""


class _UnusableError(Exception):
    """Why a row cannot be used: kind and problem of its fault."""


def _malformed(expected: str, found: Any) -> _UnusableError:
    return _UnusableError("malformed value", f"expected {expected}, found {short(found)}")


def is_conversation(values: Mapping[str, Any]) -> bool:
    """Whether a row holds a list of messages."""
    return any(isinstance(values.get(name), list) for name in CHATS) and not _picture(values)


def is_instruction(values: Mapping[str, Any]) -> bool:
    """Whether a row holds a question and its answer, and no picture."""
    asks = first_key(values, ASKS) or first_key(values, CONTEXTS)
    return asks is not None and first_key(values, ANSWERS) is not None and not _picture(values)


def text_record(values: Mapping[str, Any], place: str, name: str, log: FaultLog) -> Record | None:
    """Returns the record of a row.

    Args:
        values: The row: `messages` or `conversations`, or a question and its answer under their usual names. An
            instruction's `input` follows it after an empty line; `system` is the system's turn.
        place: "file:line", or what names the row otherwise.
        name: The record's id where the row has none.
        log: Takes "missing key", "malformed value", "picture beside a text" and the kinds of `turn_fault`; then the
            row is left out.
    """
    key = values.get("id")
    given = isinstance(key, (str, int)) and not isinstance(key, bool) and key != ""
    record = Record(str(key) if given else name, source=place)
    try:
        if picture := _picture(values):
            raise _UnusableError("picture beside a text", f"expected a text alone, found a picture under {picture}")
        turns, texts = _asked(values)
        if texts and len(turns) == 1:
            found = Record(record.id, prefix=turns[0].text, texts=texts, source=place)
        else:
            found = Record(record.id, texts=texts, turns=turns, source=place)
        for course in conversations(found) or (turns,):
            if fault := turn_fault(course):
                raise _UnusableError(*fault)
    except _UnusableError as reason:
        kind, problem = reason.args
        log.add(place, record.id, kind, f"{problem}; it is left out")
        return None
    return found


def text_records(
    rows: Iterable[tuple[int, str, Mapping[str, Any]]], name: str, log: FaultLog
) -> Iterator[tuple[int, Record]]:
    """Yields the number of each row that can be used and its record.

    Args:
        rows: (number, place, values) of each row.
        name: What stands before the number in the ids of rows without one.
        log: Takes the faults.
    """
    for number, place, values in rows:
        record = text_record(values, place, f"{name}{number}", log)
        if record is not None:
            yield number, record


def _picture(values: Mapping[str, Any]) -> str | None:
    named = (key for key, value in values.items() if value)
    return next((key for key in named if any(word in key.lower() for word in _PICTURES)), None)


def _asked(values: Mapping[str, Any]) -> Asked:
    chat = next((name for name in CHATS if values.get(name) is not None), None)
    prompt, completion = values.get("prompt"), values.get("completion")
    system = _system(values)
    texts: tuple[str, ...] = ()
    if chat is not None:
        turns = _turns(values[chat], chat)
        if turns and turns[-1].role == USER and first_key(values, ANSWERS) is not None:
            texts = _answers(values)
    elif isinstance(prompt, list) and isinstance(completion, list):
        turns = _turns([*prompt, *completion], "prompt and completion")
    else:
        return (*system, Turn(USER, _question(values))), _answers(values)
    return (turns if turns and turns[0].role == SYSTEM else (*system, *turns)), texts


def _system(values: Mapping[str, Any]) -> tuple[Turn, ...]:
    name = first_key(values, SYSTEMS)
    text = values[name] if name is not None else None
    if text is not None and not isinstance(text, str):
        raise _malformed(f"a string as {name}", text)
    return (Turn(SYSTEM, text),) if text and text.strip() else ()


def _turns(items: Any, name: str) -> tuple[Turn, ...]:
    if not isinstance(items, Sequence) or isinstance(items, str):
        raise _malformed(f"a list of messages as {name}", items)
    return tuple(_turn(item, number) for number, item in enumerate(items, start=1))


def _turn(item: Any, number: int) -> Turn:
    values = item if isinstance(item, Mapping) else {}
    speaker, saying = first_key(values, _SPEAKERS), first_key(values, _SAYINGS)
    role = values[speaker] if speaker is not None else None
    text = _content(values[saying]) if saying is not None else None
    if not isinstance(role, str) or text is None:
        raise _malformed(f"role and content (texts) in turn {number}", item)
    weight = values.get("weight")
    weight = 1.0 if weight is None else weight
    if not isinstance(weight, (int, float)) or not 0 <= weight < float("inf"):
        raise _malformed(f"a weight of 0 or more in turn {number}", weight)
    return Turn(_ROLES.get(role.lower(), role), text, float(weight))


def _content(value: Any) -> str | None:
    """Returns a text, or the texts of a list of parts one after the other; None for anything else."""
    if not isinstance(value, list):
        return value if isinstance(value, str) else None
    texts = [part.get("text") if isinstance(part, Mapping) else part for part in value]
    known = [text for text in texts if isinstance(text, str)]
    return "".join(known) if len(known) == len(texts) else None


def _question(values: Mapping[str, Any]) -> str:
    ask = first_key(values, ASKS) or first_key(values, CONTEXTS)
    if ask is None or first_key(values, ANSWERS) is None:
        names = [name for name, value in values.items() if value is not None]
        found = f"the keys {', '.join(names)}" if names else "nothing"
        raise _UnusableError(
            "missing key",
            f"expected messages, or a question and its answer such as instruction and output, found {found}",
        )
    question = values[ask]
    context = next((values[name] for name in CONTEXTS if name != ask and values.get(name)), "")
    for value in (question, context):
        if not isinstance(value, str):
            raise _malformed(f"a string as {ask}", value)
    return f"{question}\n\n{context}" if context.strip() else question


def _answers(values: Mapping[str, Any]) -> tuple[str, ...]:
    name = str(first_key(values, ANSWERS))
    texts = as_texts(values[name])
    if texts is None:
        raise _malformed(f"a string or a list of strings as {name}", values[name])
    if not texts:
        raise _UnusableError("empty answer", f"expected a text as {name}, found none")
    return texts
