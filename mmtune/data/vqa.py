"""Reader of questions about pictures: VQA v2, OK-VQA, A-OKVQA, GQA, Visual Genome, DocVQA, TextVQA, ChartQA and kin."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, final

from mmtune.data.dataset import FaultLog
from mmtune.data.gqa import gqa_entries, is_gqa
from mmtune.data.images import FilePicture
from mmtune.data.json_files import load_json
from mmtune.data.reader import Content, Reader, Source
from mmtune.data.tables import with_unique_ids
from mmtune.data.visual_genome import is_visual_genome, visual_genome_entries
from mmtune.data.vqa_files import ANNOTATIONS, ITEMS, QUESTIONS, QuestionFile, choose, partner, question_files
from mmtune.data.vqa_items import Item, items_of
from mmtune.data.vqa_pictures import QuestionPictures
from mmtune.errors import DataError, UsageError, unknown_name
from mmtune.records import Record

OPTIONS = ("images",)


@final
class Vqa(Reader):
    """Reads questions about pictures, and answers, in the forms that the public data sets have.

    - VQA v2 and OK-VQA: a file of `questions` and one of `annotations`; either of them, or their folder.
    - GQA: an object of questions by id. Visual Genome: a list of pictures with `qas`.
    - DocVQA, InfographicVQA, TextVQA, ST-VQA: an object with a list `data`. ChartQA, A-OKVQA, VizWiz: a list.

    A record is a question: its id is the question's, its `image_id` the picture's. Pictures are looked for by name or
    number near the files, or in the folder that the option `images` names.
    """

    name: ClassVar[str] = "vqa"
    expects: ClassVar[str] = (
        "JSON with question, answers and image as VQA v2, GQA, Visual Genome, DocVQA, TextVQA, ChartQA, OK-VQA and "
        "A-OKVQA have it, or a folder of such files"
    )

    def claims(self, path: Path) -> bool:
        """Whether there is a JSON file with questions about pictures."""
        return bool(question_files(path))

    def splits(self, path: Path) -> Sequence[str]:
        """Returns what is left of the names of a folder's files: `train2014`, `val_v1.0`, ..."""
        return () if path.is_file() else tuple(dict.fromkeys(file.split for file in question_files(path) if file.split))

    def read(self, source: Source, log: FaultLog) -> Content:
        """Reads the file with its counterpart, the split's files, or all files of the folder; see `Reader.read`."""
        for option in source.options:
            if option not in OPTIONS:
                raise UsageError(unknown_name("option of vqa data", option, OPTIONS))
        files = question_files(source.path)
        if not files and source.path.is_file():
            files = [QuestionFile(source.path, ITEMS, "")]
        if source.split is not None:
            files = choose(files, source.split, source.path)
        pairs = _pairs(files, source, log)
        if not pairs:
            found = "answers, but no file with their questions beside them" if files else "no questions"
            raise DataError(f"{source.path}: expected {self.expects}; found {found}")
        items = [item for pair in pairs for item in _answered(_read_file(*pair, source, log), log)]
        pictures = QuestionPictures([questions for questions, _ in pairs], _picture_folder(source))
        found = [(item, record) for item in items if (record := _record(item, pictures, source, log)) is not None]
        if source.need_pictures:
            for sentence in pictures.without_questions():
                log.add(source.path, None, "pictures without questions", sentence)
        return Content(_with_ids(found))


def _picture_folder(source: Source) -> Path | None:
    if "images" not in source.options:
        return None
    folder = Path(source.options["images"]).expanduser()
    if not folder.is_dir():
        raise DataError(f"{folder}: expected the folder of the pictures (option images), there is none")
    return folder


def _pairs(files: Sequence[QuestionFile], source: Source, log: FaultLog) -> list[tuple[Path, Path | None]]:
    """Returns each file with questions beside the one with their answers, where these stand apart.

    Where no pictures are needed, but only the truth, answers without questions stand for them.
    """
    pairs: dict[Path, tuple[Path, Path | None]] = {}
    for file in files:
        if file.kind != ANNOTATIONS:
            pairs[file.path.resolve()] = (file.path, partner(file, ANNOTATIONS) if file.kind == QUESTIONS else None)
    answers = {path.resolve() for _, path in pairs.values() if path is not None}
    for file in files:
        if file.kind != ANNOTATIONS or file.path.resolve() in answers:
            continue
        questions = partner(file, QUESTIONS)
        if questions is None and not source.need_pictures:
            pairs[file.path.resolve()] = (file.path, None)
        elif questions is None:
            problem = "expected the file with the questions in the same folder, found none; these answers were left out"
            log.add(file.path, None, "answers without questions", problem)
        else:
            pairs.setdefault(questions.resolve(), (questions, file.path))
    return list(pairs.values())


def _read_file(questions: Path, answers: Path | None, source: Source, log: FaultLog) -> list[Item]:
    content = load_json(questions)
    if is_gqa(content):
        entries = gqa_entries(content)
    elif is_visual_genome(content):
        entries = visual_genome_entries(content)
    else:
        entries = _entries(content, ("data", "questions", "annotations"), questions)
    if answers is not None:
        entries = _joined(list(entries), _entries(load_json(answers), ("annotations",), answers), answers, log)
    return list(items_of(entries, questions, log, complete=source.need_pictures))


def _entries(content: Any, keys: Sequence[str], file: Path) -> list[Any]:
    """Returns the list that a file is, or holds under one of the keys."""
    if isinstance(content, list):
        return content
    found = next((content[key] for key in keys if key in content), None) if isinstance(content, Mapping) else None
    if not isinstance(found, list):
        raise DataError(f"{file}: expected {Vqa.expects}; found none of these")
    return found


def _joined(questions: list[Any], answers: list[Any], file: Path, log: FaultLog) -> list[Any]:
    """Returns VQA v2's questions with what its annotations say of them."""
    by_id: dict[str, Any] = {}
    for position, values in enumerate(answers):
        key = values.get("question_id") if isinstance(values, Mapping) else None
        if key is None:
            problem = f"expected an object with question_id and answers, found {values!r:.60}; it was left out"
            log.add(f"{file}, item {position}", None, "malformed answers", problem)
        elif str(key) in by_id:
            problem = "the question has answers already; the first were kept"
            log.add(f"{file}, item {position}", key, "duplicate answers", problem)
        else:
            by_id[str(key)] = values
    known = {str(values.get("question_id")) for values in questions if isinstance(values, Mapping)}
    for key in by_id:
        if key not in known:
            log.add(file, key, "unknown question", "there is no such question; its answers were left out")
    return [
        {**by_id.get(str(values.get("question_id")), {}), **values} if isinstance(values, Mapping) else values
        for values in questions
    ]


def _answered(items: list[Item], log: FaultLog) -> list[Item]:
    """Returns the items of a file that have answers, or all of them where none has: those of a test set."""
    answered = [item for item in items if item.answers]
    if not answered:
        if items:
            problem = "no question has an answer: they can be asked, but not taught or scored"
            log.add(items[0].where.partition(", item")[0], None, "no answers", problem)
        return items
    if len(answered) < len(items):
        for item in items:
            if not item.answers:
                problem = "expected an answer to the question, found none; it was left out"
                log.add(item.where, item.shown, "question without answers", problem)
    return answered


def _record(item: Item, pictures: QuestionPictures, source: Source, log: FaultLog) -> Record | None:
    path = pictures.find(item.names, item.image_id)
    if path is None and source.need_pictures:
        wanted = item.names[0] if item.names else f"number or name {item.image_id}"
        problem = f"expected a picture ({wanted}) near the file, found none; the question was left out"
        log.add(item.where, item.shown, "missing picture", f"{problem}; ?images=FOLDER says where the pictures are")
        return None
    return Record(
        id=item.id or (item.names[0] if item.names else str(item.image_id)),
        picture=None if path is None else FilePicture(path),
        prefix=item.question or None,
        texts=item.answers,
        image_id=item.image_id if item.image_id is not None else next(iter(item.names), None),
        source=item.where,
        question=item.about,
    )


def _with_ids(found: Sequence[tuple[Item, Record]]) -> tuple[Record, ...]:
    """Returns the records; those without an id of their own, of one picture, are numbered."""
    nameless = [record for item, record in found if item.id is None]
    marks = [record.source.rpartition(" ")[2] for record in nameless]
    named = iter(with_unique_ids(nameless, marks))
    return tuple(record if item.id is not None else next(named) for item, record in found)
