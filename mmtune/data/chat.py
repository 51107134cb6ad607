"""Reader of texts to be answered: conversations and instructions, as JSON lines or JSON lists."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, final

from mmtune.data.confinement import open_file
from mmtune.data.dataset import FaultLog
from mmtune.data.instructions import is_conversation, is_instruction, text_records
from mmtune.data.json_files import load_json
from mmtune.data.json_lines import json_rows, parsed_line, short
from mmtune.data.reader import Content, Reader, Source
from mmtune.data.tables import TableFile, choose_split, table_files, with_unique_ids
from mmtune.errors import DataError
from mmtune.records import Record

SUFFIXES = (".jsonl", ".ndjson", ".json")
_HEAD = 1 << 20


@final
class Chat(Reader):
    """Reads a file with a conversation or an instruction a line, or a list of them, or a folder with a file per split.

    - {"messages": [{"role": "user", "content": ...}, {"role": "assistant", "content": ...}]}, a system's turn first if
      you like; a turn of the assistant's with "weight": 0 is read but not taught.
    - {"conversations": [{"from": "human", "value": ...}, {"from": "gpt", "value": ...}]}.
    - {"instruction", "input", "output"}, {"prompt", "completion"}, {"question", "answer"} and the like.
    """

    name: ClassVar[str] = "chat"
    expects: ClassVar[str] = (
        'JSON with a conversation a line, {"messages": [{"role": ..., "content": ...}, ...]}, or a list of '
        '{"instruction": ..., "output": ...}'
    )

    def claims(self, path: Path) -> bool:
        """Whether the (first) file holds conversations, or is a list of instructions: lines of these are jsonl too."""
        files = table_files(path, SUFFIXES, _is_chat)
        return bool(files) and _is_chat(files[0].path)

    def splits(self, path: Path) -> Sequence[str]:
        """Returns the names of the splits found at `path`."""
        return tuple(file.split for file in _files(path) if file.split)

    def read(self, source: Source, log: FaultLog) -> Content:
        """Reads the wanted split, or all of them; see `Reader.read`."""
        found = _files(source.path)
        if not found:
            raise DataError(f"{source.path}: expected {self.expects}; found no such file")
        records: list[Record] = []
        marks: list[str] = []
        for file in choose_split(source.path, found, source.split):
            for number, record in text_records(_rows(file.path, log), f"{file.path.name}:", log):
                records.append(record)
                marks.append(f"{file.split}:{number}" if len(found) > 1 else str(number))
        return Content(with_unique_ids(records, marks))


def _files(path: Path) -> Sequence[TableFile]:
    return table_files(path, SUFFIXES, lambda file: (first := _first(file)) is not None and _is_text(first[0]))


def _is_chat(file: Path) -> bool:
    first = _first(file)
    return first is not None and (is_conversation(first[0]) or (first[1] and is_instruction(first[0])))


def _is_text(values: Mapping[str, Any]) -> bool:
    return is_conversation(values) or is_instruction(values)


def _first(file: Path) -> tuple[Mapping[str, Any], bool] | None:
    """Returns the first JSON object of a file and whether it is one of a list; None where the file begins otherwise."""
    try:
        with open_file(file) as stream:
            head = stream.read(_HEAD).removeprefix(b"\xef\xbb\xbf").lstrip()
    except OSError:
        return None
    if head.startswith(b"["):
        try:
            values, _ = json.JSONDecoder().raw_decode(head[1:].decode("utf-8", "ignore").lstrip())
        except (ValueError, RecursionError):
            return None
        return (values, True) if isinstance(values, dict) else None
    lines = (parsed_line(line) for line in head.splitlines() if line.strip())
    values = next((values for values in lines if isinstance(values, dict)), None)
    return None if values is None else (values, False)


def _rows(file: Path, log: FaultLog) -> Iterator[tuple[int, str, Mapping[str, Any]]]:
    if not _is_list(file):
        for row in json_rows(file, log):
            yield row.number, row.place, row.values
        return
    for index, values in enumerate(load_json(file)):
        place = f"{file}, item {index}"
        if isinstance(values, dict):
            yield index, place, values
        else:
            log.add(place, None, "malformed line", f"expected a JSON object, found {short(values)}; it is left out")


def _is_list(file: Path) -> bool:
    try:
        with open_file(file) as stream:
            return stream.read(_HEAD).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")
    except OSError as error:
        raise DataError(f"{file}: expected a file that can be read: {error.strerror}") from error
