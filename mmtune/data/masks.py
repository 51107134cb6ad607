"""Masks from what annotation files hold: polygons, and COCO's two forms of run lengths."""

from collections.abc import Sequence
from typing import Any

from mmtune.data.objects import numbers, whole


def segmentation_counts(segmentation: Any, size: tuple[int, int]) -> tuple[bytes | None, str]:
    """Returns COCO's compressed run lengths of a `segmentation` entry, and what was wrong with it.

    Args:
        segmentation: A list of polygons [x0, y0, x1, y1, ...] in pixels, which are united, or run lengths
            {"size": [height, width], "counts": list of ints or compressed string}.
        size: (width, height) of the picture in pixels.

    Returns:
        The run lengths as in `Mask.counts`, None where there is no usable mask; and a phrase such as "no segmentation",
        empty where nothing is wrong.
    """
    if not segmentation:
        return None, "no segmentation"
    if isinstance(segmentation, dict):
        return _from_runs(segmentation, size)
    if isinstance(segmentation, (list, tuple)):
        if not isinstance(segmentation[0], (list, tuple)):
            segmentation = [segmentation]  # one polygon without the outer list, which some tools write
        return _from_polygons(segmentation, size)
    return None, f"a segmentation of type {type(segmentation).__name__}"


def mask_size(segmentation: Any) -> tuple[int, int] | None:
    """Returns the (width, height) that run lengths state; None for what states none."""
    size = segmentation.get("size") if isinstance(segmentation, dict) else None
    stated = [whole(value) for value in size] if isinstance(size, list) and len(size) == 2 else []
    return (stated[1], stated[0]) if stated and stated[0] and stated[1] else None


def mask_area(size: tuple[int, int], counts: bytes) -> int:
    """Returns how many pixels are set in a mask of size (height, width)."""
    from pycocotools import mask as coco_mask

    return int(coco_mask.area({"size": list(size), "counts": counts}))


def mask_edges(size: tuple[int, int], counts: bytes) -> tuple[float, float, float, float]:
    """Returns (x0, y0, x1, y1) in pixels of the box around a mask of size (height, width)."""
    from pycocotools import mask as coco_mask

    x, y, width, height = (float(value) for value in coco_mask.toBbox({"size": list(size), "counts": counts}))
    return x, y, x + width, y + height


def _from_polygons(polygons: Sequence[Any], size: tuple[int, int]) -> tuple[bytes | None, str]:
    from pycocotools import mask as coco_mask

    width, height = size
    far = 10 * max(size)  # pycocotools walks along every edge: a coordinate of 1e12 would take all memory
    sound = []
    for polygon in polygons:
        points = numbers(polygon, len(polygon)) if isinstance(polygon, (list, tuple)) else None
        if points is not None and len(points) >= 6 and len(points) % 2 == 0 and max(map(abs, points)) <= far:
            sound.append(list(points))
    broken = len(polygons) - len(sound)
    wrong = f"{broken} of {len(polygons)} polygons without three points x, y near the picture" if broken else ""
    if not sound:
        return None, wrong
    united: Any = coco_mask.merge(coco_mask.frPyObjects(sound, height, width))
    return united["counts"], wrong


def _from_runs(runs: dict[str, Any], size: tuple[int, int]) -> tuple[bytes | None, str]:
    from pycocotools import mask as coco_mask

    width, height = size
    counts = runs.get("counts")
    if [whole(value) for value in runs.get("size") or ()] != [height, width]:
        return None, f"run lengths of size {runs.get('size')} instead of [{height}, {width}]"
    if isinstance(counts, list):
        lengths = [length for length in map(whole, counts) if length is not None and length >= 0]
        if len(lengths) != len(counts) or sum(lengths) != height * width:
            return None, f"run lengths that do not add up to {height} x {width} pixels"
        uncompressed: Any = {"size": [height, width], "counts": lengths}
        return coco_mask.frPyObjects(uncompressed, height, width)["counts"], ""
    if isinstance(counts, (str, bytes)):
        data = counts.encode() if isinstance(counts, str) else counts
        covered = _covered(data)
        if covered != height * width:
            return None, f"compressed run lengths that do not add up to {height} x {width} pixels"
        return data, ""
    return None, "run lengths without counts"


def _covered(counts: bytes) -> int | None:
    """Returns how many pixels compressed run lengths cover, None when they are broken.

    pycocotools trusts them and writes beyond its buffers when they are wrong. The form: numbers of 5 bits a character
    (offset 48), bit 5 meaning that more follow, sign-extended; from the fourth number on, differences to the number
    two places before.
    """
    runs: list[int] = []
    value, shift = 0, 0
    for character in counts:
        digit = character - 48
        if not 0 <= digit < 64:
            return None
        value |= (digit & 31) << shift
        shift += 5
        if digit & 32:
            continue
        if digit & 16:
            value -= 1 << shift
        run = value + (runs[-2] if len(runs) > 2 else 0)
        if run < 0:
            return None
        runs.append(run)
        value, shift = 0, 0
    return sum(runs) if shift == 0 else None
