"""The training core: a plain `keras.Model` around the forward pass, trained with `fit`."""

from dataclasses import fields
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np

from mmtune.codecs.boxes import LOCATIONS
from mmtune.data.dense import DenseTargets
from mmtune.model import Model
from mmtune.models.linear import NO_ADAPTER
from mmtune.models.lora import LoraWeights
from mmtune.models.modules import in_vision
from mmtune.models.scorer import hidden_after, image_features
from mmtune.models.weights import values
from mmtune.recipe import Recipe
from mmtune.training.chunked import Head, hidden_loss
from mmtune.training.dense import DenseHead, dense_amounts, dense_sums, divided, make_head
from mmtune.training.loss import divisor


class Trainer(keras.Model):
    """Maps a batch to the hidden states at its target positions, and takes a step on their loss.

    What trains: the adapter alone, or with `full` every weight, the vision tower only if the recipe tunes it.

    Args:
        model: The model, with its adapter unless `recipe.full`.
        recipe: The run.
        labels: Labels of dense supervision, the ground included; 0: there is none.
    """

    def __init__(self, model: Model, recipe: Recipe, labels: int = 0):
        super().__init__(name="trainer", dtype="float32")
        self.recipe = recipe
        self.lora = None if recipe.full else model.lora
        self.seeds = keras.random.SeedGenerator(recipe.seed)
        self._spec = model.spec
        self._tokenizer = model.tokenizer
        self._tree = _Opaque(model.variables)
        self.base = self._base(model)
        self._counts = (labels,)
        self._accumulates = recipe.optimizer.accumulation > 1
        self.head = self._make_head(labels) if labels else None
        self.built = True

    def _base(self, model: Model) -> Any:
        """Returns what holds the base weights, with those trainable that the recipe trains."""
        if model.quantized:  # they are not the backbone's, whose own have no values
            leaves = jax.tree.leaves(model.variables)
            for variable in leaves:
                variable.trainable = False
            return leaves
        model.backbone.trainable = self.recipe.full
        if self.recipe.full and model.spec.vision is not None:
            model.backbone.vit_encoder.trainable = self.recipe.tunes_vision
        return model.backbone

    def build_optimizer(self) -> None:
        """Makes the optimizer's variables, with gradient accumulation the sum of each weight's gradients too."""
        self.optimizer.build(self.trainable_variables)
        if self._accumulates:
            self.optimizer.add_optimizer_variables(self.trainable_variables, "gradient_accumulator")

    @property
    def accumulators(self) -> list[keras.Variable]:
        """The last of the optimizer's variables: the sums of gradients since the last update, a weight each."""
        return self.optimizer.variables[-len(self.trainable_variables) :] if self._accumulates else []

    @property
    def lasting_variables(self) -> list[keras.Variable]:
        """What trains and is kept afterwards: all but the temporary head of dense supervision."""
        temporary = {id(variable) for variable in jax.tree.leaves(self.head)}
        return [variable for variable in self.trainable_variables if id(variable) not in temporary]

    def _make_head(self, labels: int) -> DenseHead:
        head = make_head(self._spec.text.hidden_dim, (labels,), np.random.default_rng(self.recipe.seed))
        variables = {
            f.name: self.add_weight(getattr(head, f.name).shape, name=f"dense_head_{f.name}", dtype="float32")
            for f in fields(head)
        }
        for name, variable in variables.items():
            variable.assign(getattr(head, name))
        return DenseHead(**variables)

    def call(self, inputs: dict[str, Any], training: bool = False) -> dict[str, jax.Array]:
        """Returns what a batch of `mmtune.training.plan.load_batches` gives.

        Returns:
            Where there are tokens "hidden" (batch, n, width) at the target positions and "vocabulary", the weights that
            make logits of them; with a dense head "dense" (batch, patches, width) image tokens, "locations" (1024,
            width) and the head itself as "head".
        """
        adapter = NO_ADAPTER
        if self.lora is not None:
            wants_key = training and self.lora.config.dropout > 0
            adapter = self.lora.adapter(self._next_key() if wants_key else None)
        frozen = tower_is_frozen(self.recipe, self.lora)
        weights, precision = values(self._tree.held), jnp.dtype(self.recipe.precision)
        rematerialise = self.recipe.rematerialise
        outputs: dict[str, Any] = {}
        features = inputs.get("features")
        if features is None and self._spec.vision is not None:
            images = inputs["images"]
            features = image_features(weights, self._spec, images, adapter, precision, rematerialise == "full")
            if frozen:
                features = jax.lax.stop_gradient(features)
        if self.head is not None:
            assert self._tokenizer.loc is not None  # a vocabulary without has no vision tower
            bins = slice(self._tokenizer.loc, self._tokenizer.loc + LOCATIONS)
            outputs = {"dense": features, "locations": weights["text"]["embedding"][bins], "head": values(self.head)}
        if "token_ids" in inputs:
            outputs["hidden"] = hidden_after(
                weights, self._spec, features, inputs, adapter, dtype=precision, rematerialise=rematerialise
            )
            name = "embedding" if self._spec.text.tied else "head"
            outputs["vocabulary"] = {name: weights["text"][name]}
        return outputs

    def train_step(self, state: Any, data: Any) -> tuple[dict[str, jax.Array], Any]:
        """One step, stateless, as Keras' JAX trainer jits it.

        Logs this step's own loss, not a running mean; the norm of the gradient, with accumulation of the sum since the
        last update; and the learning rate of the update that the step belongs to.
        """
        trainable, others, optimizer_state, metrics = state
        inputs, labels = data[:2]

        def loss_of(trainable: Any) -> tuple[jax.Array, Any]:
            outputs, updated = self.stateless_call(trainable, others, inputs, training=True)[:2]
            loss, shown = self._loss(outputs, labels)
            return loss, (shown, updated)

        (_, (shown, others)), gradients = jax.value_and_grad(loss_of, has_aux=True)(trainable)
        with keras.StatelessScope(state_mapping=list(zip(self.optimizer.variables, optimizer_state, strict=True))):
            rate = keras.ops.convert_to_tensor(self.optimizer.learning_rate)
        if self._accumulates:
            sums = optimizer_state[-len(gradients) :]
            gradients = [so_far + gradient for so_far, gradient in zip(sums, gradients, strict=True)]
            trainable, optimizer_state = self._update_at_last(
                jnp.any(labels["closes"]), trainable, optimizer_state, gradients
            )
        else:
            trainable, optimizer_state = self.optimizer.stateless_apply(optimizer_state, gradients, trainable)
        norm = jnp.sqrt(sum(jnp.sum(jnp.square(g.astype(jnp.float32))) for g in jax.tree.leaves(gradients)))
        logs = {"loss": shown, "gradient_norm": norm, "learning_rate": rate}
        return logs, (trainable, others, optimizer_state, metrics)

    def _update_at_last(self, closes: jax.Array, trainable: Any, state: Any, sums: list[jax.Array]) -> Any:
        """Returns weights and optimizer after an update where the batch closes one, else with the sums kept."""
        slots = list(state[: -len(sums)])

        def update() -> Any:
            return self.optimizer.stateless_apply([*slots, *map(jnp.zeros_like, sums)], sums, trainable)

        return jax.lax.cond(closes, update, lambda: (list(trainable), [*slots, *sums]))

    def _loss(self, outputs: dict[str, Any], labels: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        """Returns what a batch adds to the loss of its update, and the loss of the batch alone."""
        loss = shown = jnp.zeros(())
        if "hidden" in outputs:
            head = Head(self._spec.text, self.recipe.optimizer, self._tokenizer.loc, trains=self.recipe.full)
            loss = shown = hidden_loss(head, outputs["vocabulary"], outputs["hidden"], labels)
            if self._accumulates:
                shown = loss * divisor(labels["update_weights"]) / divisor(labels["weights"])
        if "dense_share" in labels:
            members: Any = (labels[f"dense_{name}"] for name in DenseTargets._fields)
            targets = DenseTargets(*members)
            features = outputs["dense"]
            features = features.astype(jnp.promote_types(features.dtype, jnp.float32))
            sums, _ = dense_sums(outputs["head"], features, outputs["locations"], targets, self._counts)
            share, amounts = jnp.mean(labels["dense_share"]), dense_amounts(targets)
            loss += share * divided(sums, labels["update_dense"] if self._accumulates else amounts)
            shown += share * divided(sums, amounts)
        return loss, shown

    def _next_key(self) -> jax.Array:
        """Returns a new key each time; Keras' generator counts in its second word."""
        seed, count = self.seeds.next()
        return jax.random.fold_in(jax.random.key(seed), count)


def tower_is_frozen(recipe: Recipe, lora: LoraWeights | None) -> bool:
    """Whether nothing in the vision tower trains, neither its own weights nor an adapter's."""
    return not recipe.tunes_vision and not any(in_vision(path) for path in (lora.table if lora is not None else ()))


class _Opaque:
    """Keeps Keras from tracking the same variables a second time under other names."""

    def __init__(self, held: Any):
        self.held = held
