"""Reader of JSON files with captions: COCO's, Karpathy's splits of COCO and Flickr, TextCaps."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, final

from mmtune.data.dataset import FaultLog
from mmtune.data.images import FilePicture
from mmtune.data.json_files import json_ends, load_json
from mmtune.data.json_lines import short
from mmtune.data.reader import Content, Reader, Source
from mmtune.data.tables import as_texts, first_key
from mmtune.data.vqa_pictures import QuestionPictures
from mmtune.errors import DataError, unknown_name
from mmtune.records import Record

NO_CAPTION = "picture without caption"

_CAPTIONS = re.compile(rb'"caption"\s*:\s*("|\[)|"sentences"\s*:\s*\[\s*\{|"(caption_str|reference_strs)"\s*:')
_LISTS = re.compile(rb'"(annotations|images|data)"\s*:\s*\[')
_MARKS = re.compile(r"^(captions|dataset|TextCaps)_|_captions$")
_NAME_KEYS = ("file_name", "filename", "image_name", "image_path")
_ID_KEYS = ("cocoid", "image_id", "id", "imgid")
_MOST_FILES = 200  # a folder with more has one for each picture, which is another format
_KARPATHY_TRAIN = "restval"


@dataclass
class _Picture:
    """A picture of a file while its captions are gathered."""

    id: int | str
    names: tuple[str, ...]
    source: str
    split: str = ""
    texts: list[str] = field(default_factory=list)


@final
class CocoCaptions(Reader):
    """Reads JSON files of captions.

    - COCO: `images`, and `annotations` with `image_id` and `caption`, several a picture. A folder holds one such file
      a split.
    - Karpathy's splits (dataset_coco.json, dataset_flickr30k.json): `images` with `sentences` and `split`; what
      COCO's training is extended by (restval) belongs to train.
    - TextCaps: `data` with `image_id` and `caption_str`, or `reference_strs`.

    All captions of a picture make one record. Pictures lie in or beside the folder of the file.
    """

    name: ClassVar[str] = "coco_captions"
    expects: ClassVar[str] = (
        "a JSON file with images and annotations (caption), with images (sentences), or with data (caption_str), or a "
        "folder of such files"
    )

    def claims(self, path: Path) -> bool:
        """Whether there is a JSON file with captions in one of these places."""
        return bool(_files(path))

    def splits(self, path: Path) -> Sequence[str]:
        """Returns the names of the files (`val2014` for `captions_val2014.json`), or the splits within one file."""
        files = _files(path)
        if len(files) > 1 or not files:
            return tuple(files)
        (file,) = files.values()
        inner = tuple(dict.fromkeys(picture.split for picture in _pictures(file, FaultLog()) if picture.split))
        return inner if inner else () if path.is_file() else tuple(files)

    def read(self, source: Source, log: FaultLog) -> Content:
        """Reads the wanted split, or all of them; see `Reader.read`."""
        files = _files(source.path) or ({"": source.path} if source.path.is_file() else {})
        if not files:
            raise DataError(f"{source.path}: expected {self.expects}; found no such file")
        found = [(name, picture) for name, file in files.items() for picture in _pictures(file, log)]
        if source.split is not None:
            names = dict.fromkeys(name for file, picture in found for name in (file, picture.split) if name)
            chosen = _chosen(source.split, list(names), source.path)
            found = [(name, picture) for name, picture in found if chosen in (name, picture.split)]
        index = QuestionPictures(files.values())
        records = (_record(picture, index, source, log) for _, picture in found)
        return Content(tuple(record for record in records if record is not None))


def _files(path: Path) -> dict[str, Path]:
    """Returns the files by the names of their splits."""
    if path.is_file():
        return {"": path} if _holds_captions(path) else {}
    found = sorted({*path.glob("*.json"), *path.glob("*/*.json")}) if path.is_dir() else []
    if len(found) > _MOST_FILES:
        return {}
    return {_MARKS.sub("", file.stem): file for file in found if _holds_captions(file)}


def _holds_captions(file: Path) -> bool:
    if file.suffix.lower() != ".json":
        return False
    text = json_ends(file)
    return text.startswith(b"{") and _LISTS.search(text) is not None and _CAPTIONS.search(text) is not None


def _chosen(split: str, names: Sequence[str], path: Path) -> str:
    """Returns the name of a split, which may be given without the year (`val` for `val2014`)."""
    alike = [name for name in names if re.sub(r"[ _-]?\d+$", "", name) == split]
    if split not in names and len(alike) != 1:
        raise DataError(f"{path}: {unknown_name('split', split, names)}")
    return split if split in names else alike[0]


def _pictures(file: Path, log: FaultLog) -> Iterator[_Picture]:
    """Yields what a file says of each picture.

    Raises:
        DataError: When it is none of the known forms.
    """
    content = load_json(file)
    content = content if isinstance(content, Mapping) else {}
    images, annotations, data = (content.get(key) for key in ("images", "annotations", "data"))
    if isinstance(data, list):
        yield from _grouped(data, file, "data", ("reference_strs", "caption_str"), log)
    elif isinstance(images, list) and isinstance(annotations, list):
        yield from _coco(images, annotations, file, log)
    elif isinstance(images, list):
        yield from _grouped(images, file, "images", ("sentences",), log)
    else:
        raise DataError(f"{file}: expected lists under images and annotations, or under data; found {list(content)}")


def _coco(images: list[Any], annotations: list[Any], file: Path, log: FaultLog) -> Iterator[_Picture]:
    pictures: dict[str, _Picture] = {}
    for position, image in enumerate(images):
        picture = _picture(image, file, f"images[{position}]", log)
        if picture is not None and pictures.setdefault(str(picture.id), picture) is not picture:
            problem = f"expected an id of its own at images[{position}], found {short(picture.id)}; it was left out"
            log.add(file, None, "duplicate image id", problem)
    for position, annotation in enumerate(annotations):
        where = f"annotations[{position}]"
        values = annotation if isinstance(annotation, Mapping) else {}
        key, texts = values.get("image_id"), as_texts(values.get("caption"))
        if not texts:
            problem = f"expected image_id and caption at {where}, found {short(annotation)}; it was left out"
            log.add(file, None, "broken caption", problem)
        elif (picture := pictures.get(str(key))) is None:
            problem = f"{where} is for image {short(key)}, which the file does not list; it was left out"
            log.add(file, None, "unknown image", problem)
        else:
            picture.texts.extend(texts)
    yield from pictures.values()


def _grouped(items: list[Any], file: Path, key: str, wanted: Sequence[str], log: FaultLog) -> Iterator[_Picture]:
    """Yields the pictures of a list whose items bring captions; several items may be of one picture."""
    pictures: dict[str, _Picture] = {}
    for position, item in enumerate(items):
        where = f"{key}[{position}]"
        found = _picture(item, file, where, log)
        if found is None:
            continue
        texts = as_texts(item.get(first_key(item, wanted) or ""))
        if texts is None:
            log.add(file, str(found.id), "broken caption", f"expected captions at {where}, found {short(item)}")
        pictures.setdefault(str(found.id), found).texts.extend(texts or ())
    yield from pictures.values()


def _picture(item: Any, file: Path, where: str, log: FaultLog) -> _Picture | None:
    values = item if isinstance(item, Mapping) else {}
    key = next((values[name] for name in _ID_KEYS if isinstance(values.get(name), (int, str))), None)
    if key is None or isinstance(key, bool):
        problem = f"expected an object with an id at {where}, found {short(item)}; it was left out"
        log.add(file, None, "broken entry", problem)
        return None
    names = [values[name] for name in _NAME_KEYS if isinstance(values.get(name), str)]
    if names and isinstance(values.get("filepath"), str):
        names.insert(0, f"{values['filepath']}/{names[0]}")
    split = values.get("split", values.get("set_name"))
    split = "train" if split == _KARPATHY_TRAIN else split
    return _Picture(key, tuple(names), str(file), split if isinstance(split, str) else "")


def _record(picture: _Picture, index: QuestionPictures, source: Source, log: FaultLog) -> Record | None:
    """Returns the record of a picture; None, and a fault, without captions or without the picture itself."""
    name = picture.names[-1] if picture.names else str(picture.id)
    texts = tuple(text for text in picture.texts if text.strip())
    record = Record(name, texts=texts, image_id=picture.id, source=picture.source)
    if not texts:
        problem = "expected a caption of this picture, found none; it was left out"
        log.add(picture.source, name, NO_CAPTION, problem)
        return None
    path = index.find(picture.names, picture.id)
    if path is None and source.need_pictures:
        problem = (
            f"expected a picture named '{name}' near {Path(picture.source).parent}, there is none; it was left out"
        )
        log.add(picture.source, name, "missing picture", problem)
        return None
    return record if path is None else replace(record, picture=FilePicture(path))
