"""Where a YOLO data set keeps class names, pictures and labels: darknet's way, Ultralytics' and plain folders."""

import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mmtune.data.confinement import is_inside, read_text
from mmtune.data.dataset import FaultLog
from mmtune.data.finding import FileIndex, picture_places
from mmtune.data.images import SUFFIXES
from mmtune.data.yaml_files import load_yaml

_NO_LABELS = frozenset(["classes.txt", "train.txt", "val.txt", "valid.txt", "test.txt", "trainval.txt", "labels.txt"])
_YAML_SPLITS = ("train", "val", "test")
_NOT_IN_ID = re.compile(r"\.|\.\.|data|images|labels|obj_\w+_data")


@dataclass(frozen=True, slots=True)
class Entry:
    """One picture: its record's id, its files where they exist, and where it is listed."""

    id: str
    picture: Path | None
    labels: Path | None
    listed: str


@dataclass(frozen=True, slots=True)
class Layout:
    """What a data set says about itself.

    Attributes:
        root: Its folder.
        names: The class names by their number.
        parts: The list files and folders (of pictures or of labels) of each split; the only one is "" if not split.
        keypoints: Whether rows go on with key points after the box.
    """

    root: Path
    names: dict[int, str]
    parts: dict[str, tuple[Path, ...]]
    keypoints: bool = False


def layout_of(path: Path) -> Layout | None:
    """Returns the layout of a folder, a data.yaml or an obj.data; None where it is none of YOLO's.

    Raises:
        DataError: When the configuration is malformed.
    """
    if path.is_file():
        if path.suffix.lower() in (".yaml", ".yml"):
            return _from_yaml(path)
        return _from_darknet(path) if path.suffix == ".data" else None
    if not path.is_dir():
        return None
    files = sorted(file for file in path.iterdir() if file.is_file())
    for file in files:
        if file.suffix.lower() in (".yaml", ".yml"):
            found = _from_yaml(file)
            if found:
                return found
    for file in [file for file in files if file.suffix == ".data"]:
        found = _from_darknet(file)
        if found:
            return found
    for file in [file for file in files if file.suffix == ".names" or file.name == "classes.txt"]:
        parts = _label_folders(path)
        if parts:
            return Layout(path, _names_of(file), parts)
    return None


def entries_of(layout: Layout, split: str | None, log: FaultLog) -> list[Entry]:
    """Returns the pictures of a split, or of all splits, each once.

    Args:
        layout: What `layout_of` found.
        split: One of `layout.parts`, or None.
        log: Takes the fault "missing folder": a split that the configuration names but that is not there.
    """
    parts = layout.parts if split is None else {split: layout.parts[split]}
    entries: dict[tuple[Path | None, Path | None, str], Entry] = {}
    for name, places in parts.items():
        for place in places:
            if not is_inside(place):
                problem = f"expected the pictures of split '{name}' in this folder, but its path leads out of it"
                log.add(layout.root, None, "missing folder", problem)
                continue
            if not place.exists():
                problem = f"expected the pictures of split '{name}' at {place}, but there is no such file or folder"
                log.add(layout.root, None, "missing folder", problem)
            for entry in _listed(place, layout) if place.is_file() else _walked(place, layout):
                entries.setdefault((entry.picture, entry.labels, entry.id), entry)
    return list(entries.values())


def _from_yaml(file: Path) -> Layout | None:
    try:
        text = read_text(file)
    except (OSError, UnicodeDecodeError):
        return None
    if not (re.search(r"(?m)^names\s*:", text) and re.search(r"(?m)^(train|val|test)\s*:", text)):
        return None
    content = load_yaml(file)
    if not isinstance(content, dict):
        return None
    names = content.get("names")
    pairs = names.items() if isinstance(names, dict) else enumerate(names) if isinstance(names, list) else ()
    numbered = {int(key): str(name) for key, name in pairs if str(key).isdigit() and name not in (None, "")}
    parts = {}
    for split in _YAML_SPLITS:
        value = content.get(split)
        places = [value] if isinstance(value, str) else value if isinstance(value, list) else []
        if places:
            parts[split] = tuple(_resolved(str(place), str(content.get("path") or ""), file.parent) for place in places)
    return Layout(file.parent, dict(sorted(numbered.items())), parts, keypoints="kpt_shape" in content)


def _resolved(place: str, base: str, folder: Path) -> Path:
    """Returns where a path of a data.yaml leads: below its `path`, else below the file's folder.

    Exported archives often write `../train/images` for what lies at `train/images`.
    """
    plain = place.removeprefix("./")
    while plain.startswith("../"):
        plain = plain.removeprefix("../")
    candidates = [folder / base / place, folder / place, folder / plain]
    return next((path for path in candidates if is_inside(path) and path.exists()), candidates[0])


def _from_darknet(file: Path) -> Layout | None:
    """Reads an obj.data: `key = value` lines that name the file of class names and the lists of pictures."""
    pairs = (line.partition("=") for line in read_text(file, errors="replace").splitlines())
    content = {key.strip(): value.strip() for key, separator, value in pairs if separator}
    root = file.parent
    index = FileIndex([root, root.parent])
    names = index.find(content.get("names", ""))
    if names is None:
        return None
    lists = {key: index.find(content[key]) for key in ("train", "valid", "val", "test") if content.get(key)}
    parts = {key: (found,) for key, found in lists.items() if found is not None}
    parts = parts or _label_folders(root)
    return Layout(root, _names_of(names), parts) if parts else None


def _names_of(file: Path) -> dict[int, str]:
    lines = read_text(file, errors="replace").splitlines()
    return {number: line.strip() for number, line in enumerate(lines) if line.strip()}


def _label_folders(root: Path) -> dict[str, tuple[Path, ...]]:
    """Returns folders of label files: obj_train_data, labels/train, train/labels, labels, or the root."""
    found = {sub.name[4:-5]: (sub,) for sub in sorted(root.glob("obj_?*_data")) if sub.is_dir()}
    found = found or {sub.name: (sub,) for sub in sorted(root.glob("labels/*")) if _has_labels(sub)}
    found = found or {sub.parent.name: (sub,) for sub in sorted(root.glob("*/labels")) if _has_labels(sub)}
    for folder in (root / "labels", root):
        if not found and _has_labels(folder):
            found = {"": (folder,)}
    return found


def _has_labels(folder: Path) -> bool:
    """Whether a folder holds label files, judged by the first rows."""
    if not folder.is_dir():
        return False
    files = sorted(file for file in folder.glob("*.txt") if file.name not in _NO_LABELS)[:5]
    rows = [read_text(file, errors="replace").split("\n", 1)[0].split() for file in files]
    sound = [len(row) >= 5 and row[0].removesuffix(".0").isdigit() for row in rows]
    return bool(files) and (any(sound) or not any(rows))


def _listed(file: Path, layout: Layout) -> Iterator[Entry]:
    """Yields what a list of picture paths names."""
    pictures = FileIndex([file.parent, *_picture_places(file.parent, layout.root)])
    labels = FileIndex(_label_places(file.parent, layout.root))
    for line, text in enumerate(read_text(file, errors="replace").splitlines(), 1):
        name = text.strip().replace("\\", "/")
        if not name:
            continue
        stem = str(PurePosixPath(name).with_suffix(""))
        swapped = _swapped(PurePosixPath(stem), "images", "labels")
        found = labels.find(f"{swapped}.txt") or labels.find(f"{stem}.txt")
        picture = pictures.find(name) or pictures.find_stem(PurePosixPath(name).stem)
        yield Entry(_id(stem), picture, found, f"{file}:{line}")


def _walked(folder: Path, layout: Layout) -> Iterator[Entry]:
    """Yields the pictures below a folder with their label files, then the label files without pictures."""
    labels = FileIndex(_label_places(folder, layout.root))
    used = set()
    for name in _names_below(folder, SUFFIXES):
        stem = PurePosixPath(name).with_suffix("")
        found = labels.find(f"{stem}.txt")
        used.add(found)
        yield Entry(_id(_below(folder / stem, layout.root)), folder / name, found, str(folder / name))
    pictures = FileIndex(_picture_places(folder, layout.root))
    for place in dict.fromkeys([Path(_swapped(folder, "images", "labels")), folder]):
        for name in _names_below(place, {".txt"}):
            file = place / name
            if file in used or (file.name in _NO_LABELS and place == layout.root):
                continue
            stem = PurePosixPath(name).with_suffix("")
            picture = pictures.find_stem(str(stem)) or pictures.find_stem(stem.name)
            yield Entry(_id(_below(place / stem, layout.root)), picture, file, str(file))


def _label_places(folder: Path, root: Path) -> list[Path]:
    beside = [Path(_swapped(folder, "images", "labels")), folder, folder.parent / "labels"]
    return [*beside, root / "labels" / folder.name, root / "labels", root, *sorted(root.glob("obj_?*_data"))]


def _picture_places(folder: Path, root: Path) -> list[Path]:
    beside = [Path(_swapped(folder, "labels", "images")), folder, folder.parent / "images"]
    return [*beside, *picture_places(root, [folder.name]), *sorted(root.glob("obj_?*_data"))]


def _swapped(path: Path | PurePosixPath, old: str, new: str) -> str:
    """Returns the path with its last component named `old` replaced, as Ultralytics finds labels of pictures."""
    parts = list(path.parts)
    for position in reversed(range(len(parts))):
        if parts[position] == old:
            parts[position] = new
            break
    return str(PurePosixPath(*parts))


def _names_below(folder: Path, suffixes: Collection[str]) -> list[str]:
    """Returns the files below a folder by their path relative to it, sorted."""
    names: list[str] = []
    for place, folders, files in os.walk(folder) if is_inside(folder) else ():
        folders[:] = [name for name in folders if not name.startswith(".")]
        wanted = [name for name in files if os.path.splitext(name)[1].lower() in suffixes]
        names.extend(Path(place, name).relative_to(folder).as_posix() for name in wanted)
    return sorted(names)


def _below(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def _id(stem: str) -> str:
    """Returns a record's id: the picture's path without suffix and without the folders that every such path has."""
    parts = PurePosixPath(stem).parts
    if stem.startswith("/"):
        parts = parts[parts.index("images") :] if "images" in parts else parts[-1:]
    return "/".join([*(part for part in parts[:-1] if not _NOT_IN_ID.fullmatch(part)), parts[-1]])
