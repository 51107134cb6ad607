"""Evaluations made by hand, for pages of every task."""

from dataclasses import replace

import numpy as np

from mmtune.data.masks import mask_edges
from mmtune.data.read import read
from mmtune.records import Box, Likelihood, Prediction, Record
from mmtune.registry import task_class

TASKS = ("detection", "segmentation", "captioning", "vqa", "ocr", "instruct")


def answered(task, count=6, seed=0, address="shapes:val"):
    """Returns (adapter, pairs): generated records, and answers of which a part is wrong in each way."""
    rng = np.random.default_rng(seed)
    if task == "instruct":
        records = [
            Record(str(number), prefix=f"what is {number}?", texts=(f"it is {number}",)) for number in range(count)
        ]
        pairs = [
            (
                r,
                Prediction(
                    r.id, r.prefix or "", "it is 1", tokens=(("it", -0.1), (" is 1", -0.3)), truth=Likelihood(-2.5, 4)
                ),
            )
            for r in records
        ]
        return task_class(task)(), pairs
    data = read(f"{address}?n={count}&size=96", task=task)
    pairs = []
    for place, record in enumerate(data):
        if task in ("detection", "segmentation"):
            boxes = [_moved(rng, box, data.classes) for box in record.boxes]
            boxes.append(Box(data.classes[place % 3], 2, 2, 30, 30, score=0.4))
            masks = [replace(m, score=float(rng.uniform())) for m in record.masks[::-1]]
            if task == "segmentation":
                boxes = [Box(m.label, *mask_edges(m.size, m.counts), score=m.score) for m in masks]
            else:
                masks = []
            pairs.append((record, Prediction(record.id, "find", "<loc0000> x", tuple(boxes), tuple(masks))))
        else:
            right = record.texts[0]
            said = right if place % 3 == 0 else f"{right[1:]}x" if place % 3 == 1 else "<b>nothing</b> of it"
            tokens = tuple((letter, -0.01) for letter in said)
            pairs.append((record, Prediction(record.id, record.prefix or task, said, tokens=tokens)))
    return task_class(task)(data.classes), pairs


def _moved(rng, box, classes):
    shift = rng.normal(0, 6)
    label = box.label if rng.random() < 0.7 else classes[0]
    return Box(label, box.x0 + shift, box.y0, box.x1 + shift, box.y1, score=float(rng.uniform()))


def run_folder(folder, task, count=6, seed=0, address="shapes:val"):
    """Writes what a run of 2 steps leaves behind that a report is made from."""
    import json

    from mmtune.prediction_files import write_predictions
    from mmtune.recipe import Recipe, write_recipe

    adapter, pairs = answered(task, count, seed, address)
    val = f"{address}?n={count}&size=96"
    if task == "instruct":
        val = str(folder.parent / "chat.jsonl")
        lines = [json.dumps({"prefix": r.prefix, "suffix": r.texts[0], "id": r.id}) for r, _ in pairs]
        (folder.parent / "chat.jsonl").write_text("\n".join(lines) + "\n")
    recipe = Recipe(task=task, data="shapes:train?n=8", val=val, out=str(folder), classes=adapter.classes, steps=2)
    write_recipe(recipe, folder / "recipe.toml")
    (folder / "log.csv").write_text(
        f"step,epoch,loss,learning_rate,{adapter.headline}\n1,1,2.5,0.1,\n2,2,1.5,0.05,0.5\n"
    )
    if task == "instruct":  # ids are those that the reader gives
        from mmtune.data.read import read as read_again

        records = list(read_again(val, task=task))
        pairs = [(record, replace(p, record=record.id)) for record, (_, p) in zip(records, pairs, strict=True)]
    write_predictions(adapter, pairs, folder / "predictions.jsonl")
    metric = adapter.metric()
    for pair in pairs:
        metric.update(*pair)
    result = {"task": task, "n": len(pairs), "metrics": metric.compute(), "invalid": 0}
    (folder / "metrics.json").write_text(json.dumps(result))
    return adapter, pairs
