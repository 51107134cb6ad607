"""What fewer bits cost and save on the embedded model: `python -m benchmarks.quantized [--n 200]`.

Sizes of file and memory as shares of float32, how far the log-probabilities of right answers move, and the scores of
`benchmarks.tiny_scores` before and after.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.tiny_scores import scores
from mmtune.model import Model

TASKS = ("detection", "vqa", "ocr", "captioning")


def drift(model: Model, other: Model, n: int) -> float:
    """Returns by how much the log-probability of a token of a right caption differs, in nats, on average."""
    import mmtune

    records = list(mmtune.read(f"shapes:test?n={n}&seed=9", task="captioning"))
    pictures = [record.picture for record in records]
    prompts, texts = ["caption en"] * n, [record.texts[0] for record in records]
    one, two = (m.score(pictures, prompts, texts) for m in (model, other))
    apart = [np.abs(np.array(a.logprobs) - np.array(b.logprobs)) for a, b in zip(one, two, strict=True)]
    return float(np.concatenate(apart).mean())


def main() -> None:
    """Prints it all."""
    import mmtune
    from mmtune.models.quantized_tree import nbytes

    parser = argparse.ArgumentParser(description="Measure the embedded model in few bits.")
    parser.add_argument("--n", type=int, default=200, help="scenes")
    n = parser.parse_args().n
    exact = mmtune.load("tiny")
    with tempfile.TemporaryDirectory() as place:
        whole = (exact.export(Path(place) / "hf") / "model.safetensors").stat().st_size
        print("float32")
        scores(exact, TASKS, n, 9, 224)
        for scheme in ("int8", "int4"):
            model = mmtune.load("tiny", quantize=scheme)
            file = (model.export(Path(place) / scheme, scheme) / "quantized.safetensors").stat().st_size
            memory = nbytes(model.variables) / nbytes(exact.variables)
            print(
                f"{scheme}: file {file / whole:.3f}, memory {memory:.3f} of float32, drift {drift(exact, model, n):.4f}"
            )
            scores(model, TASKS, n, 9, 224)


if __name__ == "__main__":
    main()
