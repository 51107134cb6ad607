"""Scores of resamples against the metrics themselves, computed on data in which records stand several times."""

import json

import numpy as np
import pytest

from mmtune.metrics.caption import CaptionMetric
from mmtune.metrics.detection import DetectionMetric
from mmtune.metrics.instruct import InstructMetric
from mmtune.metrics.ocr import OCRMetric
from mmtune.metrics.resampling import MergedStates, flat
from mmtune.metrics.segmentation import SegmentationMetric
from mmtune.metrics.vqa import VQAMetric
from mmtune.records import Box, Likelihood, Mask, Prediction, Record

LABELS = ("cat", "dog", "owl")
WORDS = ["a", "red", "blue", "cat", "dog", "sits", "on", "the", "mat", "sky"]
ALWAYS = ("AP", "AP50", "AP75", "AR1", "AR10", "AR100")


def random_box(rng, label, **more):
    x, y = rng.uniform(0, 200, 2)
    width, height = rng.uniform(5, 150, 2)
    return Box(label, x, y, x + width, y + height, **more)


def moved(rng, box, score):
    edges = np.array([box.x0, box.y0, box.x1, box.y1]) + rng.normal(0, 4, 4)
    x0, y0, x1, y1 = edges
    label = box.label if rng.random() < 0.8 else LABELS[rng.integers(3)]
    return Box(label, x0, y0, max(x1, x0 + 1), max(y1, y0 + 1), score=score)


def objects(rng, number, scores):
    """Random truth and detections; some images have none, some boxes are crowds or difficult."""
    pairs = []
    for index in range(number):
        truth = [
            random_box(rng, LABELS[rng.integers(3)], crowd=rng.random() < 0.1, difficult=rng.random() < 0.1)
            for _ in range(rng.integers(0, 6))
        ]
        found = [moved(rng, box, scores(rng)) for box in truth for _ in range(rng.integers(0, 3))]
        found += [random_box(rng, LABELS[rng.integers(3)], score=scores(rng)) for _ in range(rng.integers(0, 4))]
        record = Record(
            f"r{index}", size=(400, 400), boxes=tuple(truth), image_id=int(rng.permutation(9)[0] * 100 + index)
        )
        pairs.append((record, Prediction(record.id, "", "", boxes=tuple(found))))
    return pairs


def rectangle(label, x, y, width, height, size=32, **more):
    from mmtune.codecs.mask_runs import pasted_counts

    part = np.ones((min(height, size - y), min(width, size - x)), bool)
    return Mask(label, (size, size), pasted_counts(part, (x, y), (size, size)), **more)


def masks(rng, number, scores):
    def one(**more):
        x, y, width, height = rng.integers(1, 16, 4)
        return rectangle(LABELS[rng.integers(2)], int(x), int(y), int(width) + 3, int(height) + 3, **more)

    pairs = []
    for index in range(number):
        truth = tuple(one(crowd=rng.random() < 0.1) for _ in range(rng.integers(0, 4)))
        found = [one(score=scores(rng)) for _ in range(rng.integers(0, 3))]
        found += [Mask(m.label, m.size, m.counts, scores(rng)) for m in truth if rng.random() < 0.6]
        record = Record(f"r{index}", size=(32, 32), masks=truth)
        pairs.append((record, Prediction(record.id, "", "", masks=tuple(found))))
    return pairs


def sentence(rng):
    return " ".join(WORDS[place] for place in rng.integers(0, len(WORDS), rng.integers(1, 9)))


def texts(rng, number, scores):
    del scores
    pairs = []
    for index in range(number):
        right = tuple(sentence(rng) for _ in range(rng.integers(0, 4)))
        said = right[0] if right and rng.random() < 0.3 else sentence(rng)
        record = Record(f"r{index}", prefix="what?", texts=right)
        pairs.append((record, Prediction(record.id, "what?", said)))
    return pairs


def likelihoods(rng, number, scores):
    pairs = texts(rng, number, scores)
    return [
        (
            record,
            Prediction(found.record, "what?", found.text, truth=Likelihood(-rng.uniform(0, 9), 3) if known else None),
        )
        for (record, found), known in zip(pairs, rng.random(number) < 0.7, strict=True)
    ]


CASES = {
    "detection": (lambda: DetectionMetric(LABELS), objects),
    "segmentation": (lambda: SegmentationMetric(LABELS), masks),
    "captioning": (CaptionMetric, texts),
    "vqa": (VQAMetric, texts),
    "ocr": (OCRMetric, texts),
    "instruct": (InstructMetric, likelihoods),
}


def any_score(rng):
    return float(rng.uniform())


def few_scores(rng):
    return float(rng.integers(1, 4)) / 4


def repeated(make, pairs, counts):
    """The metric itself, on data in which each record stands as often as it was drawn."""
    metric = make()
    for pair, count in zip(pairs, counts, strict=True):
        for _ in range(count):
            metric.update(*pair)
    return flat(metric.compute())


@pytest.mark.parametrize("scores", [any_score, few_scores, lambda _: 1.0], ids=["untied", "some tied", "all tied"])
@pytest.mark.parametrize("task", CASES)
def test_a_resample_scores_as_data_with_the_records_repeated(task, scores):
    make, made = CASES[task]
    rng = np.random.default_rng(5)
    pairs = made(rng, 12, scores)
    counts = rng.multinomial(12, [1 / 12] * 12, size=15)
    counts = np.vstack([counts, np.ones((1, 12), int), 3 * np.eye(12, dtype=int)[:1]])
    found = make().resampling(pairs).scores(counts)
    for row, drawn in enumerate(counts):
        wanted = {
            key: value
            for key, value in repeated(make, pairs, drawn.tolist()).items()
            if len(key) != 3 or task == "detection"
        }
        ours = {key: values[row] for key, values in found.items()}
        assert {key for key in wanted if key[0] not in ("per_class", "per_question_type")} <= set(ours)
        for key, value in ours.items():
            if np.isnan(value):  # nothing to measure: pycocotools says -1, and the totals and other metrics 0
                assert wanted.get(key, -1) in ((-1, 0) if key[-1] in ALWAYS or task != "detection" else (-1,)), key
            elif key in wanted:
                assert value == pytest.approx(wanted[key], abs=1e-12), (key, row)


def test_the_official_example_resampled_is_pycocotools_on_repeated_images(shared_data):
    """Scores of a real detector; images are copied in the truth under new ids, and pycocotools scores the copy."""
    from mmtune.metrics.coco import NAMES, coco_evaluator, evaluate_coco
    from mmtune.metrics.coco_matches import CocoMatches

    folder = shared_data / "gold" / "coco_map"
    truth = json.loads((folder / "instances_val2014_100.json").read_text())
    results = json.loads((folder / "instances_val2014_fakebbox100_results.json").read_text())
    images = sorted(truth["images"], key=lambda image: image["id"])
    numbers = {image["id"]: place for place, image in enumerate(images, start=1)}
    kinds = {category["id"]: place for place, category in enumerate(truth["categories"], start=1)}

    def item(entry, image):
        area = entry.get("area", entry["bbox"][2] * entry["bbox"][3]) if "iscrowd" in entry else None
        box = entry["bbox"]
        return {**entry, "image_id": image, "category_id": kinds[entry["category_id"]],
                "area": box[2] * box[3] if area is None else area}  # fmt: skip

    truths = [item(entry, numbers[entry["image_id"]]) for entry in truth["annotations"]]
    found = [item(entry, numbers[entry["image_id"]]) for entry in results if entry["image_id"] in numbers]
    evaluator = coco_evaluator(
        [{"id": number} for number in numbers.values()], list(kinds.values()), truths, found, "bbox"
    )
    names = [category["name"] for category in truth["categories"]]
    matches = CocoMatches(evaluator, names, list(range(len(images))))
    counts = np.random.default_rng(0).multinomial(len(images), [1 / len(images)] * len(images), size=2)
    ours = matches.scores(counts)
    for row, drawn in enumerate(counts.tolist()):
        copies = [(image, 1000 * place + copy) for place, image in enumerate(images) for copy in range(drawn[place])]
        where = {}
        for image, number in copies:
            where.setdefault(image["id"], []).append(number)
        again = {
            "images": [{**image, "id": number} for image, number in copies],
            "categories": truth["categories"],
            "annotations": [{**e, "image_id": n} for e in truth["annotations"] for n in where.get(e["image_id"], ())],
        }
        detections = [{**e, "image_id": n} for e in results for n in where.get(e["image_id"], ())]
        wanted = evaluate_coco(again, detections)
        for name in NAMES:
            assert ours[name,][row] == pytest.approx(wanted[name], abs=1e-12), name


def test_captions_that_share_nothing_with_any_reference():
    pairs = [
        (Record(f"r{n}", prefix="what?", texts=("a red star",)), Prediction(f"r{n}", "what?", "qz")) for n in (0, 1)
    ]
    found = CaptionMetric().resampling(pairs).scores(np.array([[0, 2], [1, 1]]))
    assert found["CIDEr",].tolist() == [repeated(CaptionMetric, pairs, drawn)["CIDEr",] for drawn in ([0, 2], [1, 1])]


def test_any_metric_can_be_resampled_by_its_states():
    pairs = texts(np.random.default_rng(2), 8, any_score)
    counts = np.array([[1, 0, 2, 0, 3, 0, 1, 1], [0] * 8])
    found = MergedStates(OCRMetric(), pairs).scores(counts)
    fast = OCRMetric().resampling(pairs).scores(counts)
    for name in ("CER", "WER", "exact_match", "ANLS"):
        assert found[name,][0] == pytest.approx(fast[name,][0], abs=1e-12)
    assert np.isnan(fast["CER",][1])
