"""What is measured on, asked in a process of its own: this one leaves the device to the contenders."""

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from benchmarks.speed.attempt import attempt


def ours(*words: str) -> list[str]:
    """Returns what runs one of the small programs of `benchmarks.speed.ours`."""
    return [sys.executable, "-m", "benchmarks.speed.ours", *words]


def machine(precision: str) -> dict[str, Any]:
    """Returns "device", its "matmul_peak" and "read_peak", "cores" of the host, and the "precision"."""
    asked = attempt(ours("peak", precision))
    if asked.failure:
        raise SystemExit(f"the device could not be measured: {asked.failure}")
    return json.loads(asked.line) | {"cores": os.cpu_count(), "precision": precision}


def described(found: Mapping[str, Any]) -> str:
    """Returns precision and device in words."""
    device = f"{found['cores']} cores" if found["device"] == "cpu" else found["device"]
    return f"{found['precision']}, {device}"


def peaks_of(found: Mapping[str, Any]) -> str:
    """Returns in words what the device can do."""
    products, read = found["matmul_peak"] / 1e9, found["read_peak"] / 1e9
    return f"at best {products:.0f} GFLOP/s in products, {read:.0f} GB/s read"
