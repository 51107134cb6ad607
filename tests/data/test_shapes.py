"""The reader of generated scenes: captions and answers against independent counts, labels, splits, options."""

import pickle
import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from shape_records import SIZE, records

from mmtune.data.read import read
from mmtune.data.scene_texts import QUESTIONS, ask, captions, written
from mmtune.data.scenes import make_scene, scene_rng
from mmtune.data.shape_kinds import COLOURS, KINDS, plural
from mmtune.data.shapes import ScenePicture, Shapes
from mmtune.errors import UsageError


@pytest.fixture(scope="module")
def scenes():
    return [make_scene(3, index, SIZE) for index in range(150)]


# True texts

NUMBERS = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
SINGULAR = {plural(kind): kind for kind in KINDS} | {kind: kind for kind in KINDS}


def counted(phrase):
    number, *colour, kind = phrase.split()
    return " ".join([*colour, SINGULAR[kind]]), NUMBERS.get(number)


def test_captions_name_all_that_is_there(scenes):
    for scene in scenes:
        texts = captions(scene)
        assert len(set(texts)) == 5
        things, _, words = texts[0].partition(" with the word")
        assert words == ("s " if len(scene.words) > 1 else " " if scene.words else "") + " and ".join(
            word.text for word in scene.words
        )
        said = dict(counted(phrase) for phrase in re.split(", | and ", things))
        few = len(scene.shapes) <= 6
        truth = Counter(shape.name if few else shape.kind for shape in scene.shapes)
        assert said == {name: count if count <= 6 else None for name, count in truth.items()}
        assert texts[1] == f"a picture of {texts[0]}"
        assert texts[2].startswith("there is a" if things.startswith("a") else "there are ")
        assert f" {scene.background.texture} " in texts[3]
        if few:
            left = min(shape.centre[0] for shape in scene.shapes)
            first = re.split(", | and ", things)[0]
            assert any(shape.colour in first for shape in scene.shapes if shape.centre[0] == left)


@pytest.mark.parametrize(("name", "expected"), [("circle", "circles"), ("red cross", "red crosses"), ("moon", "moons")])
def test_plurals(name, expected):
    assert plural(name) == expected


def oracle(question, boxes):
    """Answers a question from boxes labelled "red circle" alone."""
    colours = Counter(box.label.split()[0] for box in boxes)
    kinds = Counter(box.label.split()[1] for box in boxes)

    def one(kind):
        (box,) = [box for box in boxes if box.label.endswith(f" {kind}")]
        return box

    if match := re.fullmatch(r"how many (.+) are there\?", question):
        thing = match[1]
        if thing == "shapes":
            return str(len(boxes))
        if thing.endswith(" shapes"):
            return str(colours[thing.split()[0]])
        return str(kinds[SINGULAR[thing]])
    if match := re.fullmatch(r"what colour is the (\w+)\?|what is the colour of the (\w+)\?", question):
        return one(match[1] or match[2]).label.split()[0]
    if match := re.fullmatch(r"what shape is (\w+)\?|what is the (\w+) shape\?", question):
        (box,) = [box for box in boxes if box.label.startswith(f"{match[1] or match[2]} ")]
        return box.label.split()[1]
    if match := re.fullmatch(r"is there an? (\w+ \w+)\?", question):
        return "yes" if any(box.label == match[1] for box in boxes) else "no"
    if match := re.fullmatch(r"is the (\w+) on the left or on the right\?", question):
        box = one(match[1])
        return "left" if box.x0 + box.x1 < SIZE else "right"
    if match := re.fullmatch(r"is the (\w+) left or right of the (\w+)\?", question):
        a, b = one(match[1]), one(match[2])
        return "left" if a.x0 + a.x1 < b.x0 + b.x1 else "right"
    if match := re.fullmatch(r"is the (\w+) above or below the middle\?", question):
        box = one(match[1])
        return "above" if box.y0 + box.y1 < SIZE else "below"
    if match := re.fullmatch(r"is the (\w+) above or below the (\w+)\?", question):
        a, b = one(match[1]), one(match[2])
        return "above" if a.y0 + a.y1 < b.y0 + b.y1 else "below"
    raise AssertionError(question)


def test_answers_agree_with_the_boxes():
    for record in records("vqa", labels="both", n=150, size=SIZE).records:
        assert record.prefix is not None
        assert record.texts == (oracle(record.prefix, record.boxes),) * 10


def test_every_kind_of_question_is_asked_and_its_answers_are_balanced(scenes):
    answers = defaultdict(Counter)
    for kind in QUESTIONS:
        for scene in scenes:
            question = ask(scene, scene_rng(scene.seed, scene.index, 2), (kind,))
            if question:
                assert question.kind == kind
                answers[kind][question.answer] += 1
    for kind, two in {"presence": "yes no", "side": "left right", "height": "above below"}.items():
        first, second = (answers[kind][answer] for answer in two.split())
        assert first + second == answers[kind].total() > 50
        assert 0.35 < first / (first + second) < 0.65
    assert answers["count"].most_common(1)[0][1] < 0.45 * answers["count"].total()
    assert len(answers["colour"]) == len(COLOURS)
    assert len(answers["shape"]) == len(KINDS)


# The reader


def test_splits_are_disjoint_streams_whatever_the_seed():
    seen = [
        (record.picture.seed, record.picture.index)
        for seed in range(3)
        for split in ("train", "val", "test")
        for record in records(split=split, n=4, seed=seed, size=64).records
    ]
    assert len(set(seen)) == len(seen) == 36


@pytest.mark.parametrize(
    ("labels", "classes"),
    [("shape", list(KINDS)), ("colour", list(COLOURS)), ("both", [f"{c} {k}" for c in COLOURS for k in KINDS])],
)
def test_labels(labels, classes):
    content = records(labels=labels, n=5, size=64, need_masks=True)
    assert list(content.classes) == classes
    scene = make_scene(0, 0, 64)
    expected = [{"shape": s.kind, "colour": s.colour, "both": s.name}[labels] for s in scene.shapes]
    assert [box.label for box in content.records[0].boxes] == expected
    assert [mask.label for mask in content.records[0].masks] == expected


@pytest.mark.parametrize(
    ("task", "prefix", "texts"),
    [
        ("detection", None, ()),
        ("segmentation", None, ()),
        (None, None, ()),
        ("captioning", None, captions(make_scene(1, 0, 64))),
    ],
)
def test_texts_by_task(task, prefix, texts):
    record = records(task, split="val", n=1, size=64).records[0]
    assert (record.prefix, record.texts) == (prefix, texts)


def test_all_tasks_share_one_scene():
    tasks = [records(task, n=10, size=64).records for task in ("detection", "captioning", "vqa")]
    for same in zip(*tasks, strict=True):
        assert len({(record.id, record.picture, record.boxes) for record in same}) == 1


def test_reading_passes_over_scenes_without_words():
    found = records("ocr", n=20, size=64).records
    assert len(found) == 20
    for record in found:
        scene = make_scene(record.picture.seed, record.picture.index, 64)
        assert record.texts == (written(scene),) == (" ".join(word.text for word in scene.words),)
        assert record.texts[0]


def test_records_are_complete():
    found = records(n=12, size=100, max_objects=3, seed=2, split="test").records
    assert len({record.id for record in found}) == len({record.image_id for record in found}) == 12
    for record in found:
        assert record.size == (100, 100)
        assert record.masks == ()
        assert 1 <= len(record.boxes) <= 3
        assert "test" in record.source
    picture = found[0].picture
    image = picture.open()
    assert (image.size, image.mode) == ((100, 100), "RGB")
    assert pickle.loads(pickle.dumps(picture)).open().tobytes() == image.tobytes()
    assert picture == ScenePicture(8, 0, 100, 3)
    assert "8/0" in picture.name


def test_the_address_reaches_the_reader():
    data = read("shapes:val?n=3&seed=1&size=64", task="vqa")
    assert (len(data), data.format, data.classes, data.faults) == (3, "shapes", tuple(KINDS), ())
    assert data[0].picture == ScenePicture(4, 0, 64, 25)
    assert not Shapes().claims(Path("shapes"))
    assert Shapes().splits(Path("shapes")) == ("train", "val", "test")


@pytest.mark.parametrize(
    ("options", "split", "message"),
    [
        ({"m": "3"}, None, "unknown option of shapes 'm'"),
        ({"max_object": "3"}, None, "did you mean 'max_objects'"),
        ({"labels": "color"}, None, "did you mean 'colour'"),
        ({"n": "many"}, None, "option n of shapes: expected a whole number from 1 to 10000000, got 'many'"),
        ({"n": "0"}, None, "from 1"),
        ({"seed": "-1"}, None, "from 0"),
        ({"size": "16"}, None, "from 64 to 2048"),
        ({"max_objects": "26"}, None, "from 1 to 25"),
        ({}, "trian", "unknown split of shapes 'trian': did you mean 'train'?"),
    ],
)
def test_wrong_options_say_what_was_expected(options, split, message):
    with pytest.raises(UsageError) as error:
        records(split=split, **options)
    assert message in str(error.value)
