"""The training core: a plain `keras.Model` around the forward pass, trained with `fit`."""

from typing import Any

import jax
import jax.numpy as jnp
import keras

from mmtune.model import Model
from mmtune.models.linear import NO_ADAPTER
from mmtune.models.modules import in_vision
from mmtune.models.scorer import target_logits
from mmtune.models.weights import values
from mmtune.recipe import Recipe
from mmtune.training.loss import weighted_loss


class Trainer(keras.Model):
    """Maps a batch to the logits at its target positions, and takes a step on their loss.

    What trains: the adapter alone, or with `full` every weight, the vision tower only if the recipe tunes it.

    Args:
        model: The model, with its adapter unless `recipe.full`.
        recipe: The run.
    """

    def __init__(self, model: Model, recipe: Recipe):
        super().__init__(name="trainer")
        self.recipe = recipe
        self.backbone = model.backbone
        self.lora = None if recipe.full else model.lora
        self.seeds = keras.random.SeedGenerator(recipe.seed)
        self._spec = model.spec
        self._tokenizer = model.tokenizer
        self._tree = _Opaque(model.variables)
        self.backbone.trainable = recipe.full
        if recipe.full and model.spec.vision is not None:
            self.backbone.vit_encoder.trainable = recipe.tunes_vision
        self.built = True

    def call(self, inputs: dict[str, Any], training: bool = False) -> jax.Array:
        """Returns float32 logits (batch, n, vocabulary) of a batch as `mmtune.data.batch.collate` makes it."""
        adapter = NO_ADAPTER
        if self.lora is not None:
            wants_key = training and self.lora.config.dropout > 0
            adapter = self.lora.adapter(self._next_key() if wants_key else None)
        adapted = self.lora is not None and any(in_vision(path) for path in self.lora.table)
        frozen = not (self.recipe.tunes_vision or adapted)
        return target_logits(
            values(self._tree.held),
            self._spec,
            inputs,
            adapter,
            dtype=jnp.dtype(self.recipe.precision),
            freeze_vision=frozen,
            rematerialise=self.recipe.rematerialise,
        )

    def train_step(self, state: Any, data: Any) -> tuple[dict[str, jax.Array], Any]:
        """One step, stateless, as Keras' JAX trainer jits it. Logs this step's own loss, not a running mean."""
        trainable, others, optimizer_state, metrics = state
        inputs, labels = data[:2]

        def loss_of(trainable: Any) -> tuple[jax.Array, Any]:
            predicted, updated = self.stateless_call(trainable, others, inputs, training=True)[:2]
            return weighted_loss(predicted, labels, self.recipe.optimizer, self._tokenizer.loc), updated

        (loss, others), gradients = jax.value_and_grad(loss_of, has_aux=True)(trainable)
        trainable, optimizer_state = self.optimizer.stateless_apply(optimizer_state, gradients, trainable)
        norm = jnp.sqrt(sum(jnp.sum(jnp.square(g.astype(jnp.float32))) for g in jax.tree.leaves(gradients)))
        return {"loss": loss, "gradient_norm": norm}, (trainable, others, optimizer_state, metrics)

    def _next_key(self) -> jax.Array:
        """Returns a new key each time; Keras' generator counts in its second word."""
        seed, count = self.seeds.next()
        return jax.random.fold_in(jax.random.key(seed), count)


class _Opaque:
    """Keeps Keras from tracking the same variables a second time under other names."""

    def __init__(self, held: Any):
        self.held = held
