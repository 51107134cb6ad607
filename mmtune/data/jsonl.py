"""Reader of JSON lines in PaliGemma's form: {"image": name, "prefix": text, "suffix": text}."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

from mmtune.data.caption_rows import one_record_a_picture
from mmtune.data.chat import Chat
from mmtune.data.confinement import open_file
from mmtune.data.dataset import FaultLog
from mmtune.data.finding import FileIndex, picture_index
from mmtune.data.images import FilePicture
from mmtune.data.json_lines import Row, json_rows, parsed_line, short
from mmtune.data.objects import Where, numbers, usable_box
from mmtune.data.reader import Content, Reader, Source
from mmtune.data.suffixes import asked_classes, holds_boxes, known_size, with_suffix_boxes
from mmtune.data.tables import (
    TableFile,
    as_texts,
    choose_split,
    first_key,
    table_files,
    text_names,
    with_unique_ids,
)
from mmtune.data.vqa_items import answers_of, question_of
from mmtune.errors import DataError
from mmtune.records import Box, Record

IMAGE_KEYS = ("image", "file_name", "filename", "image_path", "path")
PREFIX_KEYS = ("prefix", "question", "prompt", "instruction")
_ANSWERS = ("answers", "answer")
_ALIKE = (
    ("suffix", "texts"), ("captions", "caption"), ("text", "transcription"), _ANSWERS,
    ("response", "completion", "output"),
)  # fmt: skip
"""Names of texts; of a group, a file may use one in some lines and another in others."""

TEXT_KEYS = tuple(key for group in _ALIKE for key in group)

_OWN_PROMPTS = ("captioning", "ocr")
"""Tasks that know what to ask where a line brings no prompt of its own."""

SUFFIXES = (".jsonl", ".ndjson")


@dataclass(frozen=True)
class _Keys:
    """Which keys the lines of a file use; None where no line has any of the usual ones."""

    image: str | None
    prefix: str | None
    text: str | None
    boxes: str | None


@final
class Jsonl(Reader):
    """Reads a file with one JSON object a line, or a folder with such a file per split.

    Keys: `image` is relative to the file, or to a folder `images` near it; without it in any line the records are text
    only. `prefix` is the prompt. `suffix` is a string, or a list of several right ones. In detection,
    `<loc0100><loc0200><loc0300><loc0400> cat ; ...` is parsed into boxes. `boxes` may stand for the suffix:
    a list of {"label": name, "box": [x0, y0, x1, y1]} in pixels. The words of other data sets for the same things
    (`file_name`, `question`, `caption`, `answers`, `prompt`, `response`, ...) are understood.

    Splits: `_annotations.train.jsonl`, `train.jsonl`, `train/annotations.jsonl`, also below `dataset/`.
    """

    name = "jsonl"
    expects = 'a file with one JSON object a line, {"image": ..., "prefix": ..., "suffix": ...}, or a folder of them'

    def claims(self, path: Path) -> bool:
        """Whether the (first) file holds JSON objects of this form, or is a .jsonl file of JSON objects."""
        files = [file.path for file in table_files(path, SUFFIXES)]
        if not files or files[0].name == "metadata.jsonl":  # the hub's folder of pictures
            return False
        try:
            with open_file(files[0]) as stream:
                first = stream.readline(1 << 20).removeprefix(b"\xef\xbb\xbf").strip()
        except OSError:
            return False
        if files[0].suffix.lower() in SUFFIXES:
            return first.startswith(b"{") or not first
        values = parsed_line(first)
        return isinstance(values, dict) and first_key(values, IMAGE_KEYS + PREFIX_KEYS) is not None

    def splits(self, path: Path) -> Sequence[str]:
        """Returns the names of the splits found at `path`."""
        return tuple(file.split for file in table_files(path, SUFFIXES) if file.split)

    def read(self, source: Source, log: FaultLog) -> Content:
        """Reads the wanted split, or all of them; see `Reader.read`. For instructions the reader `chat` does it."""
        if source.task == "instruct":
            return Chat().read(source, log)
        found = table_files(source.path, SUFFIXES)
        if not found:
            raise DataError(f"{source.path}: expected a .jsonl file or a folder with one; there is none")
        records: list[Record] = []
        marks: list[str] = []
        classes: dict[str, None] = {}
        for file in choose_split(source.path, found, source.split):
            for row, record in _Reading(source, file, log, classes).records():
                records.append(record)
                marks.append(f"{file.split}:{row.number}" if len(found) > 1 else str(row.number))
        if source.task == "captioning":
            records, marks = one_record_a_picture(records, marks)
        return Content(with_unique_ids(records, marks), tuple(classes))


class _Reading:
    """One pass over one file."""

    def __init__(self, source: Source, file: TableFile, log: FaultLog, classes: dict[str, None]):
        self._source, self._file, self._log, self._classes = source, file, log, classes
        self._rows = deque(json_rows(file.path, log))
        names = {name for row in self._rows for name in row.values}
        boxes = first_key(names, ("boxes",)) if source.task in (None, "detection") else None
        self._keys = _Keys(
            first_key(names, IMAGE_KEYS),
            first_key(names, PREFIX_KEYS),
            first_key(names, text_names(TEXT_KEYS, source.task)),
            boxes,
        )
        if self._keys.text is None and self._keys.boxes is None:
            wanted, found = "image, prefix and suffix", ", ".join(sorted(names)) or "empty objects"
            raise DataError(f"{file.path}: expected lines with the keys {wanted}, received {found}")
        subfolders = (file.split,) if file.split else ()
        self._index: FileIndex = picture_index(file.path.parent, subfolders)

    def records(self) -> Iterator[tuple[Row, Record]]:
        while self._rows:  # a row makes room for its record
            row = self._rows.popleft()
            record = self._record(row)
            if record is not None:
                yield row, record

    def _record(self, row: Row) -> Record | None:
        image = self._keys.image
        if image is None:
            key = row.values.get("id")
            record = Record(str(key) if isinstance(key, (str, int)) else f"{self._file.path.name}:{row.number}")
        else:
            name = self._string(row, image, None)
            if name is None:
                return None
            path = self._index.find(name)
            if path is None and self._source.need_pictures:
                problem = f"expected a picture named '{name}' near {self._file.path.parent}, there is none; left out"
                self._log.add(row.place, name, "missing picture", problem)
                return None
            key = row.values.get("question_id")  # by which result files know a question
            record_id = str(key) if isinstance(key, (str, int)) else name
            number = row.values.get("image_id")  # by which they know a picture
            image_id = number if isinstance(number, (str, int)) and not isinstance(number, bool) else None
            record = Record(record_id, None if path is None else FilePicture(path), image_id=image_id)
        prefix, texts = self._prefix(row, record.id), self._texts(row, record.id)
        if prefix is None or texts is None:
            return None
        about = question_of(row.values) if prefix else None
        told = replace(record, prefix=prefix or None, texts=texts, source=row.place, question=about)
        return self._with_boxes(row, told)

    def _string(self, row: Row, key: str, record: str | None) -> str | None:
        value = row.values.get(key)
        if isinstance(value, str) and (value or key not in IMAGE_KEYS):
            return value
        kind = "malformed value" if key in row.values else "missing key"
        received = short(value) if key in row.values else f"the keys {', '.join(row.values)}"
        self._log.add(row.place, record, kind, f"expected a string as {key}, received {received}; the line is left out")
        return None

    def _prefix(self, row: Row, record: str) -> str | None:
        """Returns the prompt, an empty one where the line may lack it, None where it is at fault."""
        key = self._keys.prefix
        if key is None or (self._source.task in _OWN_PROMPTS and row.values.get(key) is None):
            return ""
        prefix = self._string(row, key, record)
        context = row.values.get("input") if key == "instruction" else None
        # Alpaca's form: what the instruction is to be applied to stands apart, and may be empty.
        return f"{prefix}\n\n{context}" if prefix is not None and isinstance(context, str) and context else prefix

    def _texts(self, row: Row, record: str) -> tuple[str, ...] | None:
        key = self._keys.text
        if key is None or (self._keys.boxes in row.values and key not in row.values):
            return ()
        if key not in row.values:
            key = first_key(row.values, next(group for group in _ALIKE if key in group)) or key
        texts = (answers_of if key in _ANSWERS else as_texts)(row.values.get(key))
        if key in row.values and texts is not None:
            return texts
        kind = "malformed value" if key in row.values else "missing key"
        received = short(row.values[key]) if key in row.values else f"the keys {', '.join(row.values)}"
        problem = f"expected a string or a list of strings as {key}, received {received}; the line is left out"
        self._log.add(row.place, record, kind, problem)
        return None

    def _with_boxes(self, row: Row, record: Record) -> Record | None:
        """Adds size and boxes where the task has some; collects the classes."""
        task = self._source.task
        if task in (None, "detection", "segmentation"):
            self._classes.update(dict.fromkeys(asked_classes(record.prefix)))
        stated = numbers([row.values.get("width"), row.values.get("height")], 2)
        size = (int(stated[0]), int(stated[1])) if stated is not None and min(stated) >= 1 else None
        if self._keys.boxes in row.values:
            placed = self._with_pixel_boxes(row, record, size)
        elif holds_boxes(task, record.texts):
            placed = with_suffix_boxes(record, known_size(record, size, self._log), self._log)
        else:
            placed = record
        if placed is not None:
            self._classes.update(dict.fromkeys(box.label for box in placed.boxes))
        return placed

    def _with_pixel_boxes(self, row: Row, record: Record, stated: tuple[int, int] | None) -> Record | None:
        items = row.values[str(self._keys.boxes)]
        if not isinstance(items, list):
            problem = f"expected a list of {{label, box}} as boxes, received {short(items)}; the line is left out"
            self._log.add(row.place, record.id, "malformed value", problem)
            return None
        size = known_size(record, stated, self._log)
        if size is None:
            return None
        boxes: list[Box] = []
        for index, item in enumerate(items, 1):
            label = item.get("label") if isinstance(item, dict) else None
            edges = numbers(item.get("box"), 4) if isinstance(item, dict) else None
            if not isinstance(label, str) or edges is None:
                problem = f"expected {{label, box: [x0, y0, x1, y1]}}, received {short(item)}; the box is left out"
                self._log.add(row.place, record.id, "broken box", problem)
                continue
            box = usable_box(label, edges, size, Where(row.place, record.id, f"box {index}"), self._log)
            boxes += [] if box is None else [box]
        return replace(record, size=size, boxes=tuple(boxes))
