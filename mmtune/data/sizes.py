"""Settling the size of a picture between its file and what an annotation file says about it."""

from pathlib import Path

from mmtune.data.dataset import FaultLog
from mmtune.data.images import FilePicture, size_of


def settled(
    path: Path, stated: tuple[int, int] | None, file: object, record: str, log: FaultLog
) -> tuple[FilePicture, tuple[int, int]]:
    """Returns the picture and its (width, height), in the orientation that the annotations are in.

    Annotation tools differ in whether they apply a photo's EXIF orientation. The stated size tells: where it is that
    of the picture as stored, the picture is left as stored. (A picture turned by 180 degrees cannot be told.)

    Args:
        path: The picture's file; its header is read.
        stated: (width, height) from the annotation file, or None.
        file: The annotation file, for the fault.
        record: The record's id, for the fault.
        log: Takes the fault "size disagrees".

    Raises:
        DataError: When the picture's header cannot be read.
    """
    picture = FilePicture(path)
    actual = size_of(picture)
    if stated is None or stated == actual:
        return picture, actual
    as_stored = FilePicture(path, upright=False)
    if stated == size_of(as_stored):
        return as_stored, stated
    log.add(
        file,
        record,
        "size disagrees",
        f"expected a picture of {stated[0]} x {stated[1]} pixels, but {path} has {actual[0]} x {actual[1]}; "
        "its boxes were taken as pixels of the picture as it is",
    )
    return picture, actual
