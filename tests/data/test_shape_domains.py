"""The domains of generated scenes that the embedded model was not taught."""

import re
from collections import Counter

import pytest

import mmtune
from mmtune.data.scene_texts import inventory
from mmtune.data.scenes import make_scene
from mmtune.errors import UsageError


def test_an_inventory_counts_every_colour_and_kind():
    for index in range(30):
        scene = make_scene(5, index, 120)
        parts = dict(part.split(" x ")[::-1] for part in inventory(scene).split(" + "))
        assert {name: int(count) for name, count in parts.items()} == Counter(shape.name for shape in scene.shapes)
        numbers = [int(count) for count in parts.values()]
        assert numbers == sorted(numbers, reverse=True)


def test_extremes_have_the_answer_that_the_boxes_give():
    data = mmtune.read("shapes:train?n=60&seed=3&questions=extremes&max_objects=6", task="vqa")
    measures = {
        "furthest to the left": lambda box: box.x0 + box.x1,
        "furthest to the right": lambda box: -box.x0 - box.x1,
        "at the top": lambda box: box.y0 + box.y1,
        "at the bottom": lambda box: -box.y0 - box.y1,
    }
    asked = Counter()
    for record in data:
        assert record.prefix is not None
        where = re.fullmatch(r"which shape is (.*)\?", record.prefix)
        assert where is not None
        assert record.texts[0] == min(record.boxes, key=measures[where[1]]).label
        asked[where[1]] += 1
    assert set(asked) == set(measures)


def test_plates_are_registrations_and_are_drawn_as_such():
    data = mmtune.read("shapes:train?n=12&seed=3&writing=plates&max_objects=3", task="ocr")
    assert all(re.fullmatch(r"[A-Z]{2}-[0-9]{3}( [A-Z]{2}-[0-9]{3})?", record.texts[0]) for record in data)
    words = mmtune.read("shapes:train?n=12&seed=3&max_objects=3", task="ocr")
    first, other = data[0].picture, words[0].picture
    assert first is not None
    assert other is not None
    assert data[0].id == words[0].id
    assert first.open().tobytes() != other.open().tobytes()


@pytest.mark.parametrize("option", ["captions=list", "questions=all", "writing=script", "labels=size"])
def test_an_unknown_domain_is_named_with_the_known_ones(option):
    with pytest.raises(UsageError, match="Known: "):
        mmtune.read(f"shapes:train?n=1&{option}", task="vqa")
