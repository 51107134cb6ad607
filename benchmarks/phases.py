"""Where the time of a LoRA step and of decoding goes: `python -m benchmarks.phases [--size mini]`.

Each part beside what the device's measured peaks allow: products at the speed of large ones, weights read once a token.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.speed.machine import described, machine, peaks_of
from benchmarks.speed.measuring import MALLOC, timed
from benchmarks.speed.sizes import SIZES, Size, decoding_parts, make_data, step_flops

STEP_PICTURES, DECODED = 4, (1, 8)
_SHORT, _LONG = 16, 48
"""Tokens of two decodings, whose difference gives a token's seconds."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line, measures the device and then the parts."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.phases", description="Where the time goes.")
    parser.add_argument("--size", choices=list(SIZES), default="mini", help="sizes of the model")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32", help="of the model")
    options = parser.parse_args(arguments)
    if "GLIBC_TUNABLES" not in os.environ:
        # malloc reads its settings when a process begins: ours begins with these.
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks.phases", *sys.argv[1:]], os.environ | MALLOC)
    device, console = machine(options.precision), Console()
    console.print(f"{options.size}, {described(device)}: {peaks_of(device)}")
    size = SIZES[options.size]
    console.print(table("LoRA step, 4 pictures", step_parts(size, options.precision, device)))
    from benchmarks.speed.ours import model_of

    model = model_of(size, "decode1", options.precision)
    for rows in DECODED:
        title = f"decoding, {rows} picture{'s' if rows > 1 else ''}"
        console.print(table(title, decoded_parts(model, size, options.precision, rows, device)))


def table(title: str, parts: dict[str, tuple[float, float]]) -> Table:
    """Returns the table of parts: seconds of each, and the least seconds possible, 0 where those are not known."""
    shown = Table("part", "ms", "ms at best", "of the best possible", title=title)
    for name, (seconds, least) in parts.items():
        bound = (f"{least * 1e3:.1f}", f"{least / seconds:.0%}") if least else ()
        shown.add_row(name, f"{seconds * 1e3:.1f}", *bound)
    return shown


def fastest(run: Callable[[], object]) -> float:
    """Returns the seconds of the fastest of five runs."""
    return min(timed(run, 5))


def tower(model: Any, images: Any) -> Callable[[], object]:
    """Returns what sends pictures through the vision tower."""
    import jax.numpy as jnp

    from mmtune.decoding.engine import encode
    from mmtune.models.linear import NO_ADAPTER

    weights = model.weights()
    return lambda: encode(weights.tree, weights.spec, jnp.asarray(images), NO_ADAPTER, dtype=jnp.dtype(weights.dtype))


def step_parts(size: Size, precision: str, device: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Returns the parts of a LoRA step: what they took and the least they can take."""
    import jax

    from benchmarks.speed.ours import model_of, rows_of, trainer_of
    from mmtune.data.batch import collate

    model = model_of(size, "lora", precision)
    data = make_data(size, STEP_PICTURES)
    seen = fastest(tower(model, data["images"]))
    trainer = trainer_of(model, full=False)
    batch = collate(rows_of(data, "lora", None), model.spec.image_tokens)
    trainer.optimizer.build(trainer.trainable_variables)
    groups = (trainer.trainable_variables, trainer.non_trainable_variables, trainer.optimizer.variables, [])
    state = tuple([variable.value for variable in variables] for variables in groups)
    forward = jax.jit(lambda state, inputs: trainer.stateless_call(state[0], state[1], inputs, training=True)[0])
    step = jax.jit(trainer.train_step)
    through, whole = fastest(lambda: forward(state, batch[0])), fastest(lambda: step(state, batch))
    every, text = (
        step_flops(size, "lora", STEP_PICTURES, encodes) / device["matmul_peak"] for encodes in (True, False)
    )
    return {
        "the tower": (seen, every - text),
        "tower and decoder, forward": (through, 0.0),
        "the whole step": (whole, every),
        "the step without the tower": (whole - seen, text),
    }


def decoded_parts(
    model: Any, size: Size, precision: str, rows: int, device: dict[str, Any]
) -> dict[str, tuple[float, float]]:
    """Returns the parts of writing answers: what they took and the least they can take."""
    from benchmarks.speed.ours import NEVER
    from mmtune.decoding.generate import generate
    from mmtune.decoding.requests import Request

    data = make_data(size, rows)
    weights = replace(model.weights(), eos=NEVER)
    requests = [Request(prompt.tolist(), image) for image, prompt in zip(data["images"], data["prompts"], strict=True)]

    def write(tokens: int) -> float:
        return fastest(
            lambda: [a.ids for a in generate(weights, requests, max_tokens=tokens, batch_size=rows)] and None
        )

    seen, first, short, long = fastest(tower(model, data["images"])), write(1), write(_SHORT), write(_LONG)
    least = decoding_parts(size, rows, precision, device["matmul_peak"], device["read_peak"])
    taken = (seen, first - seen, (long - short) / (_LONG - _SHORT))
    return dict(
        zip(("the tower", "prompt and first token", "a token after it"), zip(taken, least, strict=True), strict=True)
    )


if __name__ == "__main__":
    main()
