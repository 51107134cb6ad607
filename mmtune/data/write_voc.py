"""Writing Pascal VOC: Annotations/, JPEGImages/ and one list of everything."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

from mmtune.data.placing import Item
from mmtune.records import Box


def write_voc(items: Sequence[Item], folder: Path) -> int:
    """Writes an XML file a picture and ImageSets/Main/trainval.txt. Edges count from 0, which the reader takes
    files without a <source> to do.

    Crowd regions are written as difficult, the format's only mark for what the metrics ignore.

    Args:
        items: The records, with their pictures in the folder's `JPEGImages`.
        folder: An existing folder.

    Returns:
        How many records were written.
    """
    (folder / "Annotations").mkdir()
    (folder / "JPEGImages").mkdir(exist_ok=True)
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    for item in items:
        tree = ElementTree.ElementTree(_annotation(item))
        ElementTree.indent(tree)
        tree.write(folder / "Annotations" / f"{item.stem}.xml", encoding="utf-8", xml_declaration=True)
    names = "".join(f"{item.stem}\n" for item in items)
    (folder / "ImageSets" / "Main" / "trainval.txt").write_text(names, encoding="utf-8")
    return len(items)


def _annotation(item: Item) -> ElementTree.Element:
    root = ElementTree.Element("annotation")
    _add(root, "folder", "JPEGImages")
    _add(root, "filename", Path(item.picture).name if item.picture else item.stem)
    size = ElementTree.SubElement(root, "size")
    for side, value in zip(("width", "height", "depth"), (*(item.record.size or (0, 0)), 3), strict=True):
        _add(size, side, str(value))
    for box in item.record.boxes:
        _add_object(root, box)
    return root


def _add_object(root: ElementTree.Element, box: Box) -> None:
    element = ElementTree.SubElement(root, "object")
    _add(element, "name", box.label)
    _add(element, "difficult", str(int(box.difficult or box.crowd)))
    edges = ElementTree.SubElement(element, "bndbox")
    for name, value in (("xmin", box.x0), ("ymin", box.y0), ("xmax", box.x1), ("ymax", box.y1)):
        _add(edges, name, f"{value:.12g}")


def _add(parent: ElementTree.Element, tag: str, text: str) -> None:
    ElementTree.SubElement(parent, tag).text = text
