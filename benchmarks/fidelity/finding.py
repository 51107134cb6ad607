"""What one comparison found: a question, a peer's answer, the truth, and ours."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

Value = float | int | str
"""A number; or a text such as "KeyError" where there was no number but an error."""


@dataclass(frozen=True)
class Finding:
    """One row of the page.

    Attributes:
        question: What is asked, one plain sentence that says the unit.
        peer, version: Whose answer is doubted.
        peer_value: Its answer.
        reference: Where the truth comes from.
        reference_value: The truth.
        ours: mmtune's answer.
        tolerance: How far from the truth an answer may be and still be right.
        places: Decimal places that are shown.
    """

    question: str
    peer: str
    version: str
    peer_value: Value
    reference: str
    reference_value: Value
    ours: Value
    tolerance: float = 0.0
    places: int = 0

    def right(self, value: Value) -> bool:
        """Whether an answer is the truth within the tolerance."""
        if isinstance(value, str) or isinstance(self.reference_value, str):
            return value == self.reference_value
        return abs(value - self.reference_value) <= self.tolerance

    def shown(self, value: Value) -> str:
        """Returns an answer as the page shows it."""
        if isinstance(value, str):
            return value
        return f"{value:,.{self.places}f}".replace("-", "\N{MINUS SIGN}")


def versioned(package: str, name: str | None = None) -> str:
    """Returns a package with its installed version, under its usual name."""
    return f"{name or package} {version(package)}"


def attempt(ask: Callable[[], Value]) -> Value:
    """Returns an answer, or "raises ..." with the name of the error where there is none."""
    try:
        return ask()
    except Exception as error:  # whatever the peer raises is its answer
        return f"raises {type(error).__name__}"


NATS = 1e-4
"""Tolerance of log-probabilities: float32 passes of different libraries differ by a few millionths."""
