"""How long steps wait for their pictures: `python -m benchmarks.waiting DATA [--task detection] [--trace FILE]`.

A LoRA of `mini` is trained on photographs, whose image tokens are not kept, so that every step needs pictures that are
decoded and resized for it. Each step is awaited; between two steps the device does nothing. The trace shows steps,
waits, and in which threads rows were made meanwhile; ui.perfetto.dev opens it.
"""

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Spans:
    """What happened when, in seconds.

    Attributes:
        events: (name, thread, begin, end).
    """

    events: list[tuple[str, int, float, float]] = field(default_factory=list)

    def note(self, name: str, begin: float) -> float:
        """Notes what began then and ends now; returns now."""
        now = time.perf_counter()
        self.events.append((name, threading.get_native_id(), begin, now))
        return now

    def total(self, name: str) -> float:
        """Returns the seconds of all spans of a name."""
        return sum(end - begin for known, _, begin, end in self.events if known == name)

    def without(self, first: int) -> "Spans":
        """Returns what began after so many steps: the first one is compiled."""
        steps = sorted(end for name, _, _, end in self.events if name == "step")
        return Spans([event for event in self.events if event[2] >= steps[first - 1]])

    def write(self, file: Path) -> None:
        """Writes a trace in the form of trace events."""
        start = min(begin for _, _, begin, _ in self.events)
        events = [
            {"name": name, "ph": "X", "pid": 1, "tid": thread, "ts": 1e6 * (begin - start), "dur": 1e6 * (end - begin)}
            for name, thread, begin, end in self.events
        ]
        file.write_text(json.dumps({"traceEvents": events}))


def watched(spans: Spans) -> None:
    """Makes training note its steps, its waits and its rows."""
    import jax

    import mmtune.training.fit as fitting
    from mmtune.training.callbacks import Watch

    load, ended = fitting.load_batches, Watch.on_train_batch_end
    asked = [0.0]

    def batches(plan: Any, make_row: Callable[[int, int], Any], *more: Any) -> Iterator[Any]:
        def row(index: int, epoch: int) -> Any:
            begun = time.perf_counter()
            made = make_row(index, epoch)
            spans.note("row", begun)
            return made

        loaded = load(plan, row, *more)
        while True:
            begun = time.perf_counter()
            batch = next(loaded, None)
            asked[0] = spans.note("wait", begun)
            if batch is None:
                return
            yield batch

    def on_train_batch_end(self: Watch, batch: int, logs: Any = None) -> None:
        jax.block_until_ready((logs or {}).get("loss"))
        spans.note("step", asked[0])
        ended(self, batch, logs)

    fitting.load_batches, Watch.on_train_batch_end = batches, on_train_batch_end


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line, trains and prints what was waited."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.waiting", description="What steps wait for pictures.")
    parser.add_argument("data", help="photographs, as `mmtune train --data` takes them")
    parser.add_argument("--task", default="detection", help="what is trained")
    parser.add_argument("--size", default="mini", help="sizes of the model")
    parser.add_argument("--steps", type=int, default=40, help="steps that are measured")
    parser.add_argument("--batch-size", type=int, default=4, help="pictures a step")
    parser.add_argument("--draft", action="store_true", help="decode JPEG files at a fraction of their size")
    parser.add_argument("--trace", type=Path, help="write what happened when here")
    options = parser.parse_args(arguments)

    import mmtune
    from benchmarks.speed.ours import model_of
    from benchmarks.speed.sizes import SIZES

    spans = Spans()
    watched(spans)
    with tempfile.TemporaryDirectory() as folder:
        mmtune.train(
            model_of(SIZES[options.size], "lora"),
            task=options.task,
            data=options.data,
            out=Path(folder) / "run",
            steps=options.steps + 2,
            batch_size=options.batch_size,
            buckets=1,
            cache={"features": "off"},
            pictures={"draft": options.draft or None},
            verbose=False,
        )
    measured = spans.without(2)
    rows, step, wait = (measured.total(name) for name in ("row", "step", "wait"))
    count = sum(name == "row" for name, *_ in measured.events)
    print(f"{options.steps} steps of {options.batch_size}: {step / options.steps:.3f} s a step")
    print(f"a row is made in {1e3 * rows / count:.1f} ms")
    print(f"steps waited {wait:.3f} s for their pictures: {wait / (step + wait):.2%} of the time")
    if options.trace:
        measured.write(options.trace)


if __name__ == "__main__":
    main()
