"""What dense supervision is worth: `python -m benchmarks.dense DATA --val DATA [--minutes 5] [--from-nothing]`.

The recipe of `tasks/recipes/detection_small_data.toml` is run twice on the same data for about the same time, once as
it stands and once with dense supervision; how many steps that makes is measured first. `--from-nothing` begins from
random weights, for the scenes that `tiny` knows already.
"""

import argparse
import csv
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import mmtune
from mmtune.data.dataset import Dataset
from mmtune.model import Model
from mmtune.recipe import Dense, Recipe, read_recipe

RECIPE = Path(__file__).parents[1] / "tasks" / "recipes" / "detection_small_data.toml"
_TRIED = 40  # steps of each kind, the median of which is the time of one: several compile a new length of answers
_DENSE_SHARE = 0.25  # of the time in which the tower alone is trained
_WEIGHT = 0.3  # of dense supervision beside the answers afterwards


def model_for(from_nothing: bool) -> Model:
    """Returns `tiny`, or a model like it with random weights."""
    from mmtune.models.tiny import build_tiny, tiny_tokenizer

    return Model(build_tiny(), tiny_tokenizer(), name="random") if from_nothing else mmtune.load("tiny")


def run(recipe: Recipe, training: Dataset, val: Dataset | None, from_nothing: bool) -> mmtune.Run:
    """Returns a run of a recipe."""
    from mmtune.api import train_recipe

    return train_recipe(recipe, model=model_for(from_nothing), data=training, val=val, verbose=False)


def seconds_a_step(recipe: Recipe, training: Dataset, from_nothing: bool) -> float:
    """Returns the seconds of one step of a recipe."""
    with tempfile.TemporaryDirectory() as folder:
        short = replace(recipe, val=None, steps=_TRIED, save_every=_TRIED, log_every=1, out=folder + "/run")
        run(short, training, None, from_nothing)
        with (Path(folder) / "run" / "log.csv").open() as log:
            return statistics.median(float(row["seconds"]) for row in csv.DictReader(log))


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line, runs both and prints what they reached."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dense", description="With and without, in equal time.")
    parser.add_argument("data", help="what is trained on")
    parser.add_argument("--val", required=True, help="what is scored on")
    parser.add_argument("--minutes", type=float, default=5, help="of training, each")
    parser.add_argument("--from-nothing", action="store_true", help="begin from random weights")
    parser.add_argument("--set", nargs="*", default=[], help="keys of the recipe")
    parser.add_argument("--out", default="runs/dense", help="folder of both runs")
    options = parser.parse_args(arguments)
    training, val = (mmtune.read(address, task="detection") for address in (options.data, options.val))
    base = read_recipe(RECIPE, {"data": options.data, "val": options.val}, options.set)
    plain = seconds_a_step(base, training, options.from_nothing)
    beside = seconds_a_step(replace(base, dense=Dense(weight=_WEIGHT)), training, options.from_nothing)
    tower = seconds_a_step(replace(base, dense=Dense(steps=_TRIED - 1)), training, options.from_nothing)
    print(f"seconds a step: {plain:.3f} without, {tower:.3f} of the tower alone, {beside:.3f} with both", flush=True)
    time_left = 60 * options.minutes
    first = round(_DENSE_SHARE * time_left / tower)
    with_dense = first + round((1 - _DENSE_SHARE) * time_left / beside)
    for name, dense, steps in (
        ("without", Dense(), round(time_left / plain)),
        ("with", Dense(steps=first, weight=_WEIGHT), with_dense),
    ):
        begun = time.perf_counter()
        recipe = replace(base, dense=dense, steps=steps, eval_every=steps, save_every=steps)
        done = run(replace(recipe, out=f"{options.out}/{name}"), training, val, options.from_nothing)
        shown = "  ".join(f"{metric} {done.metrics[metric]:.4f}" for metric in ("AP", "AP50"))
        classes = "  ".join(f"{label} {value['AP50']:.3f}" for label, value in done.metrics["per_class"].items())
        print(f"{name}: {steps} steps, {time.perf_counter() - begun:.0f} s: {shown}  ({classes})", flush=True)


if __name__ == "__main__":
    main()
