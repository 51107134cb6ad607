"""docs/fidelity.md is what its script would write: every finding, under its subject, with its reason."""

import re
from datetime import date
from pathlib import Path

import pytest

from benchmarks.fidelity.catalogue import FINDINGS, SUBJECTS, reason
from benchmarks.fidelity.finding import Finding, attempt
from benchmarks.fidelity.page import render, row

PAGE = Path(__file__).resolve().parents[1] / "docs" / "fidelity.md"


def parts(text):
    """Returns what stands under each heading."""
    heads = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    return dict(zip(heads[1::2], heads[2::2], strict=True))


def test_the_page_lists_every_finding_with_its_reason():
    found = parts(PAGE.read_text(encoding="utf-8"))
    for subject, asks in SUBJECTS.items():
        rows = re.findall(r"^\|.*\| `(\w+)` \|$", found[subject], re.MULTILINE)
        assert rows == [ask.__name__ for ask in asks]
        for ask in asks:
            assert f"- `{ask.__name__}`: {reason(ask)}\n" in found[subject]
    assert list(found) == [*SUBJECTS, "Not in the tables"]


def test_the_text_around_the_tables_is_the_scripts():
    """The page with its numbers taken out is what the script makes of findings without numbers."""
    empty = {name: Finding("", "", "", "", "", "", "") for name in FINDINGS}
    written = render(empty, date(2000, 1, 1), "")

    def around(text):
        return [line for line in text.splitlines() if not line.startswith(("| ", "Run on "))]

    assert around(PAGE.read_text(encoding="utf-8")) == around(written)


@pytest.mark.parametrize(
    ("value", "right", "shown"),
    [
        (1.0, True, "1.00"),
        (1.004, True, "1.00"),
        (-1.0, False, "\u22121.00"),
        ("raises KeyError", False, "raises KeyError"),
    ],
)
def test_an_answer_is_right_within_the_tolerance(value, right, shown):
    found = Finding("How much?", "Peer", "3.1", value, "truth", 1.0, 1.0, tolerance=0.01, places=2)
    assert found.right(value) is right
    assert found.shown(value) == shown
    assert f"Peer 3.1: **{shown}**" in row("how_much", found)
    assert ("(mended in 3.1)" in row("how_much", found)) is right


def test_an_error_is_an_answer():
    def ask():
        raise KeyError("tie")

    assert attempt(ask) == "raises KeyError"
    assert attempt(lambda: 3) == 3
