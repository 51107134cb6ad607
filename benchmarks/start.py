"""Where the time to a first training step goes: `python -m benchmarks.start [--size mini] [--cold]`.

A process of its own imports what is needed, loads a checkpoint in transformers' form and takes two LoRA steps. With
`--cold` nothing is known of earlier compilations; else they are where every process after the first finds them.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.speed.attempt import attempt
from benchmarks.speed.machine import ours
from benchmarks.speed.measuring import MALLOC
from benchmarks.speed.sizes import SIZES, make_data

PICTURES = 4
_COMPILING = {  # by the last part of JAX's names for them
    "jaxpr_trace_duration": "of it traced",
    "jaxpr_to_mlir_module_duration": "of it lowered",
    "backend_compile_duration": "of it compiled, or read from the cache",
}


def measure(folder: Path, size: str) -> dict[str, float]:
    """Returns the seconds of each part of the start, in this process."""
    laps: dict[str, float] = {}
    begun = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal begun
        now = time.perf_counter()
        laps[name], begun = now - begun, now

    for library in ("mmtune", "jax", "keras", "keras_hub"):  # ours first: it chooses Keras' backend, and JAX's cache
        import_module(library)
        lap(f"import {library}")
    import jax

    from benchmarks.speed.ours import rows_of, trainer_of
    from mmtune.data.batch import collate
    from mmtune.model import Model
    from mmtune.models.hf_load import load_checkpoint
    from mmtune.models.tiny import tiny_tokenizer

    lap("import what trains")
    model = Model(tokenizer=tiny_tokenizer(), name="start", **load_checkpoint(folder, "float32")._asdict())
    lap("load the checkpoint")
    trainer = trainer_of(model, full=False)
    lap("adapter and optimizer")
    batch = collate(rows_of(make_data(SIZES[size], PICTURES), "lora", None), model.spec.image_tokens)

    def step(name: str) -> None:
        trainer.fit((batch for _ in range(1)), steps_per_epoch=1, shuffle=False, verbose=0)
        jax.block_until_ready([variable.value for variable in trainer.trainable_variables])
        lap(name)

    spent = dict.fromkeys(_COMPILING, 0.0)

    def add(name: str, seconds: float, **_: Any) -> None:
        if (kind := name.rpartition("/")[2]) in spent:
            spent[kind] += seconds

    jax.monitoring.register_event_duration_secs_listener(add)
    lap("batch")
    step("first step")
    laps |= {shown: spent[kind] for kind, shown in _COMPILING.items()}
    step("second step")
    return laps


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line, measures in a new process and prints the parts."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start", description="Where the time of a start goes.")
    parser.add_argument("--size", choices=list(SIZES), default="mini", help="sizes of the model")
    parser.add_argument("--cold", action="store_true", help="compile everything anew")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure:
        print(json.dumps(measure(options.measure, options.size)))
        return
    with tempfile.TemporaryDirectory() as place:
        made = attempt(ours("export", options.size, place, "lora", "float32"))
        if made.failure:
            sys.exit(f"{made.errors}\nno checkpoint could be written: {made.failure}")
        cache = {"JAX_COMPILATION_CACHE_DIR": f"{place}/cache"} if options.cold else {}
        words = [sys.executable, "-m", "benchmarks.start", "--size", options.size, "--measure", place]
        begun = time.perf_counter()
        done = attempt(words, more=MALLOC | cache)
        whole = time.perf_counter() - begun
    if done.failure:
        sys.exit(f"{done.errors}\nthe start failed: {done.failure}")
    table = Table("part", "seconds", title=f"{options.size}, {PICTURES} pictures: {whole:.1f} s of a process")
    for name, seconds in json.loads(done.line).items():
        table.add_row(name, f"{seconds:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
