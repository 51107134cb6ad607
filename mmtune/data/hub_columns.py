"""What the columns of a hub data set mean, by the names that are usual there."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mmtune.data.instructions import CHATS, COLUMNS
from mmtune.data.tables import first_key, text_names

IMAGES = ("image", "img", "picture", "photo", "file_name", "filename", "image_path", "jpg", "png")
PREFIXES = ("prefix", "question", "query", "prompt", "instruction")
TEXTS = (
    "suffix", "captions", "caption", "sentences", "texts", "text", "transcription", "answers", "answer", "response",
    "completion", "output",
)  # fmt: skip
LABELS = ("label", "labels", "class", "category")
IDS = ("question_id", "image_id", "id", "file_name", "filename")

_CONTAINERS = ("objects", "annotations")
_BOXES = ("bbox", "bboxes", "boxes", "box")
_CATEGORIES = ("category", "categories", "category_name", "label", "labels", "class", "name", "category_id", "class_id")
_CROWDS = ("is_crowd", "iscrowd")


@dataclass(frozen=True)
class Column:
    """A column, or a field within one.

    Attributes:
        is_image: Whether it is of the hub's type for pictures.
        names: The class names where its numbers are classes.
        fields: The fields of a struct, or of a list of structs.
    """

    is_image: bool = False
    names: tuple[str, ...] | None = None
    fields: Mapping[str, "Column"] = field(default_factory=dict)


@dataclass(frozen=True)
class Objects:
    """Where the objects of a picture stand.

    Attributes:
        container: The column that holds the fields; None: the fields are columns.
        bbox, category, area, crowd: Names of the fields; None where there is none.
        names: The class names, where categories are numbers that have names.
    """

    container: str | None
    bbox: str
    category: str
    area: str | None
    crowd: str | None
    names: tuple[str, ...] | None


@dataclass(frozen=True)
class Layout:
    """Which column is what; None where there is none.

    Attributes:
        chat: The column of conversations.
        talk: The columns that instructions and conversations are made of.
        text_names: The class names where the text is a class by its number.
        is_label: Whether the texts are classes.
    """

    image: str | None
    prefix: str | None
    text: str | None
    text_names: tuple[str, ...] | None
    is_label: bool
    objects: Objects | None
    id: str | None
    image_id: str | None
    width: str | None
    height: str | None
    box_format: str | None
    chat: str | None
    talk: tuple[str, ...]

    @property
    def used(self) -> tuple[str, ...]:
        """The columns to read for everything but the pixels."""
        found = self.objects
        parts = () if found is None else (found.bbox, found.category, found.area, found.crowd)
        inner = (found.container,) if found is not None and found.container else parts
        named = (self.prefix, self.text, self.id, self.image_id, self.width, self.height, self.box_format)
        return tuple(dict.fromkeys(name for name in (*named, *inner, *self.talk) if name is not None))


def columns_of_features(features: Mapping[str, Any]) -> dict[str, Column]:
    """Returns the columns of a `datasets.Features`."""
    return {name: _column(feature) for name, feature in features.items()}


def columns_of_rows(rows: Iterable[Mapping[str, Any]]) -> dict[str, Column]:
    """Returns the columns of rows without a schema."""
    found: dict[str, dict[str, Column]] = {}
    for row in rows:
        for name, value in row.items():
            items = value if isinstance(value, list) else [value]
            fields = {key for item in items if isinstance(item, Mapping) for key in item}
            found.setdefault(name, {}).update({key: Column() for key in fields})
    return {name: Column(fields=fields) for name, fields in found.items()}


def layout_of(columns: Mapping[str, Column], task: str | None = None) -> Layout:
    """Returns which column is what, as far as the names and types tell.

    Args:
        columns: By their names.
        task: Whose text counts where there are columns of several kinds.
    """
    objects = _objects(columns)
    taken = {objects.category} if objects is not None and objects.container is None else set()
    image = next((name for name, column in columns.items() if column.is_image), None) or first_key(columns, IMAGES)
    text, prefix = first_key(columns, text_names(TEXTS, task)), first_key(columns, PREFIXES)
    classed = (name for name, column in columns.items() if column.names and name not in taken)
    label = first_key(columns.keys() - taken, LABELS) or next(classed, None)
    if image is None and prefix is None and label is not None:
        text, prefix, is_label = label, text, True  # a text and its class
    else:
        text, is_label = text or label, text is None and label is not None
    return Layout(
        image=image,
        prefix=prefix,
        text=text,
        text_names=columns[text].names if text is not None else None,
        is_label=is_label and prefix is None if image is not None else is_label,
        objects=objects,
        id=first_key(columns, IDS),
        image_id=first_key(columns, ("image_id",)),
        width=first_key(columns, ("width", "image_width")),
        height=first_key(columns, ("height", "image_height")),
        box_format=first_key(columns, ("bbox_format", "box_format")),
        chat=first_key(columns, CHATS),
        talk=tuple(name for name in columns if name in COLUMNS) if image is None else (),
    )


def _column(feature: Any) -> Column:
    from datasets import ClassLabel, Image, LargeList, List

    if isinstance(feature, (List, LargeList)):
        return _column(feature.feature)
    if isinstance(feature, list) and len(feature) == 1:  # how a list of structs is written in Python
        return _column(feature[0])
    if isinstance(feature, Image):
        return Column(is_image=True)
    if isinstance(feature, ClassLabel):
        return Column(names=tuple(feature.names or ()) or None)
    if isinstance(feature, Mapping):
        return Column(fields={name: _column(inner) for name, inner in feature.items()})
    return Column()


def _objects(columns: Mapping[str, Column]) -> Objects | None:
    places = [(name, columns[name].fields) for name in _CONTAINERS if name in columns] + [(None, columns)]
    for container, fields in places:
        bbox, category = first_key(fields, _BOXES), first_key(fields, _CATEGORIES)
        if bbox is not None and category is not None:
            crowd = first_key(fields, _CROWDS)
            return Objects(container, bbox, category, first_key(fields, ("area",)), crowd, fields[category].names)
    return None
