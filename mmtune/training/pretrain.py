"""Trains the embedded model from nothing: `python -m mmtune.training.pretrain OUT --dense 4000 --steps 40000`.

Two stages on generated scenes. First the vision tower alone, under dense supervision, until it sees; then everything
at once: of each picture a long prompt (boxes or masks) and two short ones (a question, a caption, the words on it),
with the dense head kept on. A run saves as it goes and, started again with the same arguments, goes on where it was.
Its newest weights lie in OUT/tiny.safetensors.
"""

import argparse
import csv
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
from rich.console import Console

from mmtune.codecs.boxes import LOCATIONS
from mmtune.data.scene_shapes import MAX_OBJECTS
from mmtune.files import atomic, save_tensors
from mmtune.models.forward import logits
from mmtune.models.linear import NO_ADAPTER, Array
from mmtune.models.load import assign_weights
from mmtune.models.scorer import hidden_after, image_features
from mmtune.models.spec import ModelSpec, read_spec
from mmtune.models.tiny import TINY, build_tiny, tiny_tokenizer
from mmtune.models.weights import Tree, model_variables
from mmtune.recipe import Optimizer
from mmtune.run_files import LOG
from mmtune.training.dense import DenseHead, dense_loss, make_head
from mmtune.training.loss import weighted_loss
from mmtune.training.muon import Muon
from mmtune.training.pretrain_feed import LONG, SHORT, Feed, PictureBatch
from mmtune.training.pretrain_scenes import COUNTS

_SMOOTHING = Optimizer(location_smoothing=4.0)
_STATE, _WEIGHTS = "state.npz", "tiny.safetensors"
_EMBEDDING = "token_embedding/embeddings"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long and how fast.

    Attributes:
        dense: Steps of the first stage.
        steps: Steps of both stages together.
        stop: Where to stop before that, to go on with other settings; 0: nowhere.
        decay: The last so many steps of a run, over which the learning rate falls to zero.
        warmup: Steps over which each stage's learning rate rises.
        dense_rate, rate: Learning rates of the stages.
        eyes: Share of the second stage's rate at which what sees already is trained on: more would blur it again.
        dense_batch, batch: Pictures a step of the stages.
        dense_weight: Weight of the dense loss in the second stage.
        between: Steps of the first stage's kind between any two of the second's: they cost a fifth as much a picture.
        weight_decay: Of matrices, embeddings excepted.
        save_every, log_every: In steps.
        masks: Most objects of a segmentation that is taught; 0: none is.
        objects: Most objects of a scene. Where a question is about is learned with few of them, and hardly at all with
            many.
        places: Whether the lesson is where things stand to each other, which is learned last among all else.
        rounds: Long prompts a picture, each with two short ones.
        long, short: Text tokens that rows are padded to: each pair is a program of its own.
        precision: "float32" or "bfloat16", of activations and products.
    """

    dense: int = 4000
    steps: int = 40_000
    stop: int = 0
    decay: int = 8000
    warmup: int = 150
    dense_rate: float = 2e-3
    rate: float = 1.5e-3
    eyes: float = 0.4
    dense_batch: int = 16
    batch: int = 8
    dense_weight: float = 0.3
    between: int = 1
    weight_decay: float = 0.02
    save_every: int = 500
    log_every: int = 50
    masks: int = MAX_OBJECTS
    objects: int = MAX_OBJECTS
    places: int = 0
    rounds: int = 1
    long: tuple[int, ...] = LONG
    short: tuple[int, ...] = SHORT
    precision: str = "float32"

    @property
    def lesson(self) -> dict[str, Any]:
        """What samples are made of and padded to, as options of `Feed`."""
        made = {"masks": self.masks, "objects": self.objects, "places": bool(self.places), "rounds": self.rounds}
        return made | {"lengths": (self.long, self.short)}

    def only_dense(self, step: int) -> bool:
        """Whether a step trains the vision tower alone."""
        return step < self.dense or (step - self.dense) % (self.between + 1) > 0

    def learning_rate(self, step: int) -> float:
        """Returns the decoder's rate in a step, or the tower's in the first stage: up, flat, down at the end."""
        if step < self.dense:
            return self.dense_rate * min(1, (step + 1) / self.warmup, (self.dense - step) / (0.3 * self.dense))
        return self.rate * min(1, (step - self.dense + 1) / self.warmup, (self.steps - step) / self.decay)


class Group:
    """Variables that are trained together, their values and their optimizer, as arrays that a step maps to the next.

    Args:
        variables: A tree of Keras variables.
        weight_decay: Of matrices.
    """

    def __init__(self, variables: Any, weight_decay: float):
        self.variables, self.structure = jax.tree.flatten(variables)
        self.optimizer = Muon(
            learning_rate=1.0,
            weight_decay=weight_decay,
            adam_weight_decay=0.0,
            adam_beta_2=0.98,
            global_clipnorm=1.0,
        )
        self.optimizer.build(self.variables)
        self._rate = self.optimizer.variables.index(self.optimizer._learning_rate)
        self.values: list[Any] = [variable.value for variable in self.variables]
        self.state: list[Any] = [variable.value for variable in self.optimizer.variables]

    def apply(self, state: list[Any], gradients: list[Any], values: list[Any], rate: Array) -> tuple[Any, Any]:
        """Returns the next values and state of the optimizer."""
        rated = [rate if place == self._rate else value for place, value in enumerate(state)]
        return self.optimizer.stateless_apply(rated, gradients, values)


class Pretraining:
    """The model, its temporary head, and what trains them.

    Eyes (the vision tower and the head) and tongue (the decoder) are groups of their own: the first stage must leave
    the decoder and its momentum alone, also when it is gone through a second time.

    Args:
        plan: The run.
        seed: Seed of the first weights.
        weights: A file of weights to begin from instead. The head is fresh either way.
    """

    def __init__(self, plan: Plan, seed: int = 0, weights: Path | None = None):
        self.plan = plan
        self.backbone = build_tiny(seed)
        if weights is not None:
            assign_weights(self.backbone.weights, weights)
        self.spec: ModelSpec = read_spec(self.backbone)
        loc = tiny_tokenizer().loc
        assert loc is not None
        self.loc = loc
        self.dtype = jnp.dtype(plan.precision)
        tree: Any = model_variables(self.backbone)
        head: Any = make_head(TINY.hidden_dim, COUNTS, np.random.default_rng(seed))
        head = jax.tree.map(lambda array: keras.Variable(array, name="dense_head"), head)
        self.groups = {
            "eyes": Group((tree["vision"], head), plan.weight_decay),
            "tongue": Group(tree["text"], plan.weight_decay),
        }
        paths = [variable.path for variable in self.groups["tongue"].variables]
        self._embedding = paths.index(_EMBEDDING)
        self.met = np.zeros(self.groups["tongue"].values[self._embedding].shape[0], bool)
        self._dense_step = jax.jit(self._stepper(self._dense_loss, ("eyes",)), donate_argnums=0)
        self._joint_step = jax.jit(self._stepper(self._joint_loss, tuple(self.groups)), donate_argnums=0)

    def step(self, number: int, batch: PictureBatch) -> dict[str, Array]:
        """Takes a step and returns its losses."""
        run, names = self._joint_step, tuple(self.groups)
        if batch.short is None:
            run, names = self._dense_step, ("eyes",)
        trained = {name: (self.groups[name].values, self.groups[name].state) for name in names}
        fixed = {name: group.values for name, group in self.groups.items() if name not in names}
        rate = self.plan.learning_rate(number)
        eyes = rate if number < self.plan.dense else self.plan.eyes * rate
        rates = {"eyes": jnp.float32(eyes), "tongue": jnp.float32(rate)}
        arrays = batch.arrays()
        if batch.short is not None:
            self._meet(arrays)
            arrays["met"] = self.met
        trained, losses = run(trained, fixed, rates, arrays)
        for name, (values, state) in trained.items():
            self.groups[name].values, self.groups[name].state = values, state
        return losses

    def _meet(self, arrays: dict[str, Any]) -> None:
        """Notes which tokens were read or to be written so far."""
        for name in ("long", "short"):
            if name in arrays:
                self.met[arrays[name]["token_ids"]] = True
                self.met[arrays[f"{name}_labels"]["labels"]] = True

    def _stepper(self, loss_of: Callable, names: tuple[str, ...]) -> Callable:
        def step(trained: Any, fixed: Any, rates: dict[str, Array], batch: Any) -> Any:
            def loss(values: dict[str, list[Any]]) -> tuple[Array, dict[str, Array]]:
                every = values | fixed
                eyes, text = (jax.tree.unflatten(group.structure, every[n]) for n, group in self.groups.items())
                return loss_of({"vision": eyes[0], "text": text}, eyes[1], batch)

            held = {name: trained[name][0] for name in names}
            (_, losses), gradients = jax.value_and_grad(loss, has_aux=True)(held)
            if "met" in batch:
                # Tokens that never come would all be pushed the same way, until no adapter could tell them apart.
                gradients["tongue"][self._embedding] *= batch["met"][:, None]
            updated = {
                name: self.groups[name].apply(trained[name][1], gradients[name], held[name], rates[name])
                for name in names
            }
            return updated, losses

        return step

    def _dense_loss(self, tree: Tree, head: DenseHead, batch: Any) -> tuple[Array, dict[str, Array]]:
        features = image_features(tree, self.spec, batch["images"], NO_ADAPTER, self.dtype)
        return self._dense_part(tree, head, features, batch)

    def _dense_part(self, tree: Tree, head: DenseHead, features: Array, batch: Any) -> tuple[Array, dict]:
        locations = tree["text"]["embedding"][self.loc : self.loc + LOCATIONS]
        loss, right = dense_loss(head, features.astype(jnp.float32), locations, batch["dense"], COUNTS)
        return loss, {"dense": loss, "kind": right[0], "colour": right[1], "character": right[2]}

    def _joint_loss(self, tree: Tree, head: DenseHead, batch: Any) -> tuple[Array, dict[str, Array]]:
        features = image_features(tree, self.spec, batch["images"], NO_ADAPTER, self.dtype)
        dense, shown = self._dense_part(tree, head, features, batch)
        loss = self.plan.dense_weight * dense
        for name, weight in (("long", 1.0), ("short", 1.5)):
            if name in batch:
                part, right = self._text_part(tree, features, batch[name], batch[f"{name}_labels"])
                loss += weight * part
                shown |= {name: part, f"{name}_right": right}
        return loss, shown

    def _text_part(self, tree: Tree, features: Array, inputs: Any, labels: Any) -> tuple[Array, Array]:
        features = jnp.repeat(features, len(labels["labels"]) // len(features), axis=0)
        hidden = hidden_after(tree, self.spec, features, inputs, dtype=self.dtype)
        predicted = logits(tree["text"], self.spec.text, hidden)
        loss = weighted_loss(predicted, labels, _SMOOTHING, self.loc)
        right = (predicted.argmax(-1) == labels["labels"]) * (labels["weights"] > 0)
        return loss, jnp.sum(right) / jnp.maximum(jnp.sum(labels["weights"] > 0), 1)

    def save(self, out: Path, step: int, next_scene: int) -> None:
        """Writes state and weights, each under a temporary name first."""
        arrays: dict[str, Any] = {}
        for name, group in self.groups.items():
            arrays |= {f"{name}_value{i}": np.asarray(array) for i, array in enumerate(group.values)}
            arrays |= {f"{name}_state{i}": np.asarray(array) for i, array in enumerate(group.state)}
        with atomic(out / _STATE) as temporary, temporary.open("wb") as file:
            np.savez(file, step=step, next_scene=next_scene, met=self.met, **arrays)
        self.write_weights(out / _WEIGHTS)

    def restore(self, out: Path) -> tuple[int, int]:
        """Takes up a saved state; returns its step and the next scene, (0, 0) where there is none."""
        if not (out / _STATE).is_file():
            return 0, 0
        with np.load(out / _STATE) as saved:
            for name, group in self.groups.items():
                group.values = [jnp.asarray(saved[f"{name}_value{i}"]) for i in range(len(group.values))]
                group.state = [jnp.asarray(saved[f"{name}_state{i}"]) for i in range(len(group.state))]
            self.met = saved["met"]
            return int(saved["step"]), int(saved["next_scene"])

    def write_weights(self, file: Path) -> None:
        """Writes the model's weights in float16 under their variables' paths, without the head."""
        tensors = {
            variable.path: np.asarray(value, np.float16)
            for group in self.groups.values()
            for variable, value in zip(group.variables, group.values, strict=True)
            if not variable.path.endswith("dense_head")
        }
        save_tensors(tensors, file)


def pretrain(out: Path, plan: Plan, workers: int, console: Console, weights: Path | None = None) -> None:
    """Trains, from `weights` or from nothing, or goes on with what lies in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    training = Pretraining(plan, weights=weights)
    step, next_scene = training.restore(out)
    names = ("dense", "kind", "colour", "character", "long", "long_right", "short", "short_right")
    fresh = not (out / LOG).is_file()
    with (
        (out / LOG).open("a", newline="") as file,
        Feed(plan.dense_batch, plan.batch, next_scene, workers, **plan.lesson) as feed,
    ):
        log = csv.writer(file)
        if fresh:
            log.writerow(("step", "seconds", *names))
        started, recent = time.perf_counter(), []
        last = plan.stop or plan.steps
        while step < last:
            recent.append(training.step(step, feed.next(plan.only_dense(step))))
            step += 1
            if step % plan.log_every == 0 or step == last:
                held = {name: [float(losses[name]) for losses in recent if name in losses] for name in names}
                means = {name: np.mean(values) for name, values in held.items() if values}
                seconds, started = time.perf_counter() - started, time.perf_counter()
                log.writerow((step, round(seconds, 2), *(round(float(means.get(name, 0)), 4) for name in names)))
                file.flush()
                shown = " ".join(f"{name} {value:.3f}" for name, value in means.items())
                console.print(f"{step} {seconds / len(recent):.3f} s {shown}")
                recent = []
            if step % plan.save_every == 0 or step == last:
                training.save(out, step, feed.next_scene)


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line and trains."""
    parser = argparse.ArgumentParser(description="Train the embedded model on generated scenes.")
    parser.add_argument("out", type=Path, help="folder of the run")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw scenes")
    parser.add_argument("--weights", type=Path, help="file of weights to begin from; a run that goes on has its own")
    for field in fields(Plan):
        flag, several = f"--{field.name.replace('_', '-')}", isinstance(field.default, tuple)
        kind = int if several else type(field.default)
        parser.add_argument(flag, type=kind, default=field.default, nargs="+" if several else None)
    given = vars(parser.parse_args(arguments))
    options: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in given.items()
    }
    out, workers, weights = options.pop("out"), options.pop("workers"), options.pop("weights")
    pretrain(out, Plan(**options), workers, Console(), weights)


if __name__ == "__main__":
    main()
