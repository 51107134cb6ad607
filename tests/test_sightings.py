"""Objects found in several looks at a picture, put together: by hand."""

import pytest

from mmtune.codecs.boxes import DecodedBox
from mmtune.looks import looks
from mmtune.records import PLAIN, Look
from mmtune.sightings import Sighting, together

TWO = looks(2, 1)


def sighting(edges, score, view, label="cat"):
    return Sighting(DecodedBox(edges, label, (0, 0)), score, Look(view))


def test_what_overlaps_in_two_looks_is_one_object():
    found = together(
        [
            sighting((0, 0, 100, 100), 0.9, 0),
            sighting((500, 500, 600, 600), 0.5, 0),
            sighting((0, 0, 110, 104), 0.3, 1),
            sighting((0, 0, 100, 100), 0.6, 1, "dog"),
        ],
        TWO,
    )
    assert [(one.box.label, one.box.bins) for one in found] == [
        ("cat", (0, 0, 102, 101)),  # by scores: (100 * 3 + 110) / 4 = 102.5, to even
        ("cat", (500, 500, 600, 600)),
        ("dog", (0, 0, 100, 100)),
    ]
    assert [one.score for one in found] == pytest.approx([0.6, 0.25, 0.3])
    assert [len(one.sightings) for one in found] == [2, 1, 1]


def test_two_objects_of_one_look_stay_two():
    near = [(0, 0, 100, 100), (0, 0, 100, 120)]
    found = together([sighting(edges, 0.5, view) for view in range(2) for edges in near], TWO)
    assert [one.box.bins for one in found] == near
    assert [one.score for one in found] == pytest.approx([0.5, 0.5])


def test_scores_of_zero_weigh_alike():
    (one,) = together([sighting((0, 0, 100, 100), 0.0, 0), sighting((0, 0, 110, 100), 0.0, 1)], TWO)
    assert (one.box.bins, one.score) == ((0, 0, 105, 100), 0.0)


def test_a_tile_that_cannot_show_an_object_whole_does_not_speak_against_it():
    """Four tiles: one shows the first box, four the second, none the third."""
    boxes = [(0, 0, 300, 300), (440, 440, 580, 580), (100, 100, 900, 900)]
    every = looks(1, 2)
    found = together([Sighting(DecodedBox(edges, "cat", (0, 0)), 0.6, PLAIN) for edges in boxes], every)
    assert [one.box.bins for one in found] == boxes
    assert [one.score for one in found] == pytest.approx([0.6 / 2, 0.6 / 5, 0.6])


def test_an_enlarged_look_is_nearer_the_truth():
    """Weights 1 and 1 / 0.36, the area that the tile shows."""
    edges = [(100, 100, 200, 200), (110, 100, 210, 200)]
    every = looks(1, 2)
    (one,) = together(
        [Sighting(DecodedBox(box, "cat", (0, 0)), 0.5, look) for box, look in zip(edges, every, strict=False)], every
    )
    assert one.box.bins == (round((100 + 110 / 0.36) / (1 + 1 / 0.36)), 100, round((200 + 210 / 0.36) / 3.7778), 200)
    assert one.score == pytest.approx(0.5)
