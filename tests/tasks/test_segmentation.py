import json
import re
from dataclasses import replace

import numpy as np
import pytest
from mask_networks import NARROW, random_arrays
from PIL import Image
from pycocotools import mask as coco

from mmtune.codecs.boxes import NOISE_LABEL, UNNAMED, to_bins
from mmtune.codecs.mask_boxes import crop_mask
from mmtune.codecs.mask_files import load_codec, save_codec
from mmtune.codecs.mask_runs import mask_pixels
from mmtune.data.augment import Augment, mirror
from mmtune.data.dataset import FaultLog
from mmtune.data.read import read
from mmtune.errors import ModelError, RecipeError, UsageError
from mmtune.models.tiny import tiny_tokenizer
from mmtune.records import Box, Mask, Output, Query, Record
from mmtune.registry import task_class
from mmtune.tasks.segmentation import Segmentation, SegmentationOptions
from mmtune.training.examples import RowMaker, list_examples, tokenise

CLASSES = ("cat", "dog", "dog house")
SIZE = (200, 150)  # width, height
OBJECT = re.compile(r"((?:<loc\d{4}>){4})((?:<seg\d{3}>){16})(?: (.*?))?(?: ; |$)")


def mask_of(pixels, label="cat", crowd=False):
    return Mask(label, pixels.shape, coco.encode(np.asfortranarray(pixels, np.uint8))["counts"], crowd=crowd)


def disc(x, y, radius, label, crowd=False):
    rows, columns = np.mgrid[: SIZE[1], : SIZE[0]]
    return mask_of((rows - y) ** 2 + (columns - x) ** 2 <= radius**2, label, crowd)


CAT, DOG, HOUSE = disc(50, 40, 30, "cat"), disc(150, 100, 20, "dog"), disc(100, 110, 35, "dog house")
RECORD = Record("r", size=SIZE, masks=(CAT, DOG, HOUSE), source="truth.json")


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


def task_of(classes=CLASSES, **options):
    return Segmentation(classes, SegmentationOptions(**options))


def text_of(target):
    return "".join(span.text for span in target)


def only(task, record=RECORD, rng=None):
    (query,) = task.queries(record)
    (target,) = task.targets(record, query, rng)
    return query, text_of(target)


def overlap(one, other):
    return (one & other).sum() / (one | other).sum()


def test_registered():
    assert task_class("segmentation") is Segmentation


def test_target_is_box_codes_and_label():
    """Each part against its own source: bins of the tight box, codes of the mask cut out along it."""
    query, text = only(task_of(order="file"))
    assert query == Query("segment cat ; dog ; dog house", CLASSES)
    objects = OBJECT.findall(text)
    assert "".join(f"{a}{b} {c} ; " for a, b, c in objects) == text + " ; "
    assert [label for _, _, label in objects] == list(CLASSES)
    for mask, (locs, segs, _) in zip(RECORD.masks, objects, strict=True):
        rows, columns = np.nonzero(mask_pixels(mask))
        edges = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert [int(n) for n in re.findall(r"\d+", locs)] == list(to_bins(Box("x", *edges), SIZE))
        codes = load_codec().encode(crop_mask(mask_pixels(mask), edges)[None])[0]
        assert [int(n) for n in re.findall(r"\d+", segs)] == codes.tolist()


@pytest.mark.parametrize("prompt", ["all", "per_class"])
def test_target_read_back_is_the_truth(prompt):
    task = task_of(prompt=prompt)
    answers = [(query, Output(text_of(task.targets(RECORD, query)[0]))) for query in task.queries(RECORD)]
    found = task.parse(RECORD, answers)
    assert found.invalid == 0
    assert [mask.label for mask in found.masks] == list(CLASSES)
    for truth, mask, box in zip(RECORD.masks, found.masks, found.boxes, strict=True):
        assert overlap(mask_pixels(truth), mask_pixels(mask)) > 0.93
        assert (box.label, box.score) == (mask.label, mask.score)
    metric = task.metric()
    metric.update(RECORD, found)
    scores = metric.compute()
    assert scores["mIoU"] > 0.93
    assert scores["boxacc75"] == 1
    assert task.headline in scores


def test_crowds_are_no_targets():
    record = replace(RECORD, masks=(CAT, replace(DOG, crowd=True)))
    assert only(task_of(), record)[1].count(" cat") == 1
    assert "dog" not in only(task_of(), record)[1]
    assert list(task_of().targets(Record("r", size=SIZE), Query("segment cat", ("cat",)))) == [()]


def test_noise_has_codes_and_no_loss_but_on_its_label(tokenizer):
    task = task_of(noise_boxes=6)
    (query,) = task.queries(RECORD)
    for record in (RECORD, Record("r", size=SIZE)):
        (target,) = task.targets(record, query, np.random.default_rng(0))
        objects = OBJECT.findall(text_of(target))
        real = len(record.masks)
        assert [label for _, _, label in objects[real:]] == [NOISE_LABEL] * (6 - real)
        tokens = tokenise(target, tokenizer)
        coordinates = [i for i, token in enumerate(tokens.ids) if tokenizer.loc <= token < tokenizer.seg + 128]
        assert not any(tokens.weights[i] for i in coordinates[20 * real :])
        assert all(tokens.weights[i] for i in coordinates[: 20 * real])
        noise = tokenizer.encode(f"<loc0000> {NOISE_LABEL}")[1]
        assert [tokens.labels[i + 1] == noise for i in coordinates[19::20]] == [False] * real + [True] * (6 - real)
        assert all(tokens.weights[i + 1] for i in coordinates[19::20])
        found = task.parse(RECORD, [(query, Output(text_of(target)))])
        assert (len(found.masks), found.invalid) == (real, 0)


def test_codes_weigh_as_much_as_the_options_say(tokenizer):
    task = task_of(noise_boxes=4, mask_weight=0.25, order="raster")
    (query,) = task.queries(RECORD)
    tokens = tokenise(task.targets(RECORD, query, np.random.default_rng(0))[0], tokenizer)
    real = noise = 0
    for place, token in enumerate(tokens.ids):
        if tokenizer.loc <= token < tokenizer.loc + 1024:
            assert tokens.weights[place] in (0, 1)
        elif token >= tokenizer.seg:
            assert tokens.weights[place] in (0, 0.25)
            real += tokens.weights[place] > 0
            noise += tokens.weights[place] == 0
        else:
            assert tokens.weights[place] in (0, 1)  # noise: the first token of its label alone
    assert (real, noise) == (16 * len(RECORD.masks), 16 * (4 - len(RECORD.masks)))
    with pytest.raises(RecipeError, match="mask_weight"):
        task_of(mask_weight=-1.0)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        pytest.param(Record("r", masks=(CAT,)), "size of the picture is not known", id="no size"),
        pytest.param(Record("r", size=SIZE, masks=(replace(CAT, label="elk"),)), "'elk' is not among", id="class"),
        pytest.param(Record("r", size=SIZE, boxes=(Box("cat", 1, 1, 9, 9),)), "1 boxes without masks", id="boxes"),
        pytest.param(Record("r", size=(150, 200), masks=(CAT,)), "a mask of 200 x 150 pixels on", id="other size"),
        pytest.param(
            Record("r", size=SIZE, prefix="left pet", masks=(replace(CAT, label=UNNAMED),) * 2),
            "2 masks for the expression 'left pet'",
            id="two objects for an expression",
        ),
    ],
)
def test_check_refuses(record, words):
    problems = task_of((*CLASSES, UNNAMED)).check(record)
    assert [problem for problem in problems if words in problem]


def test_check_accepts():
    assert list(task_of().check(RECORD)) == []
    assert list(task_of().check(Record("r", size=SIZE))) == []
    assert list(task_of().check(Record("r", size=SIZE, boxes=(Box("cat", 1, 1, 9, 9, crowd=True),)))) == []


@pytest.mark.parametrize(
    ("prefix", "option", "labels"),
    [
        pytest.param("segment dog ; zebra", "all", ("dog", "zebra"), id="classes"),
        pytest.param("segment all classes", "all", CLASSES, id="all classes"),
        pytest.param("the dog on the left", "all", (), id="expression"),
        pytest.param("segment dog", "referring", (), id="always an expression"),
    ],
)
def test_prefixes_of_their_own(prefix, option, labels):
    assert list(task_of(prompt=option).queries(replace(RECORD, prefix=prefix))) == [Query(prefix, labels)]


def test_referring_needs_an_expression():
    task = task_of(prompt="referring")
    assert "must be an expression" in task.check(RECORD)[0]
    with pytest.raises(UsageError, match="record r: this model answers expressions"):
        task.queries(RECORD)


def test_expressions_are_answered_without_a_label(tokenizer):
    task = task_of((UNNAMED,))
    record = Record("r", size=SIZE, prefix="the pet", masks=(replace(CAT, label=UNNAMED),), source="x")
    query, text = only(task, record, np.random.default_rng(0))
    assert re.fullmatch(r"(<loc\d{4}>){4}(<seg\d{3}>){16}", text)
    found = task.parse(record, [(query, Output(text))])
    assert [mask.label for mask in found.masks] == [UNNAMED]
    assert found.invalid == 0
    metric = task.metric()
    metric.update(record, found)
    assert metric.compute()["mIoU"] > 0.95
    grammar = task.grammar(query, tokenizer)
    assert grammar.accepts([*tokenizer.encode(text), tokenizer.eos])
    assert not grammar.accepts([*tokenizer.encode(f"{text} cat"), tokenizer.eos])
    assert not grammar.accepts([*tokenizer.encode(text)[:-1], tokenizer.eos])
    assert not grammar.accepts([tokenizer.eos])
    assert task.max_tokens([record], tokenizer) == 32
    # What a model adds to the object is not needed and not clean.
    more = task.parse(record, [(query, Output(f"{text} ; {text}"))])
    assert (len(more.masks), more.invalid) == (1, 1)


BODY = "<loc0100><loc0100><loc0500><loc0500>"
CODES = "<seg001>" * 16


@pytest.mark.parametrize(
    ("text", "masks", "invalid"),
    [
        pytest.param(f"{BODY}{CODES} cat", 1, 0, id="clean"),
        pytest.param(f"{BODY}{CODES} cat ; {BODY}{CODES} dog", 2, 0, id="two"),
        pytest.param(f"{BODY} cat", 0, 1, id="no codes"),
        pytest.param(f"{BODY}{CODES[:-8]} cat", 0, 1, id="fifteen codes"),
        pytest.param(f"{BODY}{CODES}<seg001> cat", 0, 1, id="seventeen codes"),
        pytest.param(f"{BODY}{CODES[:-8]}<seg128> cat", 0, 1, id="a code beyond the last"),
        pytest.param(f"{BODY[:-9]}{CODES} cat", 0, 1, id="three edges"),
        pytest.param(f"{BODY[:-9]}<loc1024>{CODES} cat", 0, 1, id="an edge beyond the last"),
        pytest.param(f"<loc0100><loc0100><loc0100><loc0500>{CODES} cat", 0, 1, id="no height"),
        pytest.param(f"{BODY}{CODES} elk", 0, 1, id="unknown label"),
        pytest.param(f"{BODY}{CODES}", 0, 1, id="no label"),
        pytest.param(f"{BODY}{CODES} cat ;", 1, 1, id="separator at the end"),
        pytest.param(f"look: {BODY}{CODES} cat", 1, 1, id="text before"),
        pytest.param(f"{BODY}{CODES} {NOISE_LABEL}", 0, 1, id="noise that nobody taught"),
        pytest.param("", 0, 0, id="nothing"),
        pytest.param("no idea", 0, 1, id="other text"),
    ],
)
def test_parse(text, masks, invalid):
    task = task_of()
    found = task.parse(RECORD, [(task.queries(RECORD)[0], Output(text))])
    assert (len(found.masks), len(found.boxes), found.invalid) == (masks, masks, invalid)


def test_parse_without_a_size_counts_masks_as_invalid():
    found = task_of().parse(Record("r"), [(Query("segment cat", ("cat",)), Output(f"{BODY}{CODES} cat"))])
    assert (found.masks, found.boxes, found.invalid) == ((), (), 1)


def test_grammar_allows_targets(tokenizer):
    task = task_of()
    query, text = only(task)
    grammar = task.grammar(query, tokenizer)
    assert grammar.accepts([*tokenizer.encode(text), tokenizer.eos])
    assert not grammar.accepts([*tokenizer.encode(text.replace("<seg", "<loc0", 1)), tokenizer.eos])
    assert not grammar.accepts([*tokenizer.encode(f"{BODY} cat"), tokenizer.eos])


@pytest.mark.parametrize("options", [{}, {"noise_boxes": 5}, {"max_boxes": 2}, {"prompt": "per_class"}])
def test_bounds_hold_every_target(tokenizer, options):
    task = task_of(**options)
    rng = np.random.default_rng(0)
    longest = 0
    for query in task.queries(RECORD):
        for _ in range(10):
            (target,) = task.targets(RECORD, query, rng)
            length = len(tokenise(target, tokenizer).ids)
            assert length <= task.target_bound(RECORD, query, tokenizer)
            longest = max(longest, length)
    assert longest <= task.max_tokens([RECORD], tokenizer) < longest + 48


@pytest.fixture
def suffixes(tmp_path):
    """Pictures with PaliGemma's own text: one asked by class, one by an expression."""
    for name in ("a", "b"):
        Image.new("RGB", SIZE).save(tmp_path / f"{name}.png")
    masks = np.stack([crop_mask(mask_pixels(CAT), (20, 10, 81, 71)), np.tri(64)])
    cat, dog = ("".join(f"<seg{code:03d}>" for code in codes) for codes in load_codec().encode(masks))
    lines = [
        {"image": "a.png", "prefix": "segment cat ; dog", "suffix": f"{BODY}{dog} dog ; {BODY}{cat} cat"},
        {"image": "b.png", "prefix": "the pet", "suffix": f"{BODY}{dog}"},
    ]
    file = tmp_path / "data.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file, [line["suffix"] for line in lines]


def test_text_of_the_data_is_taught_as_it_stands(suffixes):
    file, texts = suffixes
    data = read(file, task="segmentation")
    assert not data.faults
    assert data.classes == ("cat", "dog", UNNAMED)
    task = task_of(data.classes)
    assert [list(task.check(record)) for record in data] == [[], []]
    assert [only(task, record)[1] for record in data] == texts
    prepared = [task.prepared(record) for record in data]
    assert [[mask.label for mask in record.masks] for record in prepared] == [["dog", "cat"], [UNNAMED]]
    assert all(task.prepared(record) is record for record in prepared)
    assert [only(task, record)[1] for record in prepared] == texts
    # The truth is what the codes decode to.
    for record, text in zip(prepared, texts, strict=True):
        metric = task.metric()
        metric.update(record, task.parse(record, [(task.queries(record)[0], Output(text))]))
        assert metric.compute()["mIoU"] == 1


def test_mirrored_text_is_encoded_anew(suffixes, tokenizer):
    file, texts = suffixes
    data = read(file, task="segmentation")
    task = task_of(data.classes)
    record = task.prepared(data[0])
    _, flipped = mirror(record.picture.open(), record, "x")
    _, text = only(task, flipped)
    assert text != texts[0]
    found = task.parse(flipped, [(task.queries(record)[0], Output(text))])
    for truth, mask in zip(flipped.masks, found.masks, strict=True):
        assert overlap(mask_pixels(truth), mask_pixels(mask)) > 0.8
    # The same on the way to training rows.
    examples = list_examples(data, task, tokenizer, FaultLog())
    plain, turned = (
        RowMaker(examples, task, tokenizer, 24, Augment(flip=chance), seed=0)(1, 0) for chance in (0.0, 1.0)
    )
    assert plain.suffixes[0] == [*tokenizer.encode(texts[1]), tokenizer.eos]
    assert turned.suffixes[0] != plain.suffixes[0]


def test_codec_goes_by_the_vocabulary(tokenizer, monkeypatch):
    assert task_of().for_tokenizer(tokenizer).options.codec == "small"

    class Pretrained:
        vocabulary_size = 257_152

    asked = []
    small = load_codec()
    monkeypatch.setattr("mmtune.tasks.segmentation.load_codec", lambda name: asked.append(name) or small)
    assert task_of().for_tokenizer(Pretrained()).options.codec == "public"
    assert task_of(codec="mine.npz").for_tokenizer(Pretrained()).options.codec == "mine.npz"
    assert asked == ["public", "mine.npz"]


def test_codes_belong_to_their_codec(tokenizer, tmp_path):
    save_codec(random_arrays(NARROW), tmp_path / "other.npz")
    task = task_of(codec=str(tmp_path / "other.npz")).for_tokenizer(tokenizer)
    taught = task.settled()["codec_id"]
    assert taught == f"other.npz {load_codec(tmp_path / 'other.npz').fingerprint}"
    (tmp_path / "other.npz").rename(tmp_path / "moved.npz")
    again = task_of(codec=str(tmp_path / "moved.npz"), codec_id=taught).for_tokenizer(tokenizer)
    assert again.codec.fingerprint == task.codec.fingerprint
    with pytest.raises(ModelError, match=f"taught the codes of the mask codec {taught}, and small is another one"):
        task_of(codec_id=taught).for_tokenizer(tokenizer)
    with pytest.raises(ModelError, match="no such file"):
        task_of(codec=str(tmp_path / "none.npz")).for_tokenizer(tokenizer)


def test_wrong_options_are_reported_together():
    with pytest.raises(RecipeError) as error:
        SegmentationOptions(prompt="none", order="size")
    assert error.value.problems[0] == "options.prompt: expected one of all, per_class, referring, got 'none'"
    assert len(error.value.problems) == 2


def test_draw_and_json():
    task = task_of()
    query, text = only(task)
    found = task.parse(RECORD, [(query, Output(text))])
    image = Image.new("RGB", SIZE)
    drawn = task.draw(image, found)
    assert drawn.size == SIZE
    assert drawn.getcolors() != image.getcolors()
    items = json.loads(json.dumps(task.as_json(found)))
    assert [item["label"] for item in items["masks"]] == list(CLASSES)
    for item, box, truth in zip(items["masks"], items["boxes"], RECORD.masks, strict=True):
        assert {key: item[key] for key in box} == box
        assert item["rle"]["size"] == [SIZE[1], SIZE[0]]
        assert overlap(coco.decode(item["rle"]).astype(bool), mask_pixels(truth)) > 0.93


def test_real_polygons_and_both_forms_of_run_lengths(shared_data, tmp_path):
    """COCO's three forms of a mask are one mask, and one target."""
    content = json.loads((shared_data / "nuts" / "trainval.json").read_text())
    truth = read(shared_data / "nuts", task="segmentation", need_pictures=False)
    texts = [only(task_of(truth.classes), record)[1] for record in truth[:2]]
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    for compressed in (True, False):
        other = json.loads(json.dumps(content))
        for annotation in other["annotations"]:
            size = sizes[annotation["image_id"]]
            runs = coco.merge(coco.frPyObjects(annotation["segmentation"], *size))
            if compressed:
                annotation["segmentation"] = {"size": list(size), "counts": runs["counts"].decode()}
            else:
                pixels = coco.decode(runs).reshape(-1, order="F")
                edges = np.flatnonzero(np.diff(pixels)) + 1
                lengths = np.diff([0, *edges, len(pixels)]).tolist()
                annotation["segmentation"] = {"size": list(size), "counts": [0] * int(pixels[0]) + lengths}
        file = tmp_path / f"instances_{compressed}.json"
        file.write_text(json.dumps(other))
        data = read(file, task="segmentation", need_pictures=False)
        assert [only(task_of(data.classes), record)[1] for record in data[:2]] == texts
