"""Ten thousand outputs of a model that knows nothing: no task raises, and what cannot be read is counted."""

import re

import numpy as np
import pytest

from mmtune.models.tiny import tiny_tokenizer
from mmtune.records import Output, Prediction, Query, Record
from mmtune.registry import task_class, task_names

COUNT = 10_000
CLASSES = ("cat", "dog", "dog house")
RECORD = Record("r", size=(320, 240), prefix="what is it?", texts=("a cat",))
GROUP = re.compile(r"(?:<loc\d{4}>)+")


@pytest.fixture(scope="module")
def outputs():
    """Random tokens of the vocabulary, coordinates more often than others; some of it nearly right."""
    tokenizer = tiny_tokenizer()
    rng = np.random.default_rng(0)
    locs, segs = np.arange(tokenizer.loc, tokenizer.loc + 1024), np.arange(tokenizer.seg, tokenizer.seg + 128)
    words = [tokenizer.encode(f" {label}") for label in CLASSES]
    separator = tokenizer.encode(" ; ")
    found = []
    for number in range(COUNT):
        ids = []
        for _ in range(rng.integers(0, 4)):
            near = number % 2 == 0
            ids += rng.choice(locs, 4 if near else rng.integers(0, 7)).tolist()
            ids += rng.choice(segs, rng.choice((0, 16)) if near else rng.integers(0, 20)).tolist()
            ids += words[rng.integers(3)]
            ids += separator if rng.random() < 0.9 else []
        for _ in range(rng.integers(0, 4)):
            ids.insert(int(rng.integers(0, len(ids) + 1)), int(rng.integers(0, tokenizer.vocabulary_size)))
        texts = tuple(tokenizer.texts(ids))
        found.append(Output("".join(texts), texts, tuple(rng.uniform(-5, 0, len(texts)).tolist())))
    return found


@pytest.mark.parametrize("name", task_names())
def test_no_output_raises_and_all_of_it_is_counted(name, outputs):
    task = task_class(name)(CLASSES)
    queries = [Query("what is it?", CLASSES), Query("what is it?")]
    has_objects, invalid = name in ("detection", "segmentation"), 0
    for number, output in enumerate(outputs):
        found = task.parse(RECORD, [(queries[number % 2], output)])
        assert isinstance(found, Prediction)
        invalid += found.invalid > 0
        if has_objects:
            read = len(found.boxes)
            assert read + found.invalid >= len(GROUP.findall(output.text))
            assert read + found.invalid > 0 or not output.text.strip()
            assert name == "detection" or len(found.masks) == read
    if has_objects:
        assert 0.5 * COUNT < invalid < COUNT
