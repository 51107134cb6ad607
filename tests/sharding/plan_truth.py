"""Compares plans, which compile a few layers, with whole models, compiled.

    export KERAS_BACKEND=jax XLA_FLAGS=--xla_force_host_platform_device_count=8 PYTHONPATH=tests
    python tests/sharding/plan_truth.py train|decode FAMILY LAYERS KIND MESH [MESH ...]

KIND: lora, full, int8 or int4. A line of JSON a plan: {"family", "kind", "mesh", "bytes": planned over true bytes of
each device, true being the memory analysis of the step of a real model with its real weights, and "held": its weights
and optimizer variables as they lie on the first device; and for "temporary", "flops", "exchanged" planned over those of
the whole model, compiled without weights}.
"""

import json
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import keras
import numpy as np
from backbones import make

from mmtune.decoding.engine import encode, prefill, write
from mmtune.decoding.sampling import GREEDY
from mmtune.model import Model
from mmtune.models.linear import NO_ADAPTER
from mmtune.models.lora_config import LoRA
from mmtune.models.spec import read_spec
from mmtune.models.weights import values
from mmtune.planning.compiled import compile_step, costs_of
from mmtune.planning.decode import Programs, Sizes, plan_decoding
from mmtune.planning.plan import plan_training
from mmtune.recipe import Optimizer, Recipe
from mmtune.sharding.mesh import distributed
from mmtune.training.model import Trainer
from mmtune.training.optimizer import make_optimizer

ROWS, LENGTH, VOCABULARY = 8, 64, 2048


def backbone_of(family, layers):
    """Returns a small model of a family with so many layers, and half as many in its vision tower."""
    changes = {"vit_num_layers": layers // 2} if family.startswith("pali") else {}
    return make(family, num_layers=layers, vocabulary_size=VOCABULARY, hidden_dim=128, **changes)


def real_model(family, layers, recipe):
    """Returns a model with weights, on the mesh that is set."""
    model = Model(backbone_of(family, layers), SimpleNamespace(loc=None), name=family)
    if recipe.quantize:
        model.quantize(recipe.quantize)
    if not recipe.full:
        model.add_lora(recipe.lora, 0)
    return model


def real_step(family, layers, recipe):
    """Returns what the compiler says of a real model's step, and the bytes of its state on the first device."""
    model = real_model(family, layers, recipe)
    trainer = Trainer(model, recipe)
    trainer.compile(optimizer=make_optimizer(recipe, 100))
    trainer.optimizer.build(trainer.trainable_variables)
    parts = (trainer.trainable_variables, trainer.non_trainable_variables, trainer.optimizer.variables, [])
    state = tuple([variable.value for variable in part] for part in parts)
    rows = np.zeros((ROWS, LENGTH), np.int32)
    inputs = dict.fromkeys(("token_ids", "positions", "segments", "targets"), rows)
    if model.spec.vision is not None:
        size = model.spec.vision.image_size
        inputs = inputs | {"images": np.zeros((ROWS, size, size, 3), np.uint8)}
    labels = {"labels": rows, "weights": rows.astype(np.float32)}
    layouts = keras.distribution.distribution()
    batch = jax.tree.map(lambda a: jax.device_put(a, layouts.get_data_layout(a.shape).backend_layout), (inputs, labels))
    program = jax.jit(trainer.train_step, donate_argnums=0).lower(state, batch).compile()
    return costs_of(program), on_first_device(state)


def on_first_device(arrays):
    """Returns the bytes that lie on the first device."""
    first = jax.devices()[0]
    shards = (shard for array in jax.tree.leaves(arrays) for shard in array.addressable_shards)
    return sum(shard.data.nbytes for shard in shards if shard.device == first)


def training(family, layers, recipe):
    """Returns planned over true of a training step."""
    spec = read_spec(backbone_of(family, layers))
    planned = plan_training(spec, recipe, LENGTH, LENGTH)
    real, held = real_step(family, layers, recipe)
    whole = compile_step(spec, recipe, LENGTH, LENGTH)
    return {
        "bytes": planned.step.total / real.total,
        "held": (planned.weights + planned.optimizer) / held,
        **against(planned.step, whole),
    }


def against(planned, whole):
    return {
        "total": planned.total / whole.total,
        "temporary": planned.temporary / whole.temporary,
        "flops": planned.flops / whole.flops,
        "exchanged": planned.exchanged / whole.exchanged if whole.exchanged else 1.0,
    }


def decoding(family, layers, recipe):
    """Returns planned over true of decoding: the cache as it really lies, the real programs, and whole ones."""
    model = real_model(family, layers, recipe)
    planned = plan_decoding(model.spec, recipe, LENGTH, 16)
    tree = values(model.variables)
    adapter = model.lora.adapter() if model.lora else NO_ADAPTER
    features = None
    if model.spec.vision is not None:
        size = model.spec.vision.image_size
        features = encode(tree, model.spec, jnp.zeros((ROWS, size, size, 3), jnp.uint8), adapter, jnp.float32)
    ids, lengths = jnp.zeros((ROWS, LENGTH), jnp.int32), jnp.full(ROWS, LENGTH, jnp.int32)
    words = (tree, model.spec, features, ids, lengths, adapter)
    prefix = prefill(*words, new=16, dtype=jnp.float32)
    keys = jax.vmap(jax.random.key)(jnp.arange(ROWS))
    token = write.lower(
        tree, model.spec, prefix, adapter, keys, jnp.int32(16), None, sampler=GREEDY, new=16, ends=(1,), pad=0
    )
    prompt = prefill.lower(*words, new=16, dtype=jnp.float32).compile()
    token = token.compile()
    whole = Programs(model.spec, recipe, Sizes(ROWS, LENGTH, 16))
    return {
        "bytes": planned.programs["token"].total / costs_of(token).total,
        "prompt": planned.programs["prompt"].total / costs_of(prompt).total,
        "held": planned.weights / on_first_device((tree, adapter.weights)),
        "cache": planned.cache / on_first_device((prefix.cache.keys, prefix.cache.values)),
        **against(planned.programs["token"], costs_of(whole.compiled("token"))),
    }


def main(what, family, layers, kind, *meshes):
    """Prints a line a plan."""
    for mesh in meshes:
        recipe = Recipe(
            task="instruct",
            data="-",
            batch_size=ROWS,
            full=kind == "full",
            quantize=kind if kind.startswith("int") else None,
            lora=LoRA(rank=8),
            optimizer=Optimizer(learning_rate=1e-4),
            mesh=mesh,
        )
        with distributed(mesh):
            found = (training if what == "train" else decoding)(family, int(layers), recipe)
        print(json.dumps({"what": what, "family": family, "kind": kind, "mesh": mesh} | found), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
