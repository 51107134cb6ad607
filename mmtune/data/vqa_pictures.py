"""Finding the pictures that questions are about, by name or by the number that a data set gives them."""

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from mmtune.data.finding import FileIndex, picture_places
from mmtune.data.images import SUFFIXES

# Where the public data sets keep theirs: COCO, TextVQA, DocVQA, InfographicVQA, ChartQA, Visual Genome, VizWiz.
_FOLDERS = (
    "train2014", "val2014", "test2014", "test2015", "train2017", "val2017", "test2017", "train_images", "test_images",
    "documents", "spdocvqa_images", "infographicsvqa_images", "png", "VG_100K", "VG_100K_2", "train", "val", "test",
)  # fmt: skip
_COCO_SETS = ("train2014", "val2014", "test2015", "test2014")
_SHOWN = 5


class QuestionPictures:
    """The pictures near the files of a data set.

    Args:
        files: The files with the questions.
        folder: Where the pictures are; None: in or beside the folders of the files, under the usual names.
    """

    def __init__(self, files: Iterable[Path], folder: Path | None = None):
        if folder is not None:
            places = [folder, *(folder / name for name in _FOLDERS)]
        else:
            folders = dict.fromkeys(near for file in files for near in (file.parent, file.parent.parent))
            places = [place for near in folders for place in picture_places(near, (*_names(near), *_FOLDERS))]
        self._index = FileIndex([place for place in dict.fromkeys(places) if place.is_dir()])
        self._known: dict[tuple[Sequence[str], int | str | None], Path | None] = {}

    def find(self, names: Sequence[str], image_id: int | str | None) -> Path | None:
        """Returns the file of a picture, None where there is none.

        Args:
            names: Names of the file, with or without folders and suffix.
            image_id: Its number or name: COCO's files are found by number (`COCO_val2014_000000262148.jpg`,
                `000000262148.jpg`), as are those that are named by nothing else (`5.jpg`).
        """
        key = (names, image_id)
        if key not in self._known:
            self._known[key] = self._find(names, image_id)
        return self._known[key]

    def without_questions(self) -> list[str]:
        """Returns a sentence for each folder with pictures that were found, of which others were never asked for."""
        used = {path for path in self._known.values() if path is not None}
        sentences = []
        for folder in sorted({path.parent for path in used}):
            pictures = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
            idle = [path.name for path in pictures if path not in used]
            if idle:
                shown = ", ".join(idle[:_SHOWN]) + (", ..." if len(idle) > _SHOWN else "")
                sentences.append(f"{len(idle)} of the {len(pictures)} pictures in {folder} have no question: {shown}")
        return sentences

    def _find(self, names: Sequence[str], image_id: int | str | None) -> Path | None:
        for name in names:
            has_suffix = PurePosixPath(name).suffix.lower() in SUFFIXES
            found = self._index.find(name) if has_suffix else self._index.find_stem(name)
            if found is not None:
                return found
        return next((found for stem in _stems(image_id) if (found := self._index.find_stem(stem)) is not None), None)


def _stems(image_id: int | str | None) -> list[str]:
    if image_id is None:
        return []
    text = str(image_id)
    if not text.isdecimal():
        return [text]
    number = f"{int(text):012d}"
    return [text, number, *(f"COCO_{name}_{number}" for name in _COCO_SETS)]


def _names(folder: Path) -> tuple[str, ...]:
    """Returns the names of the folder and the one above: pictures may lie under the same name in `images`."""
    return tuple(name for name in (folder.name, folder.parent.name) if name)
