import numpy as np
import pytest

from mmtune.codecs.boxes import NOISE_LABEL
from mmtune.noise_objects import with_noise
from mmtune.records import Box

SIZE = (640, 480)
CAT, DOG = Box("cat", 100, 200, 140, 260), Box("dog", 10, 300, 90, 420)


def noise_of(boxes, count, rng, raster=False):
    return [box for box in with_noise(boxes, SIZE, count, rng, raster).boxes if box.label == NOISE_LABEL]


def is_copy(box, of):
    return all(
        abs(getattr(box, edge) - getattr(of, edge)) <= 0.1 * side
        for edge, side in (("x0", of.width), ("x1", of.width), ("y0", of.height), ("y1", of.height))
    )


def test_noise_is_copies_moved_and_random_boxes_within_the_picture():
    rng = np.random.default_rng(0)
    made = [box for _ in range(100) for box in noise_of([CAT], 31, rng)]
    assert all(0 <= box.x0 <= box.x1 <= 640 and 0 <= box.y0 <= box.y1 <= 480 for box in made)
    copies = [box for box in made if is_copy(box, CAT)]
    moved = [box for box in made if box not in copies and abs(box.width - 40) < 1e-6 and abs(box.height - 60) < 1e-6]
    assert len(made) == 3000
    assert len(copies) > 500
    assert len(moved) > 500
    assert len(made) - len(copies) - len(moved) > 500
    # The mix is shuffled: copies do not always come first.
    assert any(box not in copies for box in made[::30])
    assert any(box in copies for box in made[29::30])


def test_there_is_as_much_as_is_missing():
    rng = np.random.default_rng(0)
    assert len(noise_of([], 5, rng)) == 5
    assert with_noise([CAT, DOG], SIZE, 2, rng).boxes == (CAT, DOG)
    assert with_noise([CAT, DOG], SIZE, 0, rng).sources == (0, 1)


@pytest.mark.parametrize("real", [[], [CAT], [Box("cat", 100.25, 200, 140, 260)]])
def test_noise_lies_between_pixels_only_where_real_boxes_do(real):
    """Whole pixels are a part of all locations: if noise did not keep to them, a location alone would tell it."""
    made = noise_of(real, 200, np.random.default_rng(0))
    edges = np.array([(box.x0, box.y0, box.x1, box.y1) for box in made])
    assert np.all(edges == np.round(edges)) == (not real or real[0].x0 == 100)


def test_noise_follows_or_stands_in_raster_order_copies_behind_originals():
    rng = np.random.default_rng(0)
    before = 0
    for _ in range(50):
        assert with_noise([DOG, CAT], SIZE, 12, rng).boxes[:2] == (DOG, CAT)
        mixed = with_noise([CAT, DOG], SIZE, 12, rng, raster=True)
        places = [mixed.boxes.index(CAT), mixed.boxes.index(DOG)]
        assert places == sorted(places)
        before += places[0]
        for place, box in enumerate(mixed.boxes):
            if box.label == NOISE_LABEL and is_copy(box, CAT):
                assert place > places[0]
        tops = [box.y0 for box in mixed.boxes if not is_copy(box, CAT) and not is_copy(box, DOG)]
        assert tops == sorted(tops)
    assert before > 50  # noise comes before the first real box as well


def test_a_real_label_is_read_behind_noise():
    rng = np.random.default_rng(0)
    noisy = with_noise([CAT, DOG], SIZE, 40, rng, raster=True)
    shown = noisy.shown([CAT, DOG], ("cat", "dog", "elk"), rng)
    assert [label is None for label in shown] == [box.label != NOISE_LABEL for box in noisy.boxes]
    assert set(shown) == {None, "cat", "dog"}
    for box, label in zip(noisy.boxes, shown, strict=True):
        for real in (CAT, DOG):
            if box.label == NOISE_LABEL and is_copy(box, real):
                assert label == real.label
    nothing = with_noise([], SIZE, 40, rng)
    assert set(nothing.shown([], ("cat", "elk"), rng)) == {"cat", "elk"}
    assert set(nothing.shown([], (), rng)) == {None}
