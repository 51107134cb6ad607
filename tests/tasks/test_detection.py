import logging
import math
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mmtune.codecs.boxes import NOISE_LABEL, decode_boxes
from mmtune.errors import RecipeError
from mmtune.models.tiny import tiny_tokenizer
from mmtune.records import Box, Output, Prediction, Query, Record
from mmtune.registry import task_class
from mmtune.tasks.detection import Detection, DetectionOptions
from mmtune.training.examples import tokenise

CLASSES = ("cat", "dog", "dog house")
SIZE = (1023, 1023)  # one bin a pixel
CAT, DOG, HOUSE = Box("cat", 10, 300, 60, 400), Box("dog", 20, 0, 30, 50), Box("dog house", 0, 0, 1023, 1023)
RECORD = Record("r", size=SIZE, boxes=(CAT, DOG, HOUSE), source="truth.json")
TEXTS = {
    "cat": "<loc0300><loc0010><loc0400><loc0060> cat",
    "dog": "<loc0000><loc0020><loc0050><loc0030> dog",
    "dog house": "<loc0000><loc0000><loc1023><loc1023> dog house",
}


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


def text_of(target):
    return "".join(span.text for span in target)


def joined(*labels):
    return " ; ".join(TEXTS[label] for label in labels)


def output(tokenizer, text, logprobs=None):
    tokens = tuple(tokenizer.texts(tokenizer.encode(text)))
    return Output(text, tokens, tuple(logprobs or [0.0] * len(tokens)))


def test_registered():
    assert task_class("detection") is Detection


@pytest.mark.parametrize(
    ("options", "record", "expected"),
    [
        pytest.param({}, RECORD, [Query("detect cat ; dog ; dog house", CLASSES)], id="all classes"),
        pytest.param(
            {"prompt": "per_class"}, RECORD, [Query(f"detect {label}", (label,)) for label in CLASSES], id="per class"
        ),
        pytest.param(
            {}, Record("r", prefix="detect dog ; zebra"), [Query("detect dog ; zebra", ("dog", "zebra"))], id="prefix"
        ),
        pytest.param(
            {"prompt": "per_class"},
            Record("r", prefix="detect all classes"),
            [Query("detect all classes", CLASSES)],
            id="prefix of the published recipe",
        ),
        pytest.param({}, Record("r", prefix="find pets"), [Query("find pets", CLASSES)], id="prefix without names"),
    ],
)
def test_queries(options, record, expected):
    assert list(Detection(CLASSES, DetectionOptions(**options)).queries(record)) == expected


def test_queries_leave_out_classes_that_cannot_be_written():
    task = Detection(("cat", "a\nb"))
    assert task.queries(RECORD) == (Query("detect cat", ("cat",)),)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        pytest.param(Record("r", boxes=(CAT,)), "size of the picture is not known", id="no size"),
        pytest.param(Record("r", size=SIZE, boxes=(Box("a\nb", 0, 0, 1, 1),)), "control character", id="label"),
        pytest.param(
            Record("r", size=SIZE, boxes=(Box("elk", 0, 0, 1, 1),)), "'elk' is not among the classes", id="class"
        ),
        pytest.param(Record("r", size=SIZE, boxes=(Box("cat", 5, 0, 5, 1),)), "no area", id="no width"),
        pytest.param(Record("r", size=SIZE, boxes=(Box("cat", 5, 2, 6, 1),)), "no area", id="negative height"),
        pytest.param(Record("r", size=SIZE, boxes=(Box("cat", 0, math.nan, 6, 1),)), "expected numbers", id="nan"),
        pytest.param(
            Record("r", size=SIZE, boxes=(Box("cat", 1023, 0, 1030, 1),)), "outside the picture", id="outside"
        ),
    ],
)
def test_check_refuses(record, words):
    problems = Detection(CLASSES).check(record)
    assert len(problems) == 1
    assert words in problems[0]


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(RECORD, id="plain"),
        pytest.param(Record("r", size=SIZE), id="no objects"),
        pytest.param(Record("r", size=SIZE, boxes=(Box("elk", 5, 0, 5, 1, crowd=True),)), id="odd crowd box"),
        pytest.param(Record("r", size=SIZE, boxes=(Box("elk", 5, 0, 5, 1, difficult=True),)), id="odd difficult box"),
    ],
)
def test_check_accepts(record):
    assert list(Detection(CLASSES).check(record)) == []


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("file", ("cat", "dog", "dog house")),
        ("random", ("cat", "dog", "dog house")),
        ("raster", ("dog house", "dog", "cat")),
    ],
)
def test_plain_targets(order, expected):
    task = Detection(CLASSES, DetectionOptions(order=order, noise_boxes=9))
    (query,) = task.queries(RECORD)
    (target,) = task.targets(RECORD, query)
    assert text_of(target) == joined(*expected)
    assert all(span.weight == 1 for span in target)


def test_targets_of_a_query_hold_its_classes_only():
    task = Detection(CLASSES, DetectionOptions(prompt="per_class"))
    texts = [text_of(task.targets(RECORD, query)[0]) for query in task.queries(RECORD)]
    assert texts == [TEXTS[label] for label in CLASSES]


def test_crowd_and_difficult_boxes_and_empty_pictures():
    record = Record(
        "r", size=SIZE, boxes=(Box("cat", 0, 0, 9, 9, crowd=True), DOG, Box("cat", 0, 0, 9, 9, difficult=True))
    )
    task = Detection(CLASSES)
    (query,) = task.queries(record)
    assert text_of(task.targets(record, query)[0]) == TEXTS["dog"]
    assert list(task.targets(Record("r", size=SIZE), query)) == [()]


def test_random_order_shows_every_order_and_loses_nothing():
    task = Detection(CLASSES)
    (query,) = task.queries(RECORD)
    rng = np.random.default_rng(0)
    texts = {text_of(task.targets(RECORD, query, rng)[0]) for _ in range(100)}
    assert len(texts) == 6
    assert {tuple(sorted(text.split(" ; "))) for text in texts} == {tuple(sorted(TEXTS.values()))}


def test_more_boxes_than_fit():
    task = Detection(CLASSES, DetectionOptions(max_boxes=2, order="file"))
    (query,) = task.queries(RECORD)
    assert text_of(task.targets(RECORD, query)[0]) == joined("cat", "dog house")
    rng = np.random.default_rng(0)
    texts = {text_of(task.targets(RECORD, query, rng)[0]) for _ in range(50)}
    assert texts == {joined("cat", "dog"), joined("cat", "dog house"), joined("dog", "dog house")}


@pytest.mark.parametrize("order", ["random", "raster"])
@pytest.mark.parametrize(
    "record", [pytest.param(RECORD, id="three boxes"), pytest.param(Record("r", size=SIZE), id="no box")]
)
def test_noise_fills_the_target_without_loss_on_its_coordinates(record, order, tokenizer):
    task = Detection(CLASSES, DetectionOptions(noise_boxes=8, order=order))
    (query,) = task.queries(RECORD)
    (target,) = task.targets(record, query, np.random.default_rng(0))
    decoded = decode_boxes(text_of(target))
    labels = [box.label for box in decoded.boxes]
    real = len(record.boxes)
    assert decoded.invalid == 0
    assert sorted(label for label in labels if label != NOISE_LABEL) == sorted(box.label for box in record.boxes)
    assert labels.count(NOISE_LABEL) == 8 - real
    if order == "random":
        assert labels[real:] == [NOISE_LABEL] * (8 - real)
    # Tokenised span by span as in one piece.
    assert [token for span in target for token in tokenizer.encode(span.text)] == tokenizer.encode(text_of(target))
    # The decoder reads real labels only, and of each noise box learns the first token of its label alone.
    ids, weights, predicted = (np.array(part) for part in tokenise(target, tokenizer))
    read = decode_boxes(tokenizer.decode(ids[:-1].tolist()))
    assert [box.bins for box in read.boxes] == [box.bins for box in decoded.boxes]
    assert {box.label for box in read.boxes} <= set(CLASSES)
    starts = np.flatnonzero((ids >= tokenizer.loc) & (ids < tokenizer.loc + 1024))[::4]
    for label, start, end in zip(labels, starts, [*starts[1:], len(ids) - 1], strict=True):
        taught = np.flatnonzero(weights[start:end])
        if label == NOISE_LABEL:
            assert taught.tolist() == [4]
            assert predicted[start + 4] == tokenizer.encode(f"<loc0000> {NOISE_LABEL}")[1]
        else:
            assert len(taught) == end - start
        other = np.flatnonzero(ids[start:end] != predicted[start:end])
        assert other.tolist() == ([4] if label == NOISE_LABEL else [])
    assert (ids[-1], weights[-1], predicted[-1]) == (tokenizer.eos, 1, tokenizer.eos)


def test_parse_reads_boxes_in_pixels_of_the_picture():
    record = Record("7", size=(2046, 1023))
    task = Detection(CLASSES)
    (query,) = task.queries(record)
    text = f"{joined('cat', 'dog')} ; {TEXTS['cat']}y ; <loc0000> cat ; {TEXTS['dog'][:-3]}{NOISE_LABEL}"
    found = task.parse(record, [(query, Output(text))])
    assert found.record == "7"
    assert found.prompt == query.prompt
    assert found.text == text
    assert found.boxes == (Box("cat", 20, 300, 120, 400, score=1.0), Box("dog", 40, 0, 60, 50, score=1.0))
    # An unknown label, a group of one location token, a noise label that nobody taught.
    assert found.invalid == 3


def test_parse_overlooks_the_noise_label_where_it_was_taught():
    task = Detection(CLASSES, DetectionOptions(noise_boxes=4))
    (query,) = task.queries(RECORD)
    found = task.parse(RECORD, [(query, Output(f"{TEXTS['dog'][:-3]}{NOISE_LABEL} ; {TEXTS['dog']}"))])
    assert [box.label for box in found.boxes] == ["dog"]
    assert found.invalid == 0


def test_parse_merges_queries(tokenizer):
    task = Detection(CLASSES, DetectionOptions(prompt="per_class"))
    cat, dog, house = task.queries(RECORD)
    answers = [(cat, output(tokenizer, TEXTS["cat"])), (dog, output(tokenizer, TEXTS["cat"])), (house, Output(""))]
    found = task.parse(RECORD, answers)
    assert [box.label for box in found.boxes] == ["cat"]
    assert found.invalid == 1  # the second answer names what it was not asked for
    assert found.prompt == "detect cat\ndetect dog\ndetect dog house"
    assert found.text == f"{TEXTS['cat']}\n{TEXTS['cat']}\n"
    assert "".join(text for text, _ in found.tokens) == TEXTS["cat"] * 2


@pytest.mark.parametrize("text", ["", "nothing", "\ud800", "<loc0000>" * 9, f"{TEXTS['cat']}\x00 ; ;;"])
def test_parse_never_raises(text):
    task = Detection(CLASSES)
    assert task.parse(Record("r"), [(Query("detect cat", ("cat",)), Output(text))]).boxes == ()
    assert task.parse(RECORD, []).boxes == ()


def test_parse_without_a_size_counts_boxes_as_invalid():
    found = Detection(CLASSES).parse(Record("r"), [(Query("detect cat", ("cat",)), Output(TEXTS["cat"]))])
    assert (found.boxes, found.invalid) == ((), 1)


@pytest.mark.parametrize("labels", [("cat", "dog house"), ("日本", "cat"), ("é", "日本")], ids=" ".join)
def test_score_is_the_product_over_the_label_tokens(tokenizer, labels):
    """Scores agree with probabilities laid on the pieces that were encoded one after the other."""
    rng = np.random.default_rng(0)
    text, logprobs, expected = "", [], []
    for number, label in enumerate(labels):
        for part, is_label in (
            ("<loc0001><loc0002><loc0003><loc0004>", False),
            (f" {label}", True),
            (" ; " if number + 1 < len(labels) else "", False),
        ):
            values = rng.uniform(-2, -0.1, len(tokenizer.encode(part))).tolist()
            text, logprobs = text + part, logprobs + values
            if is_label:
                expected.append(math.exp(sum(values)))
    answer = output(tokenizer, text, logprobs)
    assert len(answer.tokens) == len(logprobs), "the vocabulary merges pieces over a border: adapt this test"
    found = Detection(labels).parse(RECORD, [(Query("detect x", labels), answer)])
    assert [box.score for box in found.boxes] == pytest.approx(expected)
    ones = Detection(labels, DetectionOptions(score="one")).parse(RECORD, [(Query("detect x", labels), answer)])
    assert [box.score for box in ones.boxes] == [1.0, 1.0]


def test_score_by_location_counts_the_four_locations_of_its_own_box(tokenizer):
    rng = np.random.default_rng(1)
    text, logprobs, expected = "", [], []
    for number, label in enumerate(("cat", "dog house")):
        at = rng.uniform(-3, -0.1, 4).tolist()
        called = rng.uniform(-2, -0.1, len(tokenizer.encode(f" {label}"))).tolist()
        parted = rng.uniform(-2, -0.1, 0 if number else len(tokenizer.encode(" ; "))).tolist()
        text += f"<loc0001><loc0002><loc0300><loc0400> {label}{'' if number else ' ; '}"
        logprobs += at + called + parted
        mean = math.exp(sum(at) / 4)
        expected.append(math.exp(sum(called)) * mean / (mean + 1 / 256))
    answer = output(tokenizer, text, logprobs)
    task = Detection(("cat", "dog house"), DetectionOptions(score="location"))
    found = task.parse(RECORD, [(Query("detect x", ("cat", "dog house")), answer)])
    assert [box.score for box in found.boxes] == pytest.approx(expected)


def test_of_boxes_that_overlap_the_likeliest_is_kept(tokenizer):
    edges = ["0000><loc0000><loc0500><loc0500", "0000><loc0000><loc0500><loc0400", "0010><loc0000><loc0510><loc0500"]
    labels = ["cat", "cat", "dog"]
    text = " ; ".join(f"<loc{edge}> {label}" for edge, label in zip(edges, labels, strict=True))
    tokens = tokenizer.encode(text)
    surer = [place for place, token in enumerate(tokens) if token == tokenizer.encode(" cat")[-1]][1]
    answer = output(tokenizer, text, [-0.1 if place >= surer else -0.5 for place in range(len(tokens))])
    asked = Query("detect cat ; dog", ("cat", "dog"))
    # The two cats overlap by .8, cat and dog by more, but they are of two classes.
    for overlap, kept in ((1.0, [0, 1, 2]), (0.81, [0, 1, 2]), (0.79, [1, 2])):
        task = Detection(("cat", "dog"), DetectionOptions(overlap=overlap))
        found = task.parse(RECORD, [(asked, answer)]).boxes
        everything = Detection(("cat", "dog")).parse(RECORD, [(asked, answer)]).boxes
        assert found == tuple(everything[place] for place in kept)
    with pytest.raises(RecipeError, match="overlap"):
        DetectionOptions(overlap=0)


def test_unlikely_boxes_are_left_out_where_that_is_asked_for(tokenizer):
    text = joined("cat", "dog")
    ids, dog = tokenizer.encode(text), tokenizer.encode(" dog")[-1]
    answer = output(tokenizer, text, [math.log(0.25) if token == dog else 0.0 for token in ids])
    for least, kept in ((0.2, ["cat", "dog"]), (0.3, ["cat"])):
        task = Detection(CLASSES, DetectionOptions(min_score=least))
        found = task.parse(RECORD, [(Query("detect cat ; dog", CLASSES), answer)])
        assert [box.label for box in found.boxes] == kept
    with pytest.raises(RecipeError, match="min_score"):
        DetectionOptions(min_score=1.5)


def test_metric_ranks_perfect_boxes_at_one():
    task = Detection(CLASSES)
    metric = task.metric()
    (query,) = task.queries(RECORD)
    text = text_of(task.targets(RECORD, query)[0])
    metric.update(RECORD, task.parse(RECORD, [(query, Output(text))]))
    assert metric.compute()["AP"] == pytest.approx(1.0)
    assert task.headline in metric.compute()


@pytest.mark.parametrize("noise", [0, 5])
def test_grammar_allows_targets_and_no_noise(tokenizer, noise):
    task = Detection(CLASSES, DetectionOptions(noise_boxes=noise))
    (query,) = task.queries(RECORD)
    automaton = task.grammar(query, tokenizer)
    assert automaton is not None
    assert automaton.fill == (noise > 0)
    for record in (RECORD, Record("r", size=SIZE)):
        (target,) = task.targets(record, query)
        assert automaton.accepts([*tokenizer.encode(text_of(target)), tokenizer.eos])
    assert not automaton.accepts([*tokenizer.encode(f"{TEXTS['cat'][:-3]}{NOISE_LABEL}"), tokenizer.eos])
    assert Detection().grammar(Query("find pets"), tokenizer) is None


@pytest.mark.parametrize(
    "options",
    [{}, {"noise_boxes": 5}, {"noise_boxes": 2}, {"max_boxes": 2}, {"prompt": "per_class"}],
    ids=lambda options: " ".join(map(str, options)) or "plain",
)
def test_max_tokens_holds_every_target(tokenizer, options):
    task = Detection(CLASSES, DetectionOptions(**options))
    records = [RECORD, Record("s", size=SIZE, boxes=(DOG,) * 4, source="truth.json")]
    bound = task.max_tokens(records, tokenizer)
    rng = np.random.default_rng(0)
    lengths = [
        len(tokenise(target, tokenizer).ids)
        for record in records
        for query in task.queries(record)
        for _ in range(20)
        for target in task.targets(record, query, rng)
    ]
    assert bound % 16 == 0
    assert max(lengths) <= bound < max(lengths) + 32


@pytest.mark.parametrize("kept", [0, 1, 3])
@pytest.mark.parametrize(
    "options", [{}, {"noise_boxes": 5}, {"noise_boxes": 2}, {"max_boxes": 2}, {"prompt": "per_class"}]
)
def test_target_bound_holds_whatever_augmentation_leaves(tokenizer, options, kept):
    task = Detection(CLASSES, DetectionOptions(**options))
    left = replace(RECORD, boxes=RECORD.boxes[:kept])
    rng = np.random.default_rng(kept)
    for query in task.queries(RECORD):
        bound = task.target_bound(RECORD, query, tokenizer)
        targets = [target for _ in range(100) for target in task.targets(left, query, rng)]
        longest = max(len(tokenise(target, tokenizer).ids) for target in targets)
        assert longest <= bound
        if "noise_boxes" in options:  # and not much longer: the last box has no separator
            all_longest = joined(*["dog house"] * options["noise_boxes"])
            assert bound <= len(tokenizer.encode(all_longest)) + 3
        elif kept == 3:
            assert bound <= longest + 2


def test_max_tokens_of_a_picture_without_objects(tokenizer):
    task = Detection(CLASSES)
    assert task.max_tokens([Record("r", size=SIZE, source="truth.json")], tokenizer) == 16
    assert task.max_tokens([], tokenizer) == 16
    # Nobody knows what is on a picture that was read from no file.
    assert task.max_tokens([Record("r", size=SIZE)], tokenizer) >= 25 * 8
    assert Detection().max_tokens([Record("r", size=SIZE, prefix="find pets")], tokenizer) >= 25 * 8


def test_crowded_pictures_are_reported_once(tokenizer, caplog):
    task = Detection(CLASSES, DetectionOptions(max_boxes=2))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            task.max_tokens([RECORD], tokenizer)
    assert len(caplog.records) == 1
    assert "record r has 3 boxes, more than the 2 of a target" in caplog.text
    assert "options.max_boxes" in caplog.text


def test_draw_and_json():
    task = Detection(CLASSES)
    found = Prediction("r", "", "", boxes=(Box("cat", 10.5, 20, 60, 70, score=0.25),))
    image = Image.new("RGB", (100, 90))
    drawn = task.draw(image, found)
    assert drawn.size == image.size
    assert drawn.getcolors() != image.getcolors()
    assert task.as_json(found) == {"boxes": [{"label": "cat", "score": 0.25, "box": [10.5, 20, 60, 70]}]}


def test_wrong_options_are_reported_together():
    with pytest.raises(RecipeError) as error:
        DetectionOptions(prompt="none", order="size", score="", noise_boxes=-1, max_boxes=0)
    assert error.value.problems[0] == "options.prompt: expected one of all, per_class, got 'none'"
    assert len(error.value.problems) == 5
