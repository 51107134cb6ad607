"""Looking a data set over before a model is taught with it: pictures decoded, boxes counted, targets drawn."""

import statistics
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mmtune.data.dataset import Dataset, FaultLog
from mmtune.data.target_overlays import reread, write_overlays
from mmtune.errors import DataError
from mmtune.records import Fault, Record
from mmtune.task import Task

Progress = Callable[[int, int], None]
"""Called with how many records are done and how many there are."""

_WORKERS = 4
_AHEAD = 4 * _WORKERS
"""Decoded pictures that may wait at most, so that memory does not grow with the data set."""


@dataclass(frozen=True)
class CheckReport:
    """What is in a data set and what is wrong with it.

    Attributes:
        name: What the user asked for.
        format: Name of the reader.
        task: Name of the task, or "" where none was given.
        records: How many there are.
        pictures: How many of their pictures could be decoded.
        usable: How many of them the task can use.
        boxes: How many boxes there are, by class in the data set's order.
        crowd: How many of them are crowd.
        difficult: How many of them are difficult.
        masks: How many masks there are.
        texts: How many texts (captions, answers, words, turns of conversations) there are.
        boxes_per_picture: (boxes, pictures) for each number of boxes that occurs, ascending.
        sizes: (width, height, pictures) for each size in pixels that occurs, most frequent first.
        modes: Pictures by the colour mode of their file as Pillow names it, most frequent first; pictures without a
            file stand as "generated".
        faults: Everything that was set aside or is wrong, the reader's first.
        overlays: Files of pictures with the decoded targets, the contact sheet last.
        ceiling: What the targets themselves score, written as text and read back, in the metrics that this limits: no
            model scores more on this data. Empty where nothing is lost.
        ceiling_of: The options that it depends on, such as the mask codec.
    """

    name: str
    format: str
    task: str
    records: int
    pictures: int
    usable: int
    boxes: dict[str, int]
    crowd: int
    difficult: int
    masks: int
    texts: int
    boxes_per_picture: tuple[tuple[int, int], ...]
    sizes: tuple[tuple[int, int, int], ...]
    modes: dict[str, int]
    faults: tuple[Fault, ...]
    overlays: tuple[Path, ...] = ()
    ceiling: dict[str, float] = field(default_factory=dict)
    ceiling_of: dict[str, Any] = field(default_factory=dict)

    @property
    def fault_counts(self) -> dict[str, int]:
        """How many faults there are of each kind, most frequent first."""
        return dict(Counter(fault.kind for fault in self.faults).most_common())

    def as_json(self) -> dict[str, Any]:
        """Returns everything as JSON values, each fault with file, record, kind and problem."""
        return {
            "name": self.name,
            "format": self.format,
            "task": self.task or None,
            "records": self.records,
            "pictures": self.pictures,
            "usable": self.usable,
            "boxes": {"total": sum(self.boxes.values()), "crowd": self.crowd, "difficult": self.difficult},
            "classes": self.boxes,
            "masks": self.masks,
            "texts": self.texts,
            "boxes_per_picture": {str(boxes): pictures for boxes, pictures in self.boxes_per_picture},
            "sizes": [{"size": [width, height], "pictures": count} for width, height, count in self.sizes],
            "modes": self.modes,
            "fault_counts": self.fault_counts,
            "faults": [
                {"file": fault.file, "record": fault.record, "kind": fault.kind, "problem": fault.problem}
                for fault in self.faults
            ],
            "overlays": [str(file) for file in self.overlays],
            "ceiling": {**self.ceiling, **self.ceiling_of} if self.ceiling else None,
        }

    def lines(self) -> list[str]:
        """Returns the report as plain text: counts first, then every fault with its file and record."""
        usable = f", {self.usable} usable for {self.task}" if self.task else ""
        lines = [
            f"{self.name}: {self.records} records ({self.format}), {self.pictures} pictures decoded{usable}",
            *_box_lines(self),
        ]
        if self.masks or self.texts:
            lines.append(f"{self.masks} masks, {self.texts} texts")
        if self.sizes:
            shown = ", ".join(f"{width}x{height}: {count}" for width, height, count in self.sizes[:5])
            more = f", and {len(self.sizes) - 5} more" if len(self.sizes) > 5 else ""
            lines.append(f"sizes: {shown}{more}")
            lines.append("modes: " + ", ".join(f"{mode}: {count}" for mode, count in self.modes.items()))
        if self.ceiling:
            told = {name: "-" if value == -1 else f"{value:.4f}" for name, value in self.ceiling.items()}
            scores = ", ".join(f"{name} {value}" for name, value in told.items())
            options = ", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in self.ceiling_of.items())
            lines.append(f"ceiling: the targets themselves, written as text and read back, score {scores} ({options})")
        if self.overlays:
            lines.append(f"{len(self.overlays) - 1} overlays of the decoded targets, together in {self.overlays[-1]}")
        if not self.faults:
            return [*lines, "no faults"]
        lines.append(f"{len(self.faults)} faults: " + ", ".join(f"{n} {kind}" for kind, n in self.fault_counts.items()))
        for fault in self.faults:
            record = f" [{fault.record}]" if fault.record is not None else ""
            lines.append(f"  {fault.kind}: {fault.file}{record}: {fault.problem}")
        return lines


def _box_lines(report: CheckReport) -> Iterator[str]:
    if not report.boxes:
        return
    total = sum(report.boxes.values())
    yield f"{total} boxes ({report.crowd} crowd, {report.difficult} difficult) of {len(report.boxes)} classes"
    for label, count in report.boxes.items():
        yield f"  {label}: {count}"
    each = [boxes for boxes, pictures in report.boxes_per_picture for _ in range(pictures)]
    yield f"boxes per picture: {min(each)} to {max(each)}, median {statistics.median(each):g}"


def check(
    dataset: Dataset, task: Task | None = None, out: Path | None = None, progress: Progress | None = None
) -> CheckReport:
    """Decodes every picture of a data set, counts what is in it, and draws what a model would be taught.

    Args:
        dataset: As read, with the reader's faults.
        task: The adapter that the data is for; None: no task's rules are checked and nothing is drawn.
        out: A folder for overlay_1.png, ... of at most 8 records spread over the data set and their contact sheet
            overlays.png. What is drawn went the whole way: the target's text was written and read back.
        progress: Called after each record.
    """
    log = FaultLog()
    log.faults.extend(dataset.faults)
    labels = dict.fromkeys((*dataset.classes, *sorted(_labels(dataset) - set(dataset.classes))), 0)
    boxes, per_picture, sizes, modes = Counter(labels), Counter(), Counter(), Counter()
    crowd = difficult = 0
    usable: list[Record] = []
    metric = task.metric() if task is not None and task.lossy else None
    for done, (record, found) in enumerate(_decoded(dataset), start=1):
        boxes.update(box.label for box in record.boxes)
        crowd += sum(box.crowd for box in record.boxes)
        difficult += sum(box.difficult for box in record.boxes)
        per_picture[len(record.boxes)] += 1
        if found is not None and found.problem is None:
            sizes[found.size] += 1
            modes[found.mode] += 1
        if (sound := _sound(record, found, task, log)) is not None:
            usable.append(sound)
            if task is not None and metric is not None:
                metric.update(task.prepared(sound), reread(sound, task))
        if progress is not None:
            progress(done, len(dataset))
    overlays = () if task is None or out is None else write_overlays(usable, task, Path(out), log)
    scores = metric.compute() if metric is not None else {}
    return CheckReport(
        name=dataset.name,
        format=dataset.format,
        task="" if task is None else task.name,
        records=len(dataset),
        pictures=sum(sizes.values()),
        usable=len(usable),
        boxes=dict(boxes),
        crowd=crowd,
        difficult=difficult,
        masks=sum(len(record.masks) for record in dataset),
        texts=sum(len(record.texts) + len(record.turns) for record in dataset),
        boxes_per_picture=tuple(sorted(per_picture.items())),
        sizes=tuple((*size, count) for size, count in sizes.most_common()),
        modes=dict(modes.most_common()),
        faults=tuple(log.faults),
        overlays=overlays,
        ceiling={name: scores[name] for name in task.lossy} if task is not None and usable else {},
        ceiling_of=dict(task.settled()) if task is not None and task.lossy else {},
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """What decoding a picture gave: its (width, height) and the mode of its file, or the reason why there is none."""

    size: tuple[int, int] = (0, 0)
    mode: str = ""
    problem: str | None = None


def _labels(dataset: Dataset) -> set[str]:
    return {box.label for record in dataset for box in record.boxes}


def _decoded(dataset: Dataset) -> Iterator[tuple[Record, _Found | None]]:
    """Yields each record with what its picture holds, in order, decoding a few pictures at a time."""
    with ThreadPoolExecutor(_WORKERS) as pool:
        waiting = []
        for record in dataset:
            waiting.append((record, pool.submit(_look, record)))
            if len(waiting) >= _AHEAD:
                first, result = waiting.pop(0)
                yield first, result.result()
        for record, result in waiting:
            yield record, result.result()


def _look(record: Record) -> _Found | None:
    if record.picture is None:
        return None
    try:
        with record.picture.open() as image:
            return _Found(image.size, _file_mode(record))
    except DataError as error:
        return _Found(problem=str(error))


def _file_mode(record: Record) -> str:
    """Returns the colour mode in which the picture is stored; `Picture.open` gives RGB whatever it was."""
    import io

    from PIL import Image

    from mmtune.data.confinement import open_file
    from mmtune.data.images import BytesPicture, FilePicture

    match record.picture:
        case FilePicture(path=path, root=root):
            source = open_file(path, root)
        case BytesPicture(data=data):
            source = io.BytesIO(data)
        case _:
            return "generated"
    with source, Image.open(source) as image:
        return image.mode


def _sound(record: Record, found: _Found | None, task: Task | None, log: FaultLog) -> Record | None:
    """Returns the record, its size known, if the task can use it; what is wrong is logged."""
    place = record.source or (record.picture.name if record.picture else "")
    if found is not None and found.problem is not None:
        log.add(record.picture.name if record.picture else place, record.id, "undecodable picture", found.problem)
        return None
    if found is not None and record.size is None:
        record = replace(record, size=found.size)
    if found is not None and record.size != found.size:
        (stated, stated_height), (width, height) = record.size or (0, 0), found.size
        problem = (
            f"expected a picture of {stated} x {stated_height} pixels, as annotated, found {width} x {height}; "
            "its boxes may be of another picture"
        )
        log.add(place, record.id, "size disagrees", problem)
    if task is None:
        return record
    problems = list(task.check(record))
    if found is None and task.needs_picture:
        problems.append(f"expected a picture, which the task {task.name} needs, found none")
    for problem in problems:
        log.add(place, record.id, f"unusable for {task.name}", problem)
    return None if problems else record
