"""How far a text is from the right one, and where they differ."""

from collections.abc import Sequence
from dataclasses import dataclass

from mmtune.metrics.error_rates import edit_distance

EXACT, SLIP, PARTLY, WRONG, UNKNOWN = "exact", "slip", "partly wrong", "wrong", "answer unknown"
FAULTS = (SLIP, PARTLY, WRONG)

_SLIP, _PARTLY = 0.2, 0.5

EXPLAINED = {
    EXACT: "equal to a right text",
    SLIP: f"up to {_SLIP:.0%} of the longer text's characters would have to be changed",
    PARTLY: f"up to {_PARTLY:.0%}",
    WRONG: "more",
    UNKNOWN: "the data gives no right text",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """A text against the nearest right one.

    Attributes:
        right: The right text; None where it is not known.
        edits: Characters that are inserted, deleted or replaced to turn one into the other.
        share: Of the longer text's length, in 0..1.
    """

    right: str | None
    edits: int = 0
    share: float = 0.0

    @property
    def kind(self) -> str:
        """One of the keys of `EXPLAINED`."""
        if self.right is None:
            return UNKNOWN
        if not self.edits:
            return EXACT
        return SLIP if self.share <= _SLIP else PARTLY if self.share <= _PARTLY else WRONG


def difference(text: str, right: Sequence[str]) -> Difference:
    """Returns how far a text is from the nearest of the right ones; of equally near ones the first counts."""
    best: Difference | None = None
    for one in dict.fromkeys(right):
        edits = edit_distance(text, one)
        longest = max(len(text), len(one), 1)
        if best is None or edits / longest < best.share:
            best = Difference(one, edits, edits / longest)
    return best or Difference(None)


def pieces(text: str, right: str) -> list[tuple[str, str]]:
    """Returns the two texts as one: pieces of "same", "extra" (not in the right text) and "lacking" (only there)."""
    from rapidfuzz.distance import Levenshtein

    found: list[tuple[str, str]] = []
    for step in Levenshtein.opcodes(text, right):
        if step.tag == "equal":
            found.append(("same", text[step.src_start : step.src_end]))
            continue
        if step.src_end > step.src_start:
            found.append(("extra", text[step.src_start : step.src_end]))
        if step.dest_end > step.dest_start:
            found.append(("lacking", right[step.dest_start : step.dest_end]))
    return found
