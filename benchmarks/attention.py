"""The vision tower with attention in one kernel beside the plain way: `python -m benchmarks.attention`.

On a GPU: how far output and gradients of either lie from float32's, their seconds, and the memory of the program that
makes them, for a few layers of PaliGemma 3B's tower.
"""

import argparse
import os
import statistics
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

from benchmarks.speed.measuring import timed
from benchmarks.speed.sizes import SIZES, Size
from mmtune.models.fused import SWITCH, has_kernel, nvidia_capability
from mmtune.models.spec import VisionSpec
from mmtune.models.vision import encode_images

LAYERS, REPETITIONS = 4, 5
BATCHES = {"3b": {224: 8, 448: 8, 896: 2}, "dot": {56: 2}}
"""Pictures at once by their side in pixels."""


def tower(size: Size, side: int) -> tuple[VisionSpec, Any]:
    """Returns a random tower of a few layers: its description and its weights in bfloat16."""
    width, mlp = size.vision_hidden, size.vision_mlp
    spec = VisionSpec(side, size.patch, width, LAYERS, size.vision_heads, mlp)
    keys = iter(jax.random.split(jax.random.key(0), 10 * LAYERS))

    def dense(inputs: int, outputs: int) -> dict[str, Any]:
        kernel = jax.random.normal(next(keys), (inputs, outputs), jnp.bfloat16) * inputs**-0.5
        return {"kernel": kernel, "bias": jnp.zeros(outputs, jnp.bfloat16)}

    def norm() -> dict[str, Any]:
        return {"scale": jnp.ones(width, jnp.bfloat16), "bias": jnp.zeros(width, jnp.bfloat16)}

    def layer() -> dict[str, Any]:
        square = {name: dense(width, width) for name in ("q_proj", "k_proj", "v_proj", "out_proj")}
        return square | {
            "attention_norm": norm(),
            "mlp_norm": norm(),
            "fc1": dense(width, mlp),
            "fc2": dense(mlp, width),
        }

    weights = {
        "patch": dense(3 * size.patch**2, width),
        "positions": jax.random.normal(next(keys), (spec.num_tokens, width), jnp.bfloat16),
        "layers": [layer() for _ in range(LAYERS)],
        "norm": norm(),
        "projector": dense(width, size.hidden),
    }
    return spec, weights


def output_and_gradients(weights: Any, images: Any, spec: VisionSpec, dtype: Any) -> Any:
    """Returns image tokens, and the gradients of the mean of their squares by all weights."""

    def loss(weights: Any) -> Any:
        tokens = encode_images(weights, spec, images, dtype=dtype)
        return jnp.mean(jnp.square(tokens.astype(jnp.float32))), tokens

    gradients, tokens = jax.grad(loss, has_aux=True)(weights)
    return tokens, gradients


def compiled(weights: Any, images: Any, spec: VisionSpec, dtype: Any, fused: bool) -> Any:
    """Returns the program, with the kernel where there is one or without."""
    os.environ[SWITCH] = "1" if fused else "0"
    return jax.jit(partial(output_and_gradients, spec=spec, dtype=dtype)).lower(weights, images).compile()


def error(found: Any, truth: Any) -> float:
    """Returns the length of the difference as a share of the truth's, over all arrays of a tree."""
    found = jax.tree.map(lambda array: array.astype(jnp.float32), found)
    apart = sum(jnp.sum(jnp.square(a - b)) for a, b in zip(*map(jax.tree.leaves, (found, truth)), strict=True))
    return float(jnp.sqrt(apart / sum(jnp.sum(jnp.square(array)) for array in jax.tree.leaves(truth))))


def measured(program: Any, weights: Any, images: Any, truth: Any) -> list[str]:
    """Returns errors of output and gradients, seconds and GiB, as they are shown."""
    found = program(weights, images)
    seconds = timed(lambda: program(weights, images), REPETITIONS)
    gib = program.memory_analysis().temp_size_in_bytes / 2**30
    errors = [f"{error(*pair):.2e}" for pair in zip(found, truth, strict=True)]
    return [*errors, f"{statistics.median(seconds):.4f}", f"{gib:.2f}"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line and compares."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.attention", description="Compare the tower's attention."
    )
    parser.add_argument("--size", choices=list(BATCHES), default="3b", help="sizes of the tower")
    parser.add_argument("--anyway", action="store_true", help="go through it even where there is no kernel")
    options = parser.parse_args(arguments)
    size, console = SIZES[options.size], Console()
    device = jax.local_devices()[0].device_kind
    if not has_kernel(nvidia_capability(), jnp.bfloat16, size.vision_hidden // size.vision_heads):
        console.print(f"{device}: there is no fused attention here")
        if not options.anyway:
            return
    told = f"{LAYERS} layers of the tower, bfloat16, forward and backward, {device}"
    table = Table("pictures", "attention", "error", "gradients' error", "seconds", "GiB", title=told)
    for side, batch in BATCHES[options.size].items():
        spec, weights = tower(size, side)
        images = jax.random.randint(jax.random.key(1), (batch, side, side, 3), 0, 256, jnp.uint8)
        wide = jax.tree.map(lambda array: array.astype(jnp.float32), weights)
        with jax.default_matmul_precision("highest"):
            truth = compiled(wide, images, spec, jnp.float32, fused=False)(wide, images)
        for fused in (True, False):
            program = compiled(weights, images, spec, jnp.bfloat16, fused)
            row = measured(program, weights, images, truth)
            table.add_row(f"{batch} x {side} pixels", "one kernel" if fused else "plain", *row)
    console.print(table)


if __name__ == "__main__":
    main()
