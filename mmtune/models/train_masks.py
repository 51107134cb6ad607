"""Trains the small mask codec on generated masks: `python -m mmtune.models.train_masks mask_codec.npz`.

Three stages: the network without codes, so that its vectors become worth clustering; then with the codebook, which
starts from k-means of the vectors and follows them by moving averages (arXiv 1711.00937, appendix A), while idle codes
move to vectors that are badly served; last the decoder alone. Takes some minutes on one core.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from mmtune.codecs import mask_network as network
from mmtune.codecs.mask_files import save_codec
from mmtune.codecs.mask_network import CODEBOOK, CODES, GRID, Widths
from mmtune.data.mask_samples import mask_samples

SMALL_WIDTHS = Widths(embedding=32, down=(16, 24, 32, 32), inner=24, up=(32, 32, 24, 16, 8), outer=32)

# A decoded value of 1 counts as odds of e^4 that the pixel is inside.
_SHARPNESS = 4.0
_DECAY = 0.98
# A code that won fewer vectors a batch than this, on average, is moved; the mean is batch * 16 / 128.
_IDLE = 0.05


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a codec is trained; the defaults made the shipped one."""

    samples: int = 20_000
    batch: int = 32
    plain_steps: int = 300
    steps: int = 2400
    decoder_steps: int = 400
    learning_rate: float = 2e-3
    commitment: float = 0.25
    seed: int = 0


def train_codec(plan: Plan, widths: Widths = SMALL_WIDTHS, say: Callable[[str], None] = print) -> dict[str, np.ndarray]:
    """Returns the arrays of a trained codec, named and shaped as `mask_network.shapes` says."""
    masks = mask_samples(plan.samples, plan.seed)
    say(f"{len(masks)} masks")
    return _Training(plan, widths, masks, say).run()


class _Training:
    """The state of a training: weights, moments of Adam, and the codebook's averages."""

    def __init__(self, plan: Plan, widths: Widths, masks: np.ndarray, say: Callable[[str], None]):
        self.plan, self.masks, self.say = plan, masks, say
        self.rng = np.random.default_rng([plan.seed, 1])
        arrays = _first_arrays(widths, self.rng)
        self.codebook = arrays.pop(CODEBOOK)
        self.weights: dict[str, Any] = arrays
        self.moments: Any = None
        self.counts = np.full(CODES, 1.0)

    def run(self) -> dict[str, np.ndarray]:
        plan = self.plan
        self._stage("plain", plan.plain_steps)
        self.codebook = _k_means(self._vectors(4096), CODES, self.rng)
        self.sums = self.codebook * self.counts[:, None]
        self._stage("codes", plan.steps)
        self._stage("decoder", plan.decoder_steps)
        arrays = {name: np.asarray(value) for name, value in self.weights.items()}
        return {CODEBOOK: self.codebook, **arrays}

    def _stage(self, stage: str, steps: int) -> None:
        import jax

        started = time.perf_counter()
        zeros = jax.tree.map(np.zeros_like, self.weights)
        self.moments = (zeros, zeros)
        for index in range(steps):
            rate = self.plan.learning_rate * _cosine(index, steps) * (0.5 if stage == "decoder" else 1.0)
            batch = self._batch(self.plan.batch)
            self.weights, self.moments, out = _compiled()(
                self.weights, self.moments, self.codebook, batch, rate, index + 1, self.plan.commitment, stage=stage
            )
            if stage == "codes":
                self._follow(np.asarray(out["vectors"]), np.asarray(out["indices"]), index < 0.8 * steps)
            if index % 100 == 0 or index + 1 == steps:
                seconds = time.perf_counter() - started
                self.say(f"{stage} {index} loss {out['loss']:.4f} IoU {out['iou']:.4f} {seconds:.0f} s")

    def _batch(self, count: int) -> np.ndarray:
        """Returns masks (count, 64, 64), each turned and mirrored at random."""
        batch = self.masks[self.rng.integers(len(self.masks), size=count)].astype(np.float32) / 255
        turns = self.rng.integers(8, size=count)
        batch[turns & 1 > 0] = batch[turns & 1 > 0][:, :, ::-1]
        batch[turns & 2 > 0] = batch[turns & 2 > 0][:, ::-1]
        batch[turns & 4 > 0] = batch[turns & 4 > 0].swapaxes(1, 2)
        return batch

    def _vectors(self, masks: int) -> np.ndarray:
        weights = network.matrices({name: np.asarray(value) for name, value in self.weights.items()})
        parts = [network.encode(weights, self._batch(64)) for _ in range(masks // 64)]
        return np.concatenate(parts).reshape(masks * GRID * GRID, -1)

    def _follow(self, vectors: np.ndarray, indices: np.ndarray, revive: bool) -> None:
        """Moves the codes to the mean of the vectors that they stand for; idle ones to vectors far from any code."""
        won = np.bincount(indices, minlength=CODES)
        sums = np.zeros_like(self.sums)
        np.add.at(sums, indices, vectors)
        self.counts = _DECAY * self.counts + (1 - _DECAY) * won
        self.sums = _DECAY * self.sums + (1 - _DECAY) * sums
        self.codebook = (self.sums / np.maximum(self.counts, 1e-6)[:, None]).astype(np.float32)
        idle = np.flatnonzero(self.counts < _IDLE * len(vectors) / CODES)
        if revive and len(idle):
            distances = ((vectors - self.codebook[indices]) ** 2).sum(1)
            chosen = self.rng.choice(len(vectors), len(idle), replace=False, p=distances / distances.sum())
            self.codebook[idle] = vectors[chosen]
            self.counts[idle] = 0.5 * len(vectors) / CODES
            self.sums[idle] = self.codebook[idle] * self.counts[idle, None]


@cache
def _compiled() -> Any:
    import jax

    return jax.jit(_step, static_argnames=("stage",))


def _step(
    weights: Any, moments: Any, codebook: Any, masks: Any, rate: Any, number: Any, commitment: Any, *, stage: str
) -> Any:
    """One step of Adam (beta 0.9 and 0.99). In the stage "decoder" the encoder's weights stay."""
    import jax
    import jax.numpy as jnp

    (loss, out), slopes = jax.value_and_grad(_loss, has_aux=True)(weights, codebook, masks, commitment, stage)
    if stage == "decoder":
        slopes = {name: g if name.startswith("decoder") else jnp.zeros_like(g) for name, g in slopes.items()}
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, moments[0], slopes)
    second = jax.tree.map(lambda m, g: 0.99 * m + 0.01 * g * g, moments[1], slopes)
    weights = jax.tree.map(
        lambda w, m, v: w - rate * (m / (1 - 0.9**number)) / (jnp.sqrt(v / (1 - 0.99**number)) + 1e-8),
        weights,
        first,
        second,
    )
    return weights, (first, second), {"loss": loss, **out}


def _loss(weights: Any, codebook: Any, masks: Any, commitment: Any, stage: str) -> Any:
    import jax
    import jax.numpy as jnp

    matrices = network.matrices(weights, jnp)
    vectors = network.encode(matrices, masks, jnp)
    indices = network.nearest(codebook, vectors, jnp)
    codes = codebook[indices]
    if stage == "plain":
        decoded, distance = network.decode(matrices, vectors, jnp), 0.0
    else:
        # Straight through: the decoder sees codes, the encoder gets the decoder's slopes.
        decoded = network.decode(matrices, vectors + jax.lax.stop_gradient(codes - vectors), jnp)
        distance = ((vectors - codes) ** 2).mean()
    logits = _SHARPNESS * decoded
    error = (jax.nn.softplus(logits) - masks * logits).mean((1, 2))
    inside = jax.nn.sigmoid(logits)
    both, either = (inside * masks).sum((1, 2)), (inside + masks - inside * masks).sum((1, 2))
    loss = (error + 0.5 * (1 - both / either)).mean() + commitment * distance
    truth, seen = masks > 0.5, decoded > 0
    iou = ((truth & seen).sum((1, 2)) / jnp.maximum((truth | seen).sum((1, 2)), 1)).mean()
    size = codebook.shape[1]
    return loss, {"iou": iou, "vectors": vectors.reshape(-1, size), "indices": indices.reshape(-1)}


def _first_arrays(widths: Widths, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Returns normal kernels that keep the deviation through a ReLU, and zero biases."""
    arrays = {}
    for name, shape in network.shapes(widths).items():
        if name.endswith(".bias"):
            arrays[name] = np.zeros(shape, np.float32)
            continue
        if name == CODEBOOK:
            fan_in = 1
        elif name in ("decoder.4.weight", "decoder.6.weight", "decoder.8.weight", "decoder.10.weight"):
            fan_in = shape[0] * 4  # a pixel of the output meets 2 x 2 of the 4 x 4 rows and columns of the kernel
        else:
            fan_in = math.prod(shape[1:])
        arrays[name] = rng.normal(0, math.sqrt(2 / fan_in), shape).astype(np.float32)
    return arrays


def _k_means(vectors: np.ndarray, count: int, rng: np.random.Generator, rounds: int = 12) -> np.ndarray:
    """Returns `count` centres (count, embedding) of vectors (n, embedding)."""
    centres = vectors[rng.choice(len(vectors), count, replace=False)]
    for _ in range(rounds):
        indices = network.nearest(centres, vectors)
        for index in range(count):
            members = vectors[indices == index]
            centres[index] = members.mean(0) if len(members) else vectors[rng.integers(len(vectors))]
    return centres


def _cosine(index: int, steps: int) -> float:
    """Rises over a twentieth of the steps, then falls to zero along half a cosine."""
    return min(1.0, 20 * (index + 1) / steps) * 0.5 * (1 + math.cos(math.pi * index / steps))


def main(path: Path, seed: Annotated[int, typer.Option(help="Another seed gives another codec.")] = 0) -> None:
    """Trains the small mask codec and writes it to PATH."""
    save_codec(train_codec(Plan(seed=seed)), path)
    typer.echo(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    typer.run(main)
