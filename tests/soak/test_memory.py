"""Training, evaluation and checkpoints for half an hour: memory stays what it is. Run by hand with `-m soak`."""

import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.soak

MINUTES = float(os.environ.get("MMTUNE_MINUTES", "30"))
RUN = [
    *(sys.executable, "-m", "mmtune", "train", "--task", "detection", "--model", "tiny", "--batch-size", "8"),
    *("--data", "shapes:train?n=4000&seed=3", "--val", "shapes:val?n=64", "--lora-rank", "8"),
    *("--set", "steps=1000000", "eval_every=100", "save_every=25", "log_every=1", "augment.crop=0.5"),
]


def resident(process):
    """Returns the megabytes in memory of a process."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


@pytest.mark.parametrize("minutes", [MINUTES])
def test_memory_stays_flat(tmp_path, minutes):
    """A third of the time may compile and fill caches; of the rest no tenth takes 5 % more than the first."""
    process = subprocess.Popen(
        [*RUN, "--out", str(tmp_path / "run")], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    begun, samples = time.monotonic(), []
    while (gone := time.monotonic() - begun) < 60 * minutes:
        time.sleep(1)
        assert process.poll() is None, process.communicate()[1][-3000:]
        if gone > 20 * minutes:
            samples.append(resident(process))
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    size = len(samples) // 10
    tenths = [statistics.median(samples[size * part : size * (part + 1)]) for part in range(10)]
    steps = len((tmp_path / "run" / "log.csv").read_text().splitlines()) - 1
    print(f"{steps} rows of the log, MiB in memory by tenths: {[round(tenth) for tenth in tenths]}")
    assert max(tenths) <= 1.05 * tenths[0]
