"""METEOR and SPICE, which exist as Java programs only: those that the package pycocoevalcap brings, where they can run.

METEOR's program is talked to here: pycocoevalcap's own wrapper waits for ever where it fails. SPICE goes through the
wrapper.
"""

import contextlib
import importlib
import logging
import math
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Self, final

_log = logging.getLogger(__name__)

_METEOR = "meteor/meteor-1.5.jar"
_METEOR_OPTIONS = ("-", "-", "-stdio", "-l", "en", "-norm")
# Two more jars of 380 MB, which SPICE's wrapper would fetch when it is first used; that is the user's to do, not ours.
_SPICE = ("spice/spice-1.0.jar", "spice/lib/stanford-corenlp-3.6.0.jar", "spice/lib/stanford-corenlp-3.6.0-models.jar")

# What comes of a Java program that fails, in pycocoevalcap's hands too.
_FAILURES = (OSError, RuntimeError, ValueError, LookupError, ArithmeticError, subprocess.SubprocessError)

Texts = Mapping[int, Sequence[str]]


def java_scores(hypotheses: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> dict[str, float]:
    """Returns METEOR and SPICE, each in 0..1, or only what can be computed here; a warning says what is left out.

    Args:
        hypotheses: The tokens of one caption a picture.
        references: The tokens of the right captions of each picture, at least one each.
    """
    found = {index: [" ".join(tokens)] for index, tokens in enumerate(hypotheses)}
    right = {index: [" ".join(tokens) for tokens in one] for index, one in enumerate(references)}
    scores = {}
    for name, score in (("METEOR", _meteor), ("SPICE", _spice)):
        reason = _missing(name)
        if reason is None:
            try:
                scores[name] = score(found, right)
                continue
            except _FAILURES as error:
                reason = f"its Java program failed: {error}"
        _log.warning("%s is left out: %s", name, reason)
    return scores


def _missing(name: str) -> str | None:
    """Returns why a score cannot be computed here, or None."""
    if shutil.which("java") is None:
        return "expected Java (a command java), found none"
    places = _places()
    if not places:
        return "expected the package pycocoevalcap, which is not installed: pip install pycocoevalcap"
    wanted = (_METEOR,) if name == "METEOR" else _SPICE
    lacking = [Path(jar).name for jar in wanted if _jar(jar) is None]
    if not lacking:
        return None
    told = f"expected {' and '.join(lacking)} in the package pycocoevalcap ({places[0]}), found none"
    if name == "METEOR":
        return f"{told}: install it again"
    return f"{told}: `python -m pycocoevalcap.spice.get_stanford_models` fetches SPICE's language models once"


def _places() -> list[Path]:
    """Returns the folders of the package; none where it is not installed."""
    try:
        return [Path(place) for place in importlib.import_module("pycocoevalcap").__path__]
    except ImportError:
        return []


def _jar(name: str) -> Path | None:
    return next((place / name for place in _places() if (place / name).is_file()), None)


def _meteor(found: Texts, right: Texts) -> float:
    """Returns METEOR 1.5 of all captions.

    Its program takes a caption and its references a line, answers with numbers, and makes the score of all of these at
    the end: a line for each caption, then that of the whole.

    Raises:
        RuntimeError: When the program ends early, with the last that it said.
    """
    jar = _jar(_METEOR)
    assert jar is not None  # as `_missing` has seen
    command = ["java", "-jar", "-Xmx2G", jar.name, *_METEOR_OPTIONS]
    with tempfile.TemporaryFile() as complaints, _Program(command, jar.parent, complaints) as program:
        numbers = []
        for index, texts in found.items():
            # Bars divide the texts of a line.
            parts = [text.replace("|||", "").replace("  ", " ") for text in (*right[index], *texts)]
            program.tell(" ||| ".join(("SCORE", *parts)))
            numbers.append(program.answer())
        program.tell(" ||| ".join(("EVAL", *numbers)))
        scores = [float(program.answer()) for _ in (*numbers, "the whole")]
    return scores[-1]


def _spice(found: Texts, right: Texts) -> float:
    """Returns the mean of SPICE; its wrapper writes beside the package.

    Raises:
        RuntimeError: When there is no number for one of the captions.
    """
    score = float(importlib.import_module("pycocoevalcap.spice.spice").Spice().compute_score(right, found)[0])
    if not math.isfinite(score):
        raise RuntimeError("it gave no number for one of the captions")
    return score


@final
class _Program:
    """A program that is told lines and answers with lines; it ends with the block; `complaints` takes its errors."""

    def __init__(self, command: Sequence[str], folder: Path, complaints: IO[bytes]):
        self._complaints = complaints
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        with contextlib.suppress(OSError):  # what it did not read is lost
            self._process.communicate()

    def tell(self, line: str) -> None:
        """Writes a line."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()
        except OSError as error:
            raise self._ended() from error

    def answer(self) -> str:
        """Returns the next line."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline().decode("utf-8", "replace").strip()
        if not line:
            raise self._ended()
        return line

    def _ended(self) -> RuntimeError:
        """Returns what it said last, as the reason why it said no more."""
        self._process.kill()
        self._process.wait()
        self._complaints.seek(0)
        said = self._complaints.read().decode("utf-8", "replace").strip().splitlines()
        return RuntimeError(said[-1] if said else f"it ended with exit code {self._process.returncode}")
