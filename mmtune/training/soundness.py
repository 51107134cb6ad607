"""Whether a run's numbers are still good for anything: a loss that is no number, or that grows beyond all bounds."""

import math
import traceback
from collections import deque
from pathlib import Path
from statistics import median

_HERE = Path(__file__).parents[1]
# Guessing all tokens alike costs the logarithm of the vocabulary; a model that is sound is not surer of what is wrong.
_GUESSES = 3.0
_TIMES = 10.0
_KEPT = 50
_FEW = 3


class Soundness:
    """Looks at each step's loss and gradient.

    Args:
        vocabulary: Number of tokens.
    """

    def __init__(self, vocabulary: int):
        self._bound = _GUESSES * math.log(vocabulary)
        self._before: deque[float] = deque(maxlen=_KEPT)

    def problem(self, loss: float, norm: float) -> str | None:
        """Returns what became of a step's numbers, such as "the loss became nan", None when they are sound.

        A loss has exploded when it is ten times the median of the fifty steps before and three times what guessing
        costs: a hard batch of a model that has learned much is neither.
        """
        for name, value in (("loss", loss), ("gradient", norm)):
            if not math.isfinite(value):
                return f"the {name} became {value}"
        usual = median(self._before) if len(self._before) >= _FEW else math.inf
        if loss > max(self._bound, _TIMES * usual):
            return f"the loss exploded from {usual:.4g} to {loss:.4g}"
        self._before.append(loss)
        return None


def lost_in(error: FloatingPointError) -> str:
    """Returns the operation that JAX found a NaN in, with the last of our own lines that led to it."""
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(_HERE)]
    where = f" in {Path(ours[-1].filename).relative_to(_HERE.parent)}:{ours[-1].lineno}" if ours else ""
    return f"{str(error).splitlines()[0]}{where}"
