"""What many records cost: `python -m benchmarks.records [N ...] [--json FILE]`.

For each number of records a process reads the data, begins to train `tiny` on questions, and tells how long it took to
read it, to the end of the first step, the 20 steps after it, and the memory it held at most. Data: generated scenes,
and a file of JSON lines that name pictures.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.speed.attempt import attempt

COUNTS = (1_000, 10_000, 100_000, 1_000_000)
STEPS = 20
_PICTURES = 200


def write_lines(folder: Path, count: int) -> str:
    """Writes pictures of scenes and a file of questions about them; returns its address."""
    import mmtune

    scenes = mmtune.read(f"shapes:train?n={_PICTURES}&size=120", task="vqa")
    (folder / "images").mkdir()
    for record in scenes:
        assert record.picture is not None
        record.picture.open().save(folder / "images" / f"{record.id}.jpg")
    known = [(f"{record.id}.jpg", record.prefix, record.texts[0]) for record in scenes]
    file = folder / "questions.jsonl"
    with file.open("w") as lines:
        for number in range(count):
            image, question, answer = known[number % _PICTURES]
            line = {"question_id": number, "image": f"images/{image}", "question": question, "answer": answer}
            lines.write(json.dumps(line) + "\n")
    return str(file)


def measure_here(data: str) -> None:
    """Measures in this process and prints a line of JSON."""
    import mmtune
    import mmtune.training.fit as fitting
    from benchmarks.speed.measuring import host_peak
    from mmtune.training.callbacks import Watch

    ended: list[float] = []
    noted = Watch.on_train_batch_end

    def note(self: Watch, batch: int, logs: Any = None) -> None:
        noted(self, batch, logs)
        ended.append(time.perf_counter())

    fitting.Watch.on_train_batch_end = note
    begun = time.perf_counter()
    records = mmtune.read(data, task="vqa")
    read = time.perf_counter()
    with tempfile.TemporaryDirectory() as out:
        options = {"steps": STEPS + 1, "batch_size": 8, "log_every": 1}
        mmtune.train("tiny", task="vqa", data=records, out=Path(out) / "run", verbose=False, **options)
    found = {"records": len(records), "read": read - begun, "first_step": ended[0] - begun}
    print(json.dumps(found | {"steps": ended[-1] - ended[0], "peak_gib": host_peak()}))


def rows(counts: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Yields what was measured of each form and number."""
    for form in ("scenes", "lines"):
        for count in counts:
            with tempfile.TemporaryDirectory() as place:
                data = f"shapes:train?n={count}&size=120" if form == "scenes" else write_lines(Path(place), count)
                program = f"from benchmarks.records import measure_here; measure_here({data!r})"
                done = attempt([sys.executable, "-c", program])
            if done.failure:
                raise RuntimeError(f"{done.failure}\n{done.errors}")
            yield {"form": form} | json.loads(done.line)


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line and measures."""
    from rich.console import Console
    from rich.table import Table

    parser = argparse.ArgumentParser(prog="python -m benchmarks.records", description="What many records cost.")
    parser.add_argument("counts", nargs="*", type=int, default=COUNTS, help="numbers of records")
    parser.add_argument("--json", type=Path, help="write all rows here")
    options = parser.parse_args(arguments)
    table = Table("data", "records", "read", "first step after", f"{STEPS} more steps", "peak GiB")
    found = []
    for row in rows(options.counts):
        found.append(row)
        seconds = [f"{row[name]:.1f} s" for name in ("read", "first_step", "steps")]
        table.add_row(row["form"], f"{row['records']:,}", *seconds, f"{row['peak_gib']:.2f}")
        if options.json:
            options.json.write_text(json.dumps(found, indent=1))
    Console().print(table)


if __name__ == "__main__":
    main()
